"""The catalogues as shipped, and what plan, tenant and workspace may lay over them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.capabilities.tenants.service import OverlayCatalogue, load_catalogue, load_plans
from tenantry.capabilities.tenants.service.catalogues import MAX_LABELS, check_labels
from tenantry.capabilities.tenants.types import OverlayKind
from tenantry.foundation.errors import Invalid
from tenantry.kit.overlays import thaw

SLOS, LABELS = OverlayKind.SLOS, OverlayKind.LABELS
SHIPPED_SLOS = {
    "latency_p95_ms": 500.0,
    "latency_p99_ms": 1000.0,
    "error_rate_max": 0.05,
    "saturation": {"max_cpu_percent": 90.0, "max_mem_percent": 85.0, "max_qps": None},
}
SHIPPED_LABELS = {
    "env": {"type": "categorical", "values": ["dev", "staging", "prod"]},
    "region": {"type": "categorical", "values": ["us-east-1", "us-west-2", "eu-west-1"]},
    "version": {"type": "categorical"},
    "experiment_id": {"type": "categorical"},
    "confidence": {"type": "continuous"},
}
# An enterprise tenant, as the documentation shows it.
ACME_SLOS = {"latency_p95_ms": 100.0}
ACME_LABELS = {
    "business_unit": {"type": "categorical", "values": ["sales", "engineering", "finance", "operations"]},
    "priority": {"type": "categorical", "values": ["critical", "high", "medium", "low"]},
}


@pytest.fixture(scope="module")
def catalogue() -> OverlayCatalogue:
    return load_catalogue(plans=load_plans())


def values(catalogue: OverlayCatalogue, kind: OverlayKind, tenant: Any, workspace: Any = None) -> Any:
    return thaw(catalogue.effective(kind, plan="free", tenant=tenant, workspace=workspace).overlaid.values)


def faults(catalogue: OverlayCatalogue, kind: OverlayKind, overlay: Any, tenant: Any = None) -> set[tuple[str, str]]:
    with pytest.raises(Invalid) as error:
        catalogue.require(kind, overlay, plan="free", tenant=tenant)
    assert error.value.code == "overlay_invalid"
    told: Any = error.value.fields["errors"]
    assert error.value.message.startswith(f"{told[0]['field']}: ")
    return {(each["field"], each["rule"]) for each in told}


@pytest.mark.parametrize("plan", ["free", "starter", "professional", "enterprise", "no-longer-there"])
def test_the_shipped_values(catalogue: OverlayCatalogue, plan: str) -> None:
    slos = catalogue.effective(SLOS, plan=plan, tenant={})
    labels = catalogue.effective(LABELS, plan=plan, tenant={})
    assert thaw(slos.overlaid.values) == SHIPPED_SLOS
    assert thaw(labels.overlaid.values) == SHIPPED_LABELS
    assert set(slos.overlaid.layers.values()) == set(labels.overlaid.layers.values()) == {"platform"}


def test_the_example_tenant(catalogue: OverlayCatalogue) -> None:
    catalogue.require(SLOS, ACME_SLOS, plan="enterprise")
    catalogue.require(LABELS, ACME_LABELS, plan="enterprise")
    slos = catalogue.effective(SLOS, plan="enterprise", tenant=ACME_SLOS)
    assert slos.overlaid.get("latency_p95_ms") == 100.0
    assert slos.overlaid.get("latency_p99_ms") == 1000.0
    assert slos.overlaid.layers["latency_p95_ms"] == "tenant"
    labels = catalogue.effective(LABELS, plan="enterprise", tenant=ACME_LABELS)
    assert check_labels({"priority": "critical", "env": "prod", "confidence": 0.5}, labels) == []
    assert [each.rule for each in check_labels({"priority": "invalid"}, labels)] == ["value"]


def test_the_workspace_lies_over_the_tenant_and_says_so(catalogue: OverlayCatalogue) -> None:
    found = catalogue.effective(
        SLOS,
        plan="free",
        tenant={"saturation": {"max_qps": 50, "max_cpu_percent": 70}},
        workspace={"saturation": {"max_qps": None}},
    )
    assert thaw(found.overlaid.values["saturation"]) == {
        "max_cpu_percent": 70,
        "max_mem_percent": 85.0,
        "max_qps": None,
    }
    assert {path: layer for path, layer in found.overlaid.layers.items() if path.startswith("saturation.")} == {
        "saturation.max_qps": "workspace",
        "saturation.max_cpu_percent": "tenant",
        "saturation.max_mem_percent": "platform",
    }


@pytest.mark.parametrize(
    ("overlay", "fault"),
    [
        ({"latency_p50_ms": 1}, ("overlay.latency_p50_ms", "unknown")),
        ({"saturation.max_qps": 1}, ("overlay.saturation.max_qps", "unknown")),
        ({"saturation": {"max_disk_percent": 1}}, ("overlay.saturation.max_disk_percent", "unknown")),
        ({"saturation": None}, ("overlay.saturation", "type")),
        ({"saturation": 5}, ("overlay.saturation", "type")),
        ({"latency_p95_ms": {"max": 1}}, ("overlay.latency_p95_ms", "type")),
        ({"latency_p95_ms": "100"}, ("overlay.latency_p95_ms", "type")),
        ({"latency_p95_ms": True}, ("overlay.latency_p95_ms", "type")),
        ({"latency_p95_ms": [1]}, ("overlay.latency_p95_ms", "type")),
        ({"latency_p95_ms": -0.1}, ("overlay.latency_p95_ms", "minimum")),
        ({"latency_p95_ms": float("-inf")}, ("overlay.latency_p95_ms", "minimum")),
        ({"latency_p95_ms": float("nan")}, ("overlay.latency_p95_ms", "finite")),
        ({"latency_p95_ms": float("inf")}, ("overlay.latency_p95_ms", "maximum")),
        ({"latency_p95_ms": 10**400}, ("overlay.latency_p95_ms", "maximum")),
        ({"error_rate_max": 1.01}, ("overlay.error_rate_max", "maximum")),
        ({"saturation": {"max_cpu_percent": 100.1}}, ("overlay.saturation.max_cpu_percent", "maximum")),
    ],
    ids=str,
)
def test_an_slo_that_breaks_a_rule_is_refused_by_field_and_rule(
    catalogue: OverlayCatalogue, overlay: Any, fault: tuple[str, str]
) -> None:
    assert faults(catalogue, SLOS, overlay) == {fault}


@pytest.mark.parametrize("value", [0, 0.0, 1, 100, 1e15, None])
def test_numbers_from_zero_and_no_limit_are_slos(catalogue: OverlayCatalogue, value: float | None) -> None:
    catalogue.require(SLOS, {"latency_p95_ms": value}, plan="free")
    assert values(catalogue, SLOS, {"latency_p95_ms": value})["latency_p95_ms"] == value


def test_all_faults_are_told_at_once_and_no_more_than_twenty(catalogue: OverlayCatalogue) -> None:
    assert len(faults(catalogue, SLOS, {"x": 1, "y": 1, "latency_p95_ms": -1})) == 3
    assert len(faults(catalogue, SLOS, {f"x{n}": 1 for n in range(500)})) == 20


@pytest.mark.parametrize(
    ("entry", "field", "rule"),
    [
        ({"type": "ordinal"}, "mine.type", "literal_error"),
        ({}, "mine.type", "missing"),
        ("categorical", "mine", "model_type"),
        (None, "mine", "model_type"),
        ({"type": "categorical", "values": []}, "mine.values", "too_short"),
        ({"type": "categorical", "values": ["a", "a"]}, "mine", "value_error"),
        ({"type": "categorical", "values": [1]}, "mine.values.0", "string_type"),
        ({"type": "categorical", "values": ["a\n"]}, "mine.values.0", "value_error"),
        ({"type": "categorical", "values": "abc"}, "mine.values", "tuple_type"),
        ({"type": "continuous", "values": ["a"]}, "mine", "value_error"),
        ({"type": "continuous", "min": 0}, "mine.min", "extra_forbidden"),
    ],
    ids=str,
)
def test_a_label_that_breaks_a_rule_is_refused(catalogue: OverlayCatalogue, entry: Any, field: str, rule: str) -> None:
    assert (f"overlay.{field}", rule) in faults(catalogue, LABELS, {"mine": entry})


@pytest.mark.parametrize("name", ["", "Env", "a.b", "1a", "a b", "x" * 64, "é"])
def test_a_label_name_that_breaks_the_rule_is_refused(catalogue: OverlayCatalogue, name: str) -> None:
    [(_, rule)] = faults(catalogue, LABELS, {name: {"type": "continuous"}})
    assert rule == "name"


def test_a_layer_defines_a_bounded_number_of_labels(catalogue: OverlayCatalogue) -> None:
    many = {f"l{n}": {"type": "continuous"} for n in range(MAX_LABELS)}
    catalogue.require(LABELS, many, plan="free")
    assert faults(catalogue, LABELS, many | {"more": {"type": "continuous"}}) == {("overlay.more", "max_labels")}


def test_a_lower_layer_extends_the_values_of_a_label_and_removes_none(catalogue: OverlayCatalogue) -> None:
    tenant = {"env": {"type": "categorical", "values": ["qa", "dev"]}}
    workspace = {"env": {"type": "categorical", "values": ["canary"]}}
    assert values(catalogue, LABELS, tenant)["env"]["values"] == ["dev", "staging", "prod", "qa"]
    assert values(catalogue, LABELS, tenant, workspace)["env"]["values"] == ["dev", "staging", "prod", "qa", "canary"]
    found = catalogue.effective(LABELS, plan="free", tenant=tenant, workspace=workspace)
    assert (found.overlaid.layers["env.type"], found.overlaid.layers["env.values"]) == ("platform", "workspace")
    opened = values(catalogue, LABELS, {"env": {"type": "categorical"}})
    assert opened["env"]["values"] == ["dev", "staging", "prod"]


@pytest.mark.parametrize(
    ("overlay", "tenant", "fault"),
    [
        ({"env": {"type": "continuous"}}, None, ("overlay.env.type", "type_fixed")),
        ({"confidence": {"type": "categorical"}}, None, ("overlay.confidence.type", "type_fixed")),
        ({"version": {"type": "categorical", "values": ["1"]}}, None, ("overlay.version.values", "values_open")),
        ({"priority": {"type": "continuous"}}, ACME_LABELS, ("overlay.priority.type", "type_fixed")),
    ],
)
def test_no_layer_changes_a_type_or_narrows_a_label(
    catalogue: OverlayCatalogue, overlay: Any, tenant: Any, fault: tuple[str, str]
) -> None:
    assert faults(catalogue, LABELS, overlay, tenant) == {fault}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("colour", "red", "unknown"),
        ("type", "categorical", "unknown"),
        ("__class__", "x", "unknown"),
        ("env", "production", "value"),
        ("env", "DEV", "value"),
        ("env", ["dev"], "type"),
        ("env", None, "type"),
        ("version", 1, "type"),
        ("version", "v" * 1001, "max_length"),
        ("confidence", "0.9", "type"),
        ("confidence", True, "type"),
        ("confidence", None, "type"),
        ("confidence", float("nan"), "type"),
        ("confidence", float("inf"), "type"),
        ("confidence", -(10**400), "type"),
    ],
    ids=str,
)
def test_a_label_value_outside_the_catalogue_is_refused(
    catalogue: OverlayCatalogue, name: str, value: Any, rule: str
) -> None:
    found = check_labels({name: value, "env": "dev"} if name != "env" else {name: value}, _held(catalogue))
    assert [(each.field, each.rule) for each in found] == [(name, rule)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("env", "dev"), ("version", ""), ("version", "anything at all\n"), ("confidence", -3), ("confidence", 1e308)],
)
def test_a_label_value_of_the_catalogue_is_accepted(catalogue: OverlayCatalogue, name: str, value: Any) -> None:
    assert check_labels({name: value}, _held(catalogue)) == []


def _held(catalogue: OverlayCatalogue) -> Any:
    return catalogue.effective(LABELS, plan="free", tenant={})


def test_one_tenants_layer_is_in_no_others_result(catalogue: OverlayCatalogue) -> None:
    values(catalogue, LABELS, ACME_LABELS | {"env": {"type": "categorical", "values": ["secret-stage"]}})
    values(catalogue, SLOS, {"saturation": {"max_qps": 7}})
    assert values(catalogue, LABELS, {}) == SHIPPED_LABELS
    assert values(catalogue, SLOS, {}) == SHIPPED_SLOS


def test_what_no_longer_fits_counts_for_nothing_and_is_named(catalogue: OverlayCatalogue) -> None:
    slos = catalogue.effective(
        SLOS, plan="free", tenant={"gone": 1, "latency_p95_ms": 7, "saturation": {"max_qps": -1}}
    )
    assert thaw(slos.overlaid.values) == SHIPPED_SLOS | {"latency_p95_ms": 7}
    assert dict(slos.ignored) == {"tenant": ("gone", "saturation.max_qps")}
    labels = catalogue.effective(
        LABELS, plan="free", tenant=ACME_LABELS, workspace={"priority": {"type": "continuous"}}
    )
    assert thaw(labels.overlaid.values) == SHIPPED_LABELS | ACME_LABELS
    assert dict(labels.ignored) == {"workspace": ("priority.type",)}


# --- files of the operator -------------------------------------------------------------------------------------------


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def plans_with(tmp_path: Path, **more: Any) -> Path:
    plan = {"name": "Own", "price": 1, "quotas": {}, "features": [], "rate_limits": {}} | more
    return write(tmp_path / "plans.yaml", {"plans": {"own": plan}})


def test_a_plan_lies_between_platform_and_tenant(tmp_path: Path) -> None:
    file = plans_with(
        tmp_path, slos={"latency_p95_ms": 300, "latency_p99_ms": 600}, labels={"tier": {"type": "categorical"}}
    )
    catalogue = load_catalogue(plans=load_plans(file))
    found = catalogue.effective(SLOS, plan="own", tenant={"latency_p95_ms": 100}).overlaid
    layers = {path: found.layers[path] for path in ("latency_p95_ms", "latency_p99_ms", "error_rate_max")}
    assert layers == {"latency_p95_ms": "tenant", "latency_p99_ms": "plan", "error_rate_max": "platform"}
    assert found.get("latency_p99_ms") == 600
    assert catalogue.effective(LABELS, plan="own", tenant={}).overlaid.layers["tier.type"] == "plan"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"slos": {"latency_p95_ms": -1}}, "plans.own.slos: latency_p95_ms: must not be negative"),
        ({"slos": {"x": 1}}, "plans.own.slos: x: no such SLO"),
        ({"labels": {"env": {"type": "continuous"}}}, "plans.own.labels: env.type: is categorical"),
    ],
)
def test_a_plan_that_does_not_fit_the_catalogue_is_refused(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    plans = load_plans(plans_with(tmp_path, **more))
    with pytest.raises(Invalid, match=told) as error:
        load_catalogue(plans=plans)
    assert (error.value.code, error.value.fields["field"]) == ("plans_invalid", "plans_file")


def test_the_operators_files_replace_the_shipped_ones(tmp_path: Path) -> None:
    slos = write(tmp_path / "slos.yaml", {"slos": {"queue.wait_ms": {"unit": "milliseconds", "default": 5}}})
    labels = write(tmp_path / "labels.yaml", {"labels": {"team": {"type": "categorical", "values": ["core"]}}})
    catalogue = load_catalogue(plans=load_plans(), slos_file=slos, labels_file=labels)
    assert values(catalogue, SLOS, {}) == {"queue": {"wait_ms": 5.0}}
    assert values(catalogue, LABELS, {}) == {"team": {"type": "categorical", "values": ["core"]}}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "slos: []",
        "other: {}",
        {"slos": {"a": {"unit": "furlongs", "default": 1}}},
        {"slos": {"a": {"unit": "percent", "default": 101}}},
        {"slos": {"a": {"unit": "count", "default": -1}}},
        {"slos": {"a": {"unit": "count", "default": float("nan")}}},
        {"slos": {"a": {"unit": "count"}}},
        {"slos": {"A": {"unit": "count", "default": 1}}},
        {"slos": {"a.": {"unit": "count", "default": 1}}},
        {"slos": {name: {"unit": "count", "default": 1} for name in ("a", "a.b")}},
        "slos: &a {x: *a}",
    ],
    ids=str,
)
def test_a_faulty_slo_file_is_refused_by_name(tmp_path: Path, content: object) -> None:
    file = write(tmp_path / "own.yaml", content)
    with pytest.raises(Invalid) as error:
        load_catalogue(plans=load_plans(), slos_file=file)
    assert (error.value.code, error.value.fields["field"]) == ("slos_invalid", "slos_file")
    assert error.value.message.startswith(f"{file}: ")
    assert len(error.value.message) < 4000


@pytest.mark.parametrize(
    "content",
    ["", "labels: 5", {"labels": {"a": {"type": "ordinal"}}}, {"labels": {"A": {"type": "continuous"}}}, {"slos": {}}],
    ids=str,
)
def test_a_faulty_label_file_is_refused_by_name(tmp_path: Path, content: object) -> None:
    file = write(tmp_path / "own.yaml", content)
    with pytest.raises(Invalid) as error:
        load_catalogue(plans=load_plans(), labels_file=file)
    assert (error.value.code, error.value.fields["field"]) == ("labels_invalid", "labels_file")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nowhere"):
        load_catalogue(plans=load_plans(), slos_file=tmp_path / "nowhere.yaml")
