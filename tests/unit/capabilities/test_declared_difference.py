"""What a declaration would change: what it names, as PATCH changes it, and nothing that no file may change."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.capabilities.tenants.service.declared import Action, Change, Declaration, FileFault, TenantFolder, compare
from tenantry.foundation.clock import SystemClock

PRESENT: dict[str, Any] = {
    "slug": "acme",
    "name": "Acme",
    "plan": "starter",
    "region": "us",
    "isolation": "row_level",
    "status": "active",
    "status_reason": None,
    "owner": {"email": "a@acme.example", "name": "Ada", "user_id": "u-1"},
    "settings": {"default_model": None, "persistence_mode": "metadata_only"},
    "quotas": {"maxUsers": 5, "maxProjects": 10},
    "limits": {"max_qps": 10},
    "billing": {"customer": "c-1"},
    "contacts": {},
    "metadata": {"tier": 1},
    "compliance": {},
    "slo_overlay": {"saturation": {"max_qps": 5.0, "max_cpu_percent": 80.0}},
    "label_overlay": {},
    "clock_skew_ms": 5000,
}
MINIMAL: dict[str, Any] = {
    "slug": "acme",
    "name": "Acme",
    "plan": "starter",
    "region": "us",
    "owner": {"email": "a@acme.example", "name": "Ada"},
}


def declared(folder: Path, **fields: Any) -> Declaration:
    (folder / "acme.yaml").write_text(yaml.safe_dump(MINIMAL | fields, sort_keys=False))
    loaded = TenantFolder(folder, private=False, clock=SystemClock()).load()
    assert loaded.skipped == ()
    return loaded.declared[0]


def changed(folder: Path, *, present: dict[str, Any] | None = PRESENT, **fields: Any) -> Change:
    found = compare(declared(folder, **fields), present)
    assert isinstance(found, Change)
    return found


def shown(change: Change) -> dict[str, tuple[Any, Any]]:
    return {each.field: (each.old, each.new) for each in change.fields}


def test_what_is_as_declared_changes_nothing_whatever_else_the_tenant_has(tmp_path: Path) -> None:
    change = changed(tmp_path)
    assert (change.action, change.fields, change.body) == (Action.UNCHANGED, (), {})


def test_a_tenant_that_is_not_there_is_created_with_what_the_file_names(tmp_path: Path) -> None:
    change = changed(tmp_path, present=None, limits={"max_qps": 3}, status="active")
    assert change.action is Action.CREATE
    assert change.body == MINIMAL | {"limits": {"max_qps": 3}}
    assert not change.suspends
    assert shown(change)["limits.max_qps"] == (None, 3)


def test_a_tenant_declared_suspended_is_suspended_once_it_is_made(tmp_path: Path) -> None:
    change = changed(tmp_path, present=None, status="suspended")
    assert change.suspends
    assert "status" not in change.body
    assert change.reason == "declared suspended in acme.yaml"


@pytest.mark.parametrize(
    ("fields", "body", "differences"),
    [
        ({"name": "ACME"}, {"name": "ACME"}, {"name": ("Acme", "ACME")}),
        ({"clock_skew_ms": 7}, {"clock_skew_ms": 7}, {"clock_skew_ms": (5000, 7)}),
        (
            {"settings": {"default_model": "m"}},
            {"settings": {"default_model": "m"}},
            {"settings.default_model": (None, "m")},
        ),
        ({"settings": {"persistence_mode": "metadata_only"}}, {}, {}),
        ({"settings": {"default_model": None}}, {}, {}),
        ({"quotas": {"maxUsers": 6}}, {"quotas": {"maxUsers": 6}}, {"quotas.maxUsers": (5, 6)}),
        ({"quotas": {"maxUsers": 5}}, {}, {}),
        (
            {"quotas": {"maxUsers": "unlimited"}},
            {"quotas": {"maxUsers": "unlimited"}},
            {"quotas.maxUsers": (5, "unlimited")},
        ),
        (
            {"limits": {"max_users": 1}},
            {"limits": {"max_users": 1}},
            {"limits.max_qps": (10, None), "limits.max_users": (None, 1)},
        ),
        ({"limits": {}}, {"limits": {}}, {"limits.max_qps": (10, None)}),
        ({"billing": {"customer": "c-1"}}, {}, {}),
        ({"contacts": {}}, {}, {}),
        ({"metadata": {"tier": True}}, {"metadata": {"tier": True}}, {"metadata.tier": (1, True)}),
        (
            {"slo_overlay": {"saturation": {"max_qps": 6}}},
            {"slo_overlay": {"saturation": {"max_qps": 6}}},
            {"slo_overlay.saturation.max_qps": (5.0, 6), "slo_overlay.saturation.max_cpu_percent": (80.0, None)},
        ),
        ({"slo_overlay": {"saturation": {"max_qps": 5, "max_cpu_percent": 80}}}, {}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_settings_and_quotas_are_managed_by_entry_all_else_as_a_whole(
    fields: dict[str, Any], body: dict[str, Any], differences: dict[str, Any], tmp_path: Path
) -> None:
    change = changed(tmp_path, **fields)
    assert change.body == body
    assert shown(change) == differences
    assert change.action is (Action.UPDATE if differences else Action.UNCHANGED)


def test_an_owner_keeps_what_the_file_does_not_name(tmp_path: Path) -> None:
    change = changed(tmp_path, owner={"email": "b@acme.example", "name": "Ada"})
    assert change.body == {"owner": {"email": "b@acme.example", "name": "Ada", "user_id": "u-1"}}
    assert shown(change) == {"owner.email": ("a@acme.example", "b@acme.example")}


def test_a_new_plan_says_the_files_quotas_again(tmp_path: Path) -> None:
    """PATCH gives a tenant the quotas of its new plan: those that the file names must not be lost with it."""
    change = changed(tmp_path, plan="professional", quotas={"maxUsers": 5})
    assert change.body == {"plan": "professional", "quotas": {"maxUsers": 5}}
    assert shown(change) == {"plan": ("starter", "professional")}


@pytest.mark.parametrize(
    ("fields", "present", "field", "rule"),
    [
        ({"region": "eu"}, {}, "region", "`tenantry tenant move acme --region eu`"),
        ({"isolation": "schema_level"}, {}, "isolation", "`tenantry tenant move acme --isolation schema_level`"),
        ({}, {"status": "deleted"}, "slug", "`tenantry tenant restore acme`"),
        ({"status": "active"}, {"status": "deleted"}, "slug", "is deleted"),
    ],
    ids=str,
)
def test_what_no_file_may_change_is_told_with_its_remedy_and_line(
    fields: dict[str, Any], present: dict[str, Any], field: str, rule: str, tmp_path: Path
) -> None:
    declaration = declared(tmp_path, **fields)
    fault = compare(declaration, PRESENT | present)
    assert isinstance(fault, FileFault)
    lines = (tmp_path / "acme.yaml").read_text().splitlines()
    assert (fault.field, lines[fault.line - 1].partition(":")[0]) == (field, field)
    assert rule in fault.rule


def test_status_is_managed_only_where_it_is_named(tmp_path: Path) -> None:
    suspended = PRESENT | {"status": "suspended", "status_reason": "unpaid"}
    assert changed(tmp_path, present=suspended).action is Action.UNCHANGED
    resumes = changed(tmp_path, present=suspended, status="active")
    assert (resumes.resumes, resumes.suspends, resumes.body) == (True, False, {})
    assert shown(resumes) == {"status": ("suspended", "active")}
    suspends = changed(tmp_path, status="suspended")
    assert (suspends.resumes, suspends.suspends, suspends.body) == (False, True, {})
    assert changed(tmp_path, present=suspended, status="suspended").action is Action.UNCHANGED
