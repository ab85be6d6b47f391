"""Deployments: each limit by itself, with the value there would be; numbers that are none are over every limit."""

from decimal import Decimal
from typing import Any

import pytest

from tenantry.engines.rules.documents import Bundle, from_value
from tenantry.engines.rules.types import DeploymentFacts, Effect, JobFacts, Kind


def deployments(**value: Any) -> Bundle:
    return from_value(Kind.DEPLOYMENT, value)


def rules(bundle: Bundle, **facts: Any) -> list[str]:
    return [finding.rule for finding in bundle.check_deployment(DeploymentFacts(**facts)).findings]


def test_the_defaults_are_a_thousand_dollars_ten_instances_and_half_a_terabyte() -> None:
    bundle = deployments()
    assert rules(bundle, monthly_cost_usd=Decimal(1000), instances=10, disk_size_gb=500) == []
    over = rules(bundle, monthly_cost_usd=Decimal("1000.01"), instances=11, disk_size_gb=500.5)
    assert over == ["max_budget_monthly: 1000.0", "max_instances: 10", "max_disk_size_gb: 500"]
    assert (bundle.requires_approval, bundle.engine_preference) == (False, "terraform")


def test_a_violation_names_the_limit_and_the_value() -> None:
    denied = deployments(max_instances=3).check_deployment(DeploymentFacts(instances=4)).decisive
    assert denied is not None
    assert (denied.message, denied.effect) == ("There would be 4 instances, the limit is 3.", Effect.DENY)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, Decimal("NaN"), Decimal("Infinity"), Decimal(-1)])
def test_a_number_that_is_none_is_over_every_limit(value: Any) -> None:
    assert rules(deployments(), monthly_cost_usd=Decimal(value)) == ["max_budget_monthly: 1000.0"]
    assert rules(deployments(), disk_size_gb=float(value)) == ["max_disk_size_gb: 500"]


def test_cents_are_exact() -> None:
    assert rules(deployments(max_budget_monthly=0.3), monthly_cost_usd=Decimal("0.3")) == []
    assert rules(deployments(max_budget_monthly=0.3), monthly_cost_usd=Decimal("0.30000000000000001")) != []


def test_an_empty_list_of_types_restricts_nothing_and_another_each_type() -> None:
    assert rules(deployments(allowed_instance_types=[]), instance_types=("huge",)) == []
    bundle = deployments(allowed_instance_types=["t3.*", "e2-small"], allowed_resource_types=["vm"])
    assert rules(bundle, instance_types=("t3.micro", "e2-small"), resource_types=("vm", "vm")) == []
    assert rules(bundle, instance_types=("t3.micro", "m5.large"), resource_types=("db",)) == [
        "allowed_instance_types",
        "allowed_resource_types",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_budget_monthly", float("nan")),
        ("max_budget_monthly", float("inf")),
        ("max_budget_monthly", 1e308),
        ("max_budget_monthly", -0.01),
        ("max_budget_monthly", True),
        ("max_budget_monthly", "1000"),
        ("max_instances", 1.5),
        ("max_instances", -1),
        ("max_instances", None),
        ("require_approval", 0),
        ("require_approval", 1),
        ("require_approval", "yes"),
        ("iac_engine_preference", "pulumi"),
        ("iac_engine_preference", ["terraform"]),
        ("allowed_instance_types", "t3.micro"),
        ("allowed_instance_types", [1]),
        ("max_cost", 1),
    ],
)
def test_a_member_that_is_not_what_it_must_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        deployments(**{name: value})


def test_approval_and_engine_are_told_and_jobs_are_not_judged() -> None:
    bundle = deployments(require_approval=True, iac_engine_preference="tofu", max_instances=0)
    assert (bundle.requires_approval, bundle.engine_preference) == (True, "tofu")
    assert bundle.check_job(JobFacts("x", ())).findings == ()
    assert not from_value(Kind.IMAGE, {}).requires_approval
