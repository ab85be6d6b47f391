"""Environments: the tiers of a workspace, added, read, changed under their version, removed; each change is audited."""

import secrets

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import own_details, problem

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture
def workspace(acme: Tenant) -> str:
    return acme.workspace(secrets.token_hex(4))


def add(tenant: Tenant, workspace: str, slug: str, **fields: object) -> httpx.Response:
    return tenant.owner.post(f"/workspaces/{workspace}/environments", json={"slug": slug, **fields})


def test_an_environment_is_added_read_changed_and_removed(acme: Tenant, workspace: str) -> None:
    made = add(acme, workspace, "blue", kind="prod", description="what customers see")
    assert made.status_code == 201
    path = f"/workspaces/{workspace}/environments/blue"
    read = acme.owner.get(path)
    assert (read.json(), read.headers["etag"]) == (made.json(), '"1"')
    changed = acme.owner.patch(path, json={"kind": "staging"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["kind"], changed.json()["description"]) == ("staging", "what customers see")
    problem(acme.owner.patch(path, json={"kind": "dev"}, headers={"If-Match": '"1"'}), 412, "version_mismatch")
    problem(acme.owner.delete(path, headers={"If-Match": '"1"'}), 412, "version_mismatch")
    assert acme.owner.delete(path, headers={"If-Match": '"2"'}).json()["slug"] == "blue"
    problem(acme.owner.get(path), 404, "not_found")
    problem(acme.owner.delete(path), 404, "not_found")
    events = acme.owner.get("/audit", params={"workspace": workspace, "action": "environment.", "limit": 50}).json()
    told = {event["action"]: own_details(event) for event in events["items"] if event["outcome"] == "success"}
    assert told["environment.added"] == {"kind": "prod"}
    assert told["environment.changed"] == {"changed": {"kind": ["prod", "staging"]}}
    assert told["environment.removed"] == {"kind": "staging"}


def test_a_slug_that_names_a_tier_says_its_kind(acme: Tenant, workspace: str) -> None:
    assert [add(acme, workspace, slug).json()["kind"] for slug in ("dev", "prod")] == ["dev", "prod"]
    problem(add(acme, workspace, "blue"), 422, "kind_required")
    problem(add(acme, workspace, "dev"), 409, "environment_taken")


@pytest.mark.parametrize("slug", ["", "Dev", "a_b", "../x", "-a", "a-", "a" * 41, "dev\n", "d\u0435v", "a/b"])
def test_what_is_no_slug_is_refused(slug: str, acme: Tenant, workspace: str) -> None:
    problem(add(acme, workspace, slug, kind="dev"), 422, "invalid_request")


@pytest.mark.parametrize("fields", [{"kind": "qa"}, {"kind": 1}, {"description": "x" * 501}, {"description": "a\nb"}])
def test_what_is_no_environment_is_refused(fields: dict[str, object], acme: Tenant, workspace: str) -> None:
    problem(add(acme, workspace, "dev", **fields), 422, "invalid_request")


def test_pages_hold_all_by_slug(acme: Tenant, workspace: str) -> None:
    slugs = sorted(f"e{number}" for number in range(5))
    for slug in reversed(slugs):
        add(acme, workspace, slug, kind="test")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = acme.owner.get(f"/workspaces/{workspace}/environments", params=params).json()
        found += [item["slug"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == slugs


def test_a_repeated_request_adds_one(acme: Tenant, workspace: str) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    answers = [
        acme.owner.post(f"/workspaces/{workspace}/environments", json={"slug": "dev"}, headers=headers)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_who_may_only_read_adds_none(acme: Tenant, workspace: str) -> None:
    viewer = acme.as_role("viewer", workspace)
    add(acme, workspace, "dev")
    path = f"/workspaces/{workspace}/environments"
    assert viewer.get(f"{path}/dev").status_code == 200
    problem(viewer.post(path, json={"slug": "test"}), 403, "permission_missing")
    problem(viewer.delete(f"{path}/dev"), 403, "permission_missing")
