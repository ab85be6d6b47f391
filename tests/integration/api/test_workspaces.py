"""Workspaces: made in the region of their tenant, changed field by field, closed and opened."""

import secrets
from typing import Any

import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import problem

pytestmark = pytest.mark.xdist_group("api")


def _post(tenant: Tenant, **fields: Any) -> Any:
    body = {"name": secrets.token_hex(4), "owner": {"type": "team", "id": "core"}, **fields}
    return tenant.owner.post("/workspaces", json=body)


def test_a_workspace_is_made_read_and_listed(acme: Tenant) -> None:
    made = _post(acme, name="Data Lab", path=f"teams/{secrets.token_hex(4)}/prod")
    assert made.status_code == 201
    workspace = made.json()
    assert (workspace["status"], workspace["region"], workspace["tenant"]) == ("active", "us", acme.id)
    assert acme.owner.get(f"/workspaces/{workspace['id']}").json() == workspace
    assert workspace in acme.owner.get("/workspaces", params={"limit": 200}).json()["items"]
    assert workspace["settings"]["max_job_timeout_seconds"] == 3600


@pytest.mark.parametrize(("owner", "folder"), [("user", "personal"), ("team", "teams"), ("ai-agent", "agents")])
def test_a_path_is_made_from_owner_and_name_and_is_its_own(owner: str, folder: str, acme: Tenant) -> None:
    name = secrets.token_hex(4)
    paths = [_post(acme, name=name, owner={"type": owner, "id": "x"}).json()["path"] for _ in range(2)]
    assert paths[0] == f"{folder}/{name}"
    assert paths[1].startswith(f"{paths[0]}-")


def test_a_path_is_taken_once_until_its_workspace_is_archived(acme: Tenant, globex: Tenant) -> None:
    path = f"teams/{secrets.token_hex(4)}"
    first = _post(acme, path=path).json()["id"]
    problem(_post(acme, path=path), 409, "path_taken")
    assert _post(globex, path=path).status_code == 201
    acme.owner.delete(f"/workspaces/{first}")
    second = _post(acme, path=path)
    assert second.status_code == 201
    problem(acme.owner.post(f"/workspaces/{first}/resume"), 409, "path_taken")
    other = _post(acme).json()["id"]
    problem(acme.owner.patch(f"/workspaces/{other}", json={"path": path}), 409, "path_taken")


@pytest.mark.parametrize("region", ["eu", "mars", "US", ""])
def test_another_region_than_the_tenants_is_refused(region: str, acme: Tenant) -> None:
    before = len(acme.owner.get("/workspaces", params={"limit": 200}).json()["items"])
    problem(_post(acme, region=region), 422, "region_fixed")
    assert len(acme.owner.get("/workspaces", params={"limit": 200}).json()["items"]) == before
    assert _post(acme, region="us").status_code == 201


@pytest.mark.parametrize("field", ["region", "tenant", "status", "version", "id", "created_at", "archived_at"])
def test_what_is_fixed_cannot_be_changed(field: str, acme: Tenant, dev: str) -> None:
    before = acme.owner.get(f"/workspaces/{dev}").json()
    problem(acme.owner.patch(f"/workspaces/{dev}", json={field: before[field]}), 422, "invalid_request")
    assert acme.owner.get(f"/workspaces/{dev}").json() == before


def test_only_the_named_settings_change(acme: Tenant) -> None:
    workspace = _post(acme, settings={"retention_days": 7, "allowed_images": ["a", "b"]}).json()
    path = f"/workspaces/{workspace['id']}"
    changed = acme.owner.patch(path, json={"settings": {"persistence_mode": "full"}}).json()["settings"]
    assert changed == workspace["settings"] | {"persistence_mode": "full"}
    answer = acme.owner.patch(path, json={"settings": {"retention_days": 9, "unknown": 1}})
    problem(answer, 422, "invalid_request")
    answer = acme.owner.patch(path, json={"settings": {"retention_days": 10**9}})
    assert problem(answer, 422, "invalid_request")["errors"][0]["field"] == "body.settings.retention_days"
    assert acme.owner.get(path).json()["settings"] == changed


def test_an_archived_workspace_is_read_only_and_can_be_opened_again(acme: Tenant) -> None:
    workspace = _post(acme).json()["id"]
    path = f"/workspaces/{workspace}"
    key = acme.key(workspace, "operator")
    archived = acme.owner.delete(path).json()
    assert (archived["status"], bool(archived["archived_at"])) == ("archived", True)
    assert acme.owner.get(path).status_code == 200
    assert acme.as_key(key).get(f"{path}/jobs").status_code == 200
    problem(acme.as_key(key).post(f"{path}/jobs", json={"command": ["true"]}), 403, "workspace_archived")
    problem(acme.owner.patch(path, json={"name": "x"}), 403, "workspace_archived")
    problem(acme.owner.post(f"{path}/keys", json={"name": "x", "roles": ["viewer"]}), 403, "workspace_archived")
    problem(acme.owner.post(f"{path}/suspend", json={"reason": "x"}), 409, "state_conflict")
    assert acme.owner.delete(path).json()["version"] == archived["version"]
    opened = acme.owner.post(f"{path}/resume").json()
    assert (opened["status"], opened["archived_at"]) == ("active", None)
    assert acme.as_key(key).post(f"{path}/jobs", json={"command": ["true"]}).status_code == 202


def test_a_suspended_workspace_takes_no_new_work_and_its_neighbour_does(acme: Tenant, dev: str) -> None:
    workspace = _post(acme).json()["id"]
    path = f"/workspaces/{workspace}"
    suspended = acme.owner.post(f"{path}/suspend", json={"reason": "audit"}).json()
    assert (suspended["status"], suspended["status_reason"]) == ("suspended", "audit")
    problem(acme.owner.post(f"{path}/jobs", json={"command": ["true"]}), 403, "workspace_suspended")
    assert acme.owner.get(f"{path}/jobs").status_code == 200
    assert acme.owner.post(f"/workspaces/{dev}/jobs", json={"command": ["true"]}).status_code == 202
    opened = acme.owner.post(f"{path}/resume").json()
    assert (opened["status"], opened["status_reason"]) == ("active", None)


def test_a_workspace_key_lists_its_workspace_only(acme: Tenant, dev: str) -> None:
    acme.workspace(secrets.token_hex(4))
    for role in ("viewer", "workspace-admin", "auditor"):
        items = acme.as_role(role, dev).get("/workspaces").json()["items"]
        assert [workspace["id"] for workspace in items] == [dev]
