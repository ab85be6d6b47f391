"""Declared tenants in a running server: applied, or only checked; told by file and line; nobody's emergency undone."""

import os
import signal
import stat
from typing import Any

import pytest
from tests.conftest import MakeTenant
from tests.integration.declared.conftest import Declared, eventually, slug

pytestmark = pytest.mark.xdist_group("declared")


def audit(declared: Declared, name: str, action: str) -> list[dict[str, Any]]:
    """Events of a tenant, asked by its owner."""
    client = declared.installation.client(declared.key(name))
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = client.get("/audit", params={"action": action}).json()["items"]
        return bool(found)

    eventually(there, f"no {action} in the trail of {name}")
    return found


def made(declared: Declared, **fields: Any) -> str:
    """Declare a tenant and have it made."""
    name = slug()
    declared.write(name, **fields)
    changed, skipped = declared.reloaded(name)
    # The server looks by itself, too: it may have been first.
    assert not skipped, skipped
    assert [each["action"] for each in changed] in (["create"], [])
    assert declared.get(name).status_code == 200
    return name


def test_a_tenant_declared_before_the_start_is_there_and_its_owner_comes_in(applying: Declared) -> None:
    eventually(lambda: applying.get("at-start").status_code == 200, "at-start was not made")
    tenant = applying.get("at-start").json()
    assert (tenant["plan"], tenant["region"], tenant["status"]) == ("free", "eu", "active")
    folder = applying.installation.home / "bootstrap-keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "at-start.key").stat().st_mode) == 0o600
    me = applying.installation.client(applying.key("at-start")).get("/me").json()
    assert me["tenant"]["slug"] == "at-start"


def test_a_declared_change_names_its_file_in_the_trail(applying: Declared) -> None:
    name = made(applying)
    [event] = audit(applying, name, "tenant.created")
    assert event["actor"] == {"type": "system", "id": "tenantry", "chain": [f"tenants/{name}.yaml"]}
    applying.write(name, name="Another")
    applying.reload()
    [event] = audit(applying, name, "tenant.updated")
    assert event["actor"]["chain"] == [f"tenants/{name}.yaml"]
    assert event["details"]["fields"] == ["name"]


def test_a_changed_file_is_applied_by_itself(applying: Declared) -> None:
    name = slug()
    applying.write(name)
    eventually(lambda: applying.get(name).status_code == 200, "a new file was not applied")
    applying.write(name, limits={"max_qps": 7}, slo_overlay={"latency_p95_ms": 100.0}, compliance={"soc2": True})
    eventually(lambda: applying.get(name).json()["limits"] == {"max_qps": 7}, "a changed file was not applied")
    tenant = applying.get(name).json()
    assert (tenant["slo_overlay"], tenant["compliance"]) == ({"latency_p95_ms": 100.0}, {"soc2": True})


def test_applying_again_changes_nothing(applying: Declared) -> None:
    name = made(
        applying, metadata={"a": 1}, settings={"default_model": "m"}, quotas={"maxUsers": 9}, billing={"c": "x"}
    )
    before = applying.get(name).json()
    assert applying.reloaded(name) == ([], [])
    assert applying.get(name).json() == before


def test_an_invalid_file_is_told_by_line_and_the_others_load(applying: Declared) -> None:
    good, bad = slug(), slug()
    applying.write(good)
    applying.write_text(f"{bad}.yaml", f"slug: {bad}\nname: B\nplan: free\nregion: us\nowner:\n  email: x\n  name: B\n")
    found = applying.reload()
    skipped = [each for each in found["skipped"] if each["file"] == f"{bad}.yaml"]
    assert [(each["line"], each["field"]) for each in skipped] == [(6, "owner.email")]
    assert applying.get(good).status_code == 200
    assert applying.get(bad).status_code == 404


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"plan": "gold"}, "plan", "not in the catalogue"),
        ({"region": "mars"}, "region", "not a region here"),
        ({"slo_overlay": {"latency_p95_ms": -1}}, "slo_overlay.latency_p95_ms", ""),
        ({"slo_overlay": {"made_up": 1}}, "slo_overlay.made_up", ""),
        ({"label_overlay": {"env": {"type": "continuous"}}}, "label_overlay.env", ""),
    ],
    ids=str,
)
def test_what_only_the_installation_knows_is_checked_too(
    fields: dict[str, Any], field: str, rule: str, applying: Declared, checking: Declared
) -> None:
    for declared in (applying, checking):
        name = slug()
        file = declared.write(name, **fields)
        changed, skipped = declared.reloaded(name)
        file.unlink()
        assert changed == []
        assert rule in skipped[0]["rule"]
        assert skipped[0]["field"].startswith(field)
        assert skipped[0]["line"] > 1
        assert declared.get(name).status_code == 404


def test_what_is_changed_by_hand_comes_back_at_the_next_reload_only_where_it_is_declared(applying: Declared) -> None:
    name = made(applying, metadata={"tier": 1})
    changes = {"metadata": {"tier": 2}, "contacts": {"security": "s@x.example"}}
    assert applying.installation.platform.patch(f"/tenants/{name}", json=changes).status_code == 200
    [change], _ = applying.reloaded(name)
    assert (change["action"], change["fields"], change["applied"]) == ("update", ["metadata.tier"], True)
    tenant = applying.get(name).json()
    assert (tenant["metadata"], tenant["contacts"]) == ({"tier": 1}, {"security": "s@x.example"})


def test_a_hang_up_signal_reloads(applying: Declared) -> None:
    name = made(applying, metadata={"tier": 1})
    assert applying.installation.platform.patch(f"/tenants/{name}", json={"metadata": {}}).status_code == 200
    applying.installation.process.send_signal(signal.SIGHUP)
    eventually(lambda: applying.get(name).json()["metadata"] == {"tier": 1}, "SIGHUP reloaded nothing")
    assert applying.installation.process.poll() is None


def test_region_and_isolation_stay_and_the_remedy_is_told(applying: Declared) -> None:
    name = made(applying)
    for changes, option in (
        ({"region": "eu"}, "--region eu"),
        ({"isolation": "schema_level"}, "--isolation schema_le"),
    ):
        applying.write(name, name="Moved", **changes)
        changed, [fault] = applying.reloaded(name)
        assert changed == []
        assert f"`tenantry tenant move {name} {option}" in fault["rule"]
        assert fault["line"] > 1
    tenant = applying.get(name).json()
    assert (tenant["region"], tenant["isolation"], tenant["name"]) == ("us", "row_level", name)


def test_a_declared_suspension_closes_the_tenant_and_ends_as_declared(applying: Declared) -> None:
    name = made(applying, status="active")
    owner = applying.installation.client(applying.key(name))
    assert owner.get("/me").status_code == 200
    applying.write(name, status="suspended")
    applying.reload()
    assert owner.get("/workspaces").status_code == 403
    tenant = applying.get(name).json()
    assert (tenant["status"], tenant["status_reason"]) == ("suspended", f"declared suspended in {name}.yaml")
    assert applying.reloaded(name) == ([], [])
    applying.write(name, status="active")
    applying.reload()
    assert applying.get(name).json()["status"] == "active"
    assert owner.get("/workspaces").status_code == 200


def test_a_tenant_may_be_born_suspended(applying: Declared) -> None:
    name = made(applying, status="suspended")
    eventually(lambda: applying.get(name).json()["status"] == "suspended", "it was left open")


def test_no_file_ends_a_suspension_that_somebody_made(applying: Declared) -> None:
    name = made(applying, status="active")
    client = applying.installation.platform
    assert client.post(f"/tenants/{name}/suspend", json={"reason": "key leaked"}).status_code == 200
    applying.write(name, status="active", name="New name")
    changed, [fault] = applying.reloaded(name)
    assert changed == []
    assert fault["field"] == "status"
    assert f"`tenantry tenant resume {name}`" in fault["rule"]
    tenant = applying.get(name).json()
    assert (tenant["status"], tenant["status_reason"]) == ("suspended", "key leaked")


def test_no_file_deletes_and_none_brings_back(applying: Declared) -> None:
    name = made(applying)
    (applying.folder / f"{name}.yaml").unlink()
    applying.reload()
    assert applying.get(name).json()["status"] == "active"
    assert applying.installation.platform.delete(f"/tenants/{name}").status_code == 200
    applying.write(name)
    changed, [fault] = applying.reloaded(name)
    assert changed == []
    assert f"`tenantry tenant restore {name}`" in fault["rule"]
    assert applying.get(name).json()["status"] == "deleted"


def test_a_plan_brings_its_quotas_and_the_files_own_stay(applying: Declared) -> None:
    name = made(applying, quotas={"maxUsers": 3})
    applying.write(name, plan="starter", quotas={"maxUsers": 3})
    applying.reload()
    quotas = applying.get(name).json()["quotas"]
    assert (quotas["maxUsers"], quotas["maxProjects"]) == (3, 10)


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_server_that_applies_trusts_no_file_that_others_may_write(mode: int, applying: Declared) -> None:
    name = slug()
    applying.write(name).chmod(mode)
    changed, [fault] = applying.reloaded(name)
    assert changed == []
    assert "chmod go-w" in fault["rule"]
    assert applying.get(name).status_code == 404
    (applying.folder / f"{name}.yaml").unlink()


def test_a_link_out_of_the_directory_is_not_followed(applying: Declared) -> None:
    name = slug()
    target = applying.write(name).rename(applying.installation.home / f"{name}.yaml")
    os.symlink(target, applying.folder / f"{name}.yaml")
    changed, [fault] = applying.reloaded(name)
    assert changed == []
    assert "leads out of the directory" in fault["rule"]
    (applying.folder / f"{name}.yaml").unlink()


def test_a_server_that_checks_changes_nothing_and_says_what_differs(
    checking: Declared, make_tenant: MakeTenant
) -> None:
    there, absent = make_tenant(plan="free"), slug()
    files = [checking.write(there.slug, metadata={"a": 1}, name="Other"), checking.write(absent)]
    found = checking.reload()
    for file in files:
        file.unlink()
    assert found["mode"] == "check"
    changed = {each["tenant"]: each for each in found["changed"]}
    assert not any(each["applied"] for each in changed.values())
    assert changed[absent]["action"] == "create"
    assert (changed[there.slug]["action"], set(changed[there.slug]["fields"])) >= ("update", {"name", "metadata.a"})
    assert checking.get(absent).status_code == 404
    assert checking.get(there.slug).json()["metadata"] == {}


def test_only_the_operator_reloads_and_it_is_recorded(checking: Declared, make_tenant: MakeTenant) -> None:
    assert make_tenant().owner.post("/platform/tenants/reload").status_code == 403
    checking.reload()
    client = checking.installation.platform

    def recorded() -> bool:
        answer = client.get("/audit", params={"action": "platform.tenants_reloaded", "tenant": "platform"})
        return answer.status_code == 200 and bool(answer.json()["items"])

    eventually(recorded, "the reload is not in the platform's trail")
