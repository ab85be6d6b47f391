"""Tenants: made with what their plan gives, closed and opened by the operator, changed within bounds by themselves."""

import secrets
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import Beside, problem

pytestmark = pytest.mark.xdist_group("api")

# The figures of the shipped plans: users, projects, tokens a month, GB, agents at once.
_PLANS: dict[str, tuple[Any, ...]] = {
    "free": (1, 3, 100_000, 1, 2),
    "starter": (5, 10, 1_000_000, 10, 5),
    "professional": (25, 50, 5_000_000, 100, 15),
    "enterprise": ("unlimited", "unlimited", "unlimited", "unlimited", 50),
}
_QUOTAS = ("maxUsers", "maxProjects", "maxTokensPerMonth", "maxStorageGB", "maxConcurrentAgents")


def _body(**fields: Any) -> dict[str, Any]:
    slug = f"t-{secrets.token_hex(5)}"
    owner = {"email": "owner@x.example", "name": "Owner"}
    return {"name": slug, "slug": slug, "plan": "free", "region": "us", "owner": owner, **fields}


@pytest.mark.parametrize("plan", _PLANS)
def test_a_tenant_starts_with_the_quotas_of_its_plan(plan: str, installation: Installation) -> None:
    made = installation.platform.post("/tenants", json=_body(plan=plan, region="eu"))
    assert made.status_code == 201
    tenant = made.json()
    assert tenant["quotas"] == dict(zip(_QUOTAS, _PLANS[plan], strict=True))
    assert (tenant["status"], tenant["region"], tenant["plan"]) == ("active", "eu", plan)
    assert tenant["isolation"] == ("schema_level" if plan == "enterprise" else "row_level")
    assert tenant["settings"]["persistence_mode"] == "metadata_only"


def test_named_quotas_win_over_the_plans_and_a_new_plan_brings_its_own(installation: Installation) -> None:
    made = installation.platform.post("/tenants", json=_body(quotas={"maxProjects": 7})).json()
    assert made["quotas"] == dict(zip(_QUOTAS, _PLANS["free"], strict=True)) | {"maxProjects": 7}
    path = f"/tenants/{made['id']}"
    changed = installation.platform.patch(path, json={"quotas": {"maxUsers": 2}}).json()
    assert changed["quotas"] == made["quotas"] | {"maxUsers": 2}
    upgraded = installation.platform.patch(path, json={"plan": "starter", "quotas": {"maxUsers": "unlimited"}}).json()
    assert upgraded["quotas"] == dict(zip(_QUOTAS, _PLANS["starter"], strict=True)) | {"maxUsers": "unlimited"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"region": "mars"}, "region_unknown"),
        ({"region": "US"}, "region_unknown"),
        ({"region": ""}, "region_unknown"),
        ({"plan": "gold"}, "plan_unknown"),
        ({"quotas": {"maxUsers": -1}}, "invalid_request"),
        ({"quotas": {"maxUsers": 1.5}}, "invalid_request"),
        ({"quotas": {"maxUsers": "lots"}}, "invalid_request"),
        ({"isolation": "none"}, "invalid_request"),
        ({"owner": {"email": "nobody", "name": "X"}}, "invalid_request"),
        ({"owner": {"email": "a@b.example\nBcc: c@d.example", "name": "X"}}, "invalid_request"),
        ({"clock_skew_ms": -1}, "invalid_request"),
        ({"id": "ten_0"}, "invalid_request"),
        ({"status": "active"}, "invalid_request"),
    ],
    ids=str,
)
def test_what_breaks_a_rule_makes_no_tenant(fields: dict[str, Any], code: str, installation: Installation) -> None:
    body = _body(**fields)
    problem(installation.platform.post("/tenants", json=body), 422, code)
    problem(installation.platform.get(f"/tenants/{body['slug']}"), 404, "tenant_not_found")


@pytest.mark.parametrize(
    "slug",
    [
        "a",
        "",
        "A-b",
        "a_b",
        "a b",
        "a.b",
        "é-b",
        "a" * 41,
        "ab\n",
        "ab\u200b",
        "ten_" + "0" * 26,
        "../ab",
        "ab/cd",
    ],
)
def test_a_slug_that_breaks_the_rule_is_422(slug: str, installation: Installation) -> None:
    answer = installation.platform.post("/tenants", json=_body() | {"slug": slug})
    problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("slug", ["ab", "0-0", "a" * 40])
def test_a_slug_within_the_rule_is_taken_once(slug: str, installation: Installation) -> None:
    slug = slug if len(slug) == 40 else f"{slug}-{secrets.token_hex(4)}"
    slug = slug[:-8] + secrets.token_hex(4)
    assert installation.platform.post("/tenants", json=_body() | {"slug": slug}).status_code == 201
    for region in ("us", "eu"):
        problem(installation.platform.post("/tenants", json=_body(region=region) | {"slug": slug}), 409, "slug_taken")


def test_nobody_takes_the_installations_own_name(installation: Installation) -> None:
    problem(installation.platform.post("/tenants", json=_body() | {"slug": "platform"}), 409, "slug_taken")


@pytest.mark.parametrize("method", ["suspend", "resume", "restore", "delete"])
def test_the_installations_own_tenant_stays_as_it_is(method: str, installation: Installation) -> None:
    client = installation.platform
    body = {"reason": "x"} if method == "suspend" else None
    for name in ("platform", client.get("/me").json()["tenant"]["id"]):
        path = f"/tenants/{name}"
        answer = client.delete(path) if method == "delete" else client.post(f"{path}/{method}", json=body)
        problem(answer, 403, "platform_tenant")


@pytest.mark.parametrize(
    "fields", [{"plan": "enterprise"}, {"quotas": {"maxUsers": 9}}, {"limits": {"x": 1}}, {"billing": {"a": "b"}}]
)
def test_the_operators_fields_are_refused_to_a_tenants_administrator(fields: dict[str, Any], acme: Tenant) -> None:
    before = acme.owner.get(f"/tenants/{acme.id}").json()
    found = problem(acme.owner.patch(f"/tenants/{acme.id}", json={"name": "other", **fields}), 403, "platform_field")
    assert found["allow_with"] == ["platform-admin"]
    assert acme.owner.get(f"/tenants/{acme.id}").json() == before


def test_an_administrator_changes_the_named_fields_and_no_others(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    path = f"/tenants/{tenant.id}"
    before = tenant.owner.get(path).json()
    tenant.owner.patch(path, json={"settings": {"persistence_mode": "full"}})
    tenant.owner.patch(path, json={"settings": {"default_model": "small"}, "metadata": {"cost": "centre"}})
    after = tenant.owner.get(path).json()
    assert after["settings"] == before["settings"] | {"persistence_mode": "full", "default_model": "small"}
    assert after["metadata"] == {"cost": "centre"}
    unchanged = ("id", "slug", "plan", "region", "quotas", "owner", "status", "created_at")
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert after["version"] == before["version"] + 2


def test_a_tenant_is_found_by_id_and_by_slug(acme: Tenant, installation: Installation) -> None:
    for client in (acme.owner, installation.platform):
        assert client.get(f"/tenants/{acme.id}").json() == client.get(f"/tenants/{acme.slug}").json()
    listed = {item["id"] for item in _all(installation)}
    assert acme.id in listed


def _all(installation: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        page = installation.platform.get("/tenants", params=query).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_a_suspended_tenant_does_nothing_anywhere_within_a_second_and_works_again_when_resumed(
    make_tenant: MakeTenant, installation: Installation, beside: Beside
) -> None:
    tenant = make_tenant(region="eu")
    workspace = tenant.workspace()
    viewer = tenant.as_role("viewer", workspace)
    path = f"/tenants/{tenant.id}"
    async with beside.client(tenant.bootstrap_key) as there:
        assert (await there.get("/me")).status_code == 200
        suspended = installation.platform.post(f"{path}/suspend", json={"reason": "unpaid"})
        at = time.monotonic()
        assert (suspended.json()["status"], suspended.json()["status_reason"]) == ("suspended", "unpaid")
        for client in (tenant.owner, viewer):
            for name in ("/me", f"/workspaces/{workspace}", f"/workspaces/{workspace}/jobs"):
                problem(client.get(name), 403, "tenant_suspended")
        problem(tenant.owner.post("/workspaces", json={"name": "x"}), 403, "tenant_suspended")
        while (answer := await there.get("/me")).status_code == 200:
            assert time.monotonic() - at < 1
        problem(answer, 403, "tenant_suspended")
    assert installation.platform.get(path).json()["suspended_at"]
    again = installation.platform.post(f"{path}/suspend", json={"reason": "twice"}).json()
    assert again["status_reason"] == "unpaid"
    assert installation.platform.post(f"{path}/resume").json()["status"] == "active"
    assert viewer.get(f"/workspaces/{workspace}").status_code == 200


def test_suspension_is_told_only_to_who_holds_a_key(make_tenant: MakeTenant, installation: Installation) -> None:
    tenant = make_tenant()
    installation.platform.post(f"/tenants/{tenant.id}/suspend", json={"reason": "x"})
    body, _, check = tenant.bootstrap_key.rpartition("_")
    damaged = installation.client(f"{body[:-1]}{'0' if body[-1] != '0' else '1'}_{check}")
    problem(damaged.get("/me"), 401, "credential_malformed")


def test_a_deleted_tenant_is_closed_keeps_its_slug_and_can_be_restored(
    make_tenant: MakeTenant, installation: Installation
) -> None:
    tenant = make_tenant()
    workspace = tenant.workspace()
    path = f"/tenants/{tenant.id}"
    gone = installation.platform.delete(path).json()
    assert gone["status"] == "deleted"
    kept = datetime.fromisoformat(gone["erase_after"]) - datetime.fromisoformat(gone["deleted_at"])
    assert kept == timedelta(days=30)
    problem(tenant.owner.get("/me"), 403, "tenant_suspended")
    problem(installation.platform.post("/tenants", json=_body() | {"slug": tenant.slug}), 409, "slug_taken")
    problem(installation.platform.post(f"{path}/resume"), 409, "state_conflict")
    restored = installation.platform.post(f"{path}/restore").json()
    assert (restored["status"], restored["erase_after"]) == ("active", None)
    assert tenant.owner.get(f"/workspaces/{workspace}").status_code == 200
    problem(installation.platform.post(f"{path}/restore"), 409, "state_conflict")


def test_its_whole_life_stands_in_a_tenants_own_trail(make_tenant: MakeTenant, installation: Installation) -> None:
    tenant = make_tenant()
    path = f"/tenants/{tenant.id}"
    installation.platform.post(f"{path}/suspend", json={"reason": "unpaid"})
    installation.platform.post(f"{path}/resume")
    installation.platform.delete(path)
    installation.platform.post(f"{path}/restore")
    events = tenant.owner.get("/audit", params={"action": "tenant.", "resource": tenant.id}).json()["items"]
    written = [event for event in reversed(events) if event["action"] != "tenant.read"]
    lived = ["created", "suspended", "resumed", "deleted", "restored"]
    assert [event["action"] for event in written] == [f"tenant.{verb}" for verb in lived]
    operator = installation.platform.get("/me").json()["principal"]["id"]
    assert {event["actor"]["id"] for event in written} == {operator}
