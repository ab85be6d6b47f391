"""The plan catalogue: the shipped figures, literally; a faulty file is refused by name and rule, and in bounds."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.capabilities.tenants.service.plans import load_plans
from tenantry.foundation.errors import Invalid, NotFound

QUOTAS = ("maxUsers", "maxProjects", "maxTokensPerMonth", "maxStorageGB", "maxConcurrentAgents")
SHIPPED: dict[str, dict[str, Any]] = {
    "free": {
        "name": "Free",
        "price": 0,
        "quotas": (1, 3, 100_000, 1, 2),
        "features": ["basic_orchestration"],
        "rates": (100, 10),
        "isolation": "row_level",
    },
    "starter": {
        "name": "Starter",
        "price": 29,
        "quotas": (5, 10, 1_000_000, 10, 5),
        "features": ["basic_orchestration", "custom_skills", "priority_support"],
        "rates": (500, 50),
        "isolation": "row_level",
    },
    "professional": {
        "name": "Professional",
        "price": 99,
        "quotas": (25, 50, 5_000_000, 100, 15),
        "features": ["basic_orchestration", "custom_skills", "custom_agents", "compliance_tools", "priority_support"],
        "rates": (2000, 200),
        "isolation": "row_level",
    },
    "enterprise": {
        "name": "Enterprise",
        "price": "custom",
        "quotas": ("unlimited", "unlimited", "unlimited", "unlimited", 50),
        "features": ["all", "sso", "dedicated_support", "sla", "audit_logs", "compliance_dashboards"],
        "rates": (10_000, 1000),
        "isolation": "schema_level",
    },
}


def plan(**changes: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "name": "Own",
        "price": 5,
        "quotas": dict.fromkeys(QUOTAS, 1),
        "features": [],
        "rate_limits": {"api_requests": {"maxRequests": 1, "windowMs": 1}},
    }
    return own | changes


def refused(tmp_path: Path, content: str | bytes) -> str:
    file = tmp_path / "own-plans.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Invalid) as error:
        load_plans(file)
    assert error.value.code == "plans_invalid"
    assert error.value.fields["field"] == "plans_file"
    assert error.value.message.startswith(f"{file}: ")
    assert len(error.value.message) < 4000
    return error.value.message


def test_the_shipped_plans_in_their_order() -> None:
    assert [slug for slug, _ in load_plans().items()] == [*SHIPPED]


@pytest.mark.parametrize("slug", SHIPPED)
def test_the_shipped_figures(slug: str) -> None:
    shipped, expected = load_plans().get(slug), SHIPPED[slug]
    assert (shipped.name, shipped.price) == (expected["name"], expected["price"])
    assert shipped.quotas == dict(zip(QUOTAS, expected["quotas"], strict=True))
    assert shipped.features == expected["features"]
    assert {name: (limit.max_requests, limit.window_ms) for name, limit in shipped.rate_limits.items()} == {
        "api_requests": (expected["rates"][0], 60_000),
        "agent_spawns": (expected["rates"][1], 60_000),
    }
    assert shipped.isolation == expected["isolation"]


def test_an_operators_file_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text(yaml.safe_dump({"plans": {"own": plan()}}))
    plans = load_plans(file)
    assert [slug for slug, _ in plans.items()] == ["own"]
    with pytest.raises(NotFound):
        plans.get("free")
    with pytest.raises(Invalid) as unknown:
        plans.require("free")
    assert (unknown.value.code, unknown.value.fields["known"]) == ("plan_unknown", ["own"])


@pytest.mark.parametrize("missing", ["name", "price", "quotas", "features", "rate_limits"])
def test_a_missing_key_is_named_with_its_plan(missing: str, tmp_path: Path) -> None:
    entry = plan()
    del entry[missing]
    assert f"plans.own.{missing}: " in refused(tmp_path, yaml.safe_dump({"plans": {"own": entry}}))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": 5}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"price": "free"}, "price"),
        ({"price": True}, "price"),
        ({"price": -1}, "price"),
        ({"price": float("nan")}, "price"),
        ({"price": float("inf")}, "price"),
        ({"quotas": [1]}, "quotas"),
        ({"quotas": {"maxUsers": -1}}, "quotas.maxUsers"),
        ({"quotas": {"maxUsers": "5"}}, "quotas.maxUsers"),
        ({"quotas": {"maxUsers": 1.5}}, "quotas.maxUsers"),
        ({"quotas": {"maxCats": 1}}, "quotas.maxCats"),
        ({"features": "all"}, "features"),
        ({"features": [1]}, "features.0"),
        ({"rate_limits": {"api_requests": 5}}, "rate_limits.api_requests"),
        ({"rate_limits": {"api_requests": {"maxRequests": 0, "windowMs": 1}}}, "rate_limits.api_requests.maxRequests"),
        ({"rate_limits": {"api_requests": {"maxRequests": 1}}}, "rate_limits.api_requests.windowMs"),
        ({"rate_limits": {"API": {"maxRequests": 1, "windowMs": 1}}}, "rate_limits.API"),
        ({"isolation": "none"}, "isolation"),
        ({"discount": 5}, "discount"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_its_plan(change: dict[str, Any], place: str, tmp_path: Path) -> None:
    assert f"plans.own.{place}" in refused(tmp_path, yaml.safe_dump({"plans": {"own": plan(**change)}}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plans",
        b"[]",
        b"{}",
        b"plans:",
        b"plans: []",
        b"plans: {own: 5}",
        b"plans: {own: }",
        b"plans: {5: {}}",
        b"plans: {}\nmore: 1\n",
        b"plans: {",
        b"\tplans: {}",
        b"\xff\xfe",
        b"plans: \x00",
        b"plans: 2026-13-45",
        b"--- {}\n--- {}\n",
        b"plans: *nowhere",
        b"plans: &p {own: *p}",
        b"? [a]\n: 1\n",
    ],
)
def test_what_is_no_catalogue_is_refused_by_the_name_of_the_file(content: bytes, tmp_path: Path) -> None:
    refused(tmp_path, content)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(Invalid, match=str(path)) as error:
            load_plans(path)
        assert error.value.code == "plans_invalid"


def test_a_tag_of_python_makes_no_object(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    refused(tmp_path, f"plans: !!python/object/apply:os.mkdir ['{mark}']")
    assert not mark.exists()


@pytest.mark.parametrize("place", ["plans: *a20", "plans: {own: *a20}", "plans: {own: {features: *a20}}", "more: *a20"])
@pytest.mark.timeout(20)
def test_aliases_that_mean_gigabytes_are_refused_at_once(place: str, tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{step}: &a{step} [{', '.join([f'*a{step - 1}'] * 9)}]" for step in range(1, 21)]
    refused(tmp_path, "\n".join([*lines, place]))


def test_two_thousand_levels_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "[" * 2000 + "]" * 2000)
