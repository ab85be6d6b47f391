"""Workspaces: whose path it is, what settings take, what of a change the trail tells, which one a header picks."""

import secrets
from typing import Any

import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import own_details, problem

from tenantry.capabilities.tenants.service import place_of
from tenantry.capabilities.tenants.types import WorkspaceSettings
from tenantry.foundation.ids import new_id

pytestmark = pytest.mark.xdist_group("api")


def events(tenant: Tenant, workspace: str, action: str) -> list[dict[str, Any]]:
    answer = tenant.owner.get("/audit", params={"workspace": workspace, "action": action, "limit": 50})
    items: list[dict[str, Any]] = answer.json()["items"]
    return [own_details(item) for item in items if item["action"] == action]


OWNERS = {"personal": "user", "teams": "team", "agents": "ai-agent"}


@pytest.mark.parametrize("folder", OWNERS)
@pytest.mark.parametrize("owner", OWNERS.values())
def test_a_path_begins_as_its_owner_says(folder: str, owner: str, acme: Tenant) -> None:
    path = f"{folder}/{secrets.token_hex(4)}"
    answer = acme.owner.post("/workspaces", json={"name": "x", "path": path, "owner": {"type": owner, "id": "a"}})
    if OWNERS[folder] == owner:
        assert answer.status_code == 201
        made = f"/workspaces/{answer.json()['id']}"
        other = next(kind for kind in OWNERS.values() if kind != owner)
        problem(acme.owner.patch(made, json={"owner": {"type": other, "id": "a"}}), 422, "path_owner_mismatch")
        both = {"owner": {"type": "team", "id": "b"}, "path": f"teams/{secrets.token_hex(4)}"}
        assert acme.owner.patch(made, json=both).json()["path"] == both["path"]
    else:
        problem(answer, 422, "path_owner_mismatch")


def test_a_path_without_an_owner_says_whose_it_is(acme: Tenant) -> None:
    def owner(path: str) -> dict[str, str]:
        made: dict[str, str] = acme.owner.post("/workspaces", json={"name": "x", "path": path}).json()["owner"]
        return made

    name = secrets.token_hex(4)
    assert owner(f"teams/{name}/prod") == {"type": "team", "id": name}
    assert owner(f"agents/{name}") == {"type": "ai-agent", "id": name}
    assert owner(f"personal/{name}")["type"] == "user"


def test_no_two_workspaces_share_a_place_or_lie_in_each_others() -> None:
    ids = [new_id() for _ in range(2)]
    paths = ["teams/core", "teams/core/jobs", "teams/core/dev", "personal/core", "agents/core"]
    places = [place_of(path, workspace) for path in paths for workspace in ids]
    for one in places:
        assert [other for other in places if other != one and f"{other}/".startswith(f"{one}/")] == []
    assert len(set(places)) == len(places)


def test_settings_have_every_field_of_a_workspace_and_their_defaults() -> None:
    assert WorkspaceSettings().model_dump() == {
        "persistence_mode": "metadata_only",
        "cleanup_policy": "always",
        "allowed_images": [],
        "blocked_images": [],
        "max_job_timeout_seconds": 3600,
        "retention_days": 30,
        "min_isolation": None,
        "on_limit": "queue",
        "max_grant_minutes": None,
        "grant_quorum": None,
    }


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("persistence_mode", "none"),
        ("cleanup_policy", "sometimes"),
        ("allowed_images", "python:*"),
        ("allowed_images", [""]),
        ("allowed_images", ["a" * 301]),
        ("allowed_images", ["py\nthon"]),
        ("blocked_images", ["py\u202ethon"]),
        ("blocked_images", [" python"]),
        ("blocked_images", ["x"] * 201),
        ("blocked_images", [1]),
        ("max_job_timeout_seconds", 0),
        ("max_job_timeout_seconds", 7 * 86400 + 1),
        ("max_job_timeout_seconds", 1.5),
        ("max_job_timeout_seconds", True),
        ("retention_days", 0),
        ("retention_days", 3651),
        ("min_isolation", "none"),
        ("on_limit", "wait"),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused_by_name(setting: str, value: object, acme: Tenant, dev: str) -> None:
    before = acme.owner.get(f"/workspaces/{dev}").json()
    for answer in (
        acme.owner.patch(f"/workspaces/{dev}", json={"settings": {setting: value}}),
        acme.owner.post("/workspaces", json={"name": "x", "settings": {setting: value}}),
    ):
        problem(answer, 422, "invalid_request")
        assert f"settings.{setting}" in answer.text
    assert acme.owner.get(f"/workspaces/{dev}").json() == before


def test_the_trail_tells_what_a_setting_was_and_is(acme: Tenant) -> None:
    workspace = acme.workspace(secrets.token_hex(4))
    path = f"/workspaces/{workspace}"
    many = [f"image-{number}" for number in range(30)]
    acme.owner.patch(path, json={"settings": {"retention_days": 7, "allowed_images": ["python:*"]}})
    acme.owner.patch(path, json={"settings": {"allowed_images": many}, "name": "renamed"})
    first, second = sorted(events(acme, workspace, "workspace.updated"), key=lambda told: "name" in told["fields"])
    assert first["changed"] == {"settings.retention_days": [30, 7], "settings.allowed_images": [[], ["python:*"]]}
    assert second["changed"]["settings.allowed_images"] == [["python:*"], "30 entries"]
    assert second["changed"]["name"][1] == "renamed"
    assert events(acme, workspace, "workspace.persistence_changed") == []


def test_a_change_of_the_mode_is_an_event_of_its_own(acme: Tenant) -> None:
    workspace = acme.workspace(secrets.token_hex(4))
    for mode in ("full", "full", "metadata_only"):
        acme.owner.patch(f"/workspaces/{workspace}", json={"settings": {"persistence_mode": mode}})
    told = events(acme, workspace, "workspace.persistence_changed")
    assert sorted(told, key=str) == [
        {"from": "full", "to": "metadata_only"},
        {"from": "metadata_only", "to": "full"},
    ]


def test_a_header_picks_the_workspace_where_the_path_names_none(acme: Tenant) -> None:
    one, two = (acme.workspace(secrets.token_hex(4)) for _ in range(2))
    account = acme.owner.post(f"/workspaces/{one}/service-accounts", json={"name": secrets.token_hex(4)}).json()["id"]
    bound = {"principal": account, "role": "auditor"}
    assert acme.owner.post(f"/workspaces/{one}/bindings", json=bound).status_code == 201
    narrow = acme.as_key(acme.key(None, service_account=account))
    problem(narrow.get("/audit"), 403, "permission_missing")
    seen = narrow.get("/audit", headers={"X-Workspace-Id": one})
    assert seen.status_code == 200
    assert {item["workspace"] for item in seen.json()["items"]} == {one}
    problem(narrow.get("/audit", headers={"X-Workspace-Id": two}), 404, "not_found")
    asked = {"permission": "audit:read"}
    decisions = [
        narrow.post("/explain", json=asked, headers=headers).json()["decision"]
        for headers in ({}, {"X-Workspace-Id": one})
    ]
    assert decisions == ["deny", "allow"]
    problem(narrow.post("/explain", json=asked, headers={"X-Workspace-Id": two}), 404, "not_found")
    assert narrow.get("/me", headers={"X-Workspace-Id": one}).status_code == 200
    key = acme.as_role("viewer", one)
    problem(key.get("/me", headers={"X-Workspace-Id": two}), 404, "not_found")
    problem(key.get(f"/workspaces/{one}", headers={"X-Workspace-Id": two}), 400, "header_ambiguous")
    problem(acme.owner.get("/me", headers={"X-Workspace-Id": "../x"}), 422, "id_malformed")
