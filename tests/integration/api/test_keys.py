"""Keys: shown once, bounded by who makes them, revoked everywhere within a second."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import Beside, problem

pytestmark = pytest.mark.xdist_group("api")


def _make(tenant: Tenant, workspace: str, client: httpx.Client | None = None, **fields: object) -> httpx.Response:
    return (client or tenant.owner).post(f"/workspaces/{workspace}/keys", json={"name": "k", **fields})


def _account(tenant: Tenant, workspace: str, name: str) -> str:
    body = {"name": f"{name} {time.monotonic_ns()}"}
    return str(tenant.owner.post(f"/workspaces/{workspace}/service-accounts", json=body).json()["id"])


def test_a_secret_is_shown_once_and_stands_in_no_list_record_or_trail(acme: Tenant, dev: str) -> None:
    made = _make(acme, dev, roles=["viewer"])
    assert made.status_code == 201
    secret, key_id = made.json()["secret"], made.json()["id"]
    random_part = secret.split("_")[3]
    pages = [
        acme.owner.get(f"/workspaces/{dev}/keys", params={"limit": 200}),
        acme.owner.get(f"/workspaces/{dev}/keys/{key_id}"),
        acme.owner.get("/audit", params={"resource": key_id}),
    ]
    for page in pages:
        assert key_id in page.text
        assert random_part not in page.text
        for hidden in ("secret", "verifier", "lookup"):
            assert f'"{hidden}"' not in page.text


def test_a_key_says_where_it_belongs(acme: Tenant, globex: Tenant, dev: str) -> None:
    assert acme.key(dev, "viewer").startswith(f"tenantry_us_ws{dev.removeprefix('ws_')}_")
    assert globex.key(None, "viewer").startswith(f"tenantry_eu_ten{globex.id.removeprefix('ten_')}_")


async def test_a_revoked_key_is_refused_within_a_second_by_every_process(
    acme: Tenant, dev: str, beside: Beside
) -> None:
    made = _make(acme, dev, roles=["viewer"]).json()
    here = acme.as_key(made["secret"])
    async with beside.client(made["secret"]) as there:
        assert here.get("/me").status_code == 200
        assert (await there.get("/me")).status_code == 200
        revoked = acme.owner.delete(f"/workspaces/{dev}/keys/{made['id']}")
        at = time.monotonic()
        assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
        problem(here.get("/me"), 401, "credential_refused")
        while (answer := await there.get("/me")).status_code == 200:
            assert time.monotonic() - at < 1
        problem(answer, 401, "credential_refused")
    again = acme.owner.delete(f"/workspaces/{dev}/keys/{made['id']}")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]


def test_the_use_of_a_revoked_key_stands_in_the_trail(acme: Tenant, dev: str) -> None:
    made = _make(acme, dev, roles=["viewer"]).json()
    acme.owner.delete(f"/workspaces/{dev}/keys/{made['id']}")
    problem(acme.as_key(made["secret"]).get("/me"), 401, "credential_refused")
    query = {"resource": made["id"], "outcome": "denied"}
    events = acme.owner.get("/audit", params=query).json()["items"]
    assert [(event["action"], event["reason"]) for event in events] == [("credential.refused", "key_revoked")]


async def test_a_key_ends_when_it_expires(acme: Tenant, dev: str, beside: Beside) -> None:
    problem(_make(acme, dev, roles=["viewer"], expires_at="2020-01-01T00:00:00Z"), 422, "expiry_past")
    expires_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    secret = acme.key(dev, "viewer", expires_at=expires_at)
    async with beside.client(secret) as client:
        try:
            assert (await client.get("/me")).status_code == 200
            beside.clock.ahead = timedelta(minutes=59)
            assert (await client.get("/me")).status_code == 200
            beside.clock.ahead = timedelta(hours=1, seconds=1)
            problem(await client.get("/me"), 401, "credential_refused")
        finally:
            beside.clock.ahead = timedelta()
        assert (await client.get("/me")).status_code == 200


async def test_a_key_works_only_from_its_networks(acme: Tenant, dev: str, beside: Beside) -> None:
    secret = acme.key(dev, "viewer", allowed_networks=["10.1.0.0/16", "2001:db8::/32"])
    for ip, allowed in (
        ("10.1.2.3", True),
        ("2001:db8::5", True),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("2001:db9::1", False),
        ("::ffff:10.1.2.3", False),
        ("not-an-address", False),
    ):
        async with beside.client(secret, ip=ip) as client:
            spoofed = {"X-Forwarded-For": "10.1.2.3", "X-Real-IP": "10.1.2.3", "Forwarded": "for=10.1.2.3"}
            for headers in ({}, spoofed):
                answer = await client.get("/me", headers=headers)
                assert answer.status_code == (200 if allowed else 401), ip


@pytest.mark.parametrize("network", ["10.0.0.1/8", "nowhere", "", "10.0.0.0/33", "::/129", "1"])
def test_what_is_no_network_makes_no_key(network: str, acme: Tenant, dev: str) -> None:
    problem(_make(acme, dev, roles=["viewer"], allowed_networks=[network]), 422, "invalid_request")


def test_the_last_use_is_noted(acme: Tenant, dev: str) -> None:
    made = _make(acme, dev, roles=["viewer"]).json()
    path = f"/workspaces/{dev}/keys/{made['id']}"
    assert acme.owner.get(path).json()["last_used_at"] is None
    acme.as_key(made["secret"]).get("/me")
    used, deadline = None, time.monotonic() + 15
    while used is None and time.monotonic() < deadline:
        used = acme.owner.get(path).json()["last_used_at"]
    assert used is not None
    assert made["created_at"] <= used <= datetime.now(UTC).isoformat()


# --- nobody gives more than they hold ---------------------------------------------------------------------------------

_ESCALATIONS: list[dict[str, Any]] = [
    {"roles": ["workspace-admin"]},
    {"roles": ["operator"]},
    {"roles": ["viewer"]},
    {"roles": ["viewer", "workspace-admin"]},
    {"permissions": ["workspace:admin"]},
    {"permissions": ["key:admin", "job:create"]},
    {"permissions": ["tenant:admin"]},
    {"permissions": ["platform:admin"]},
]


@pytest.mark.parametrize("wanted", _ESCALATIONS, ids=str)
def test_a_key_that_may_only_make_keys_makes_none_that_may_more(wanted: dict[str, Any], acme: Tenant, dev: str) -> None:
    maker = acme.as_key(acme.key(dev, permissions=["key:admin"]))
    before = len(acme.owner.get(f"/workspaces/{dev}/keys", params={"limit": 200}).json()["items"])
    found = problem(_make(acme, dev, maker, **wanted), 403, "grant_exceeds_own")
    assert found["missing"]
    assert len(acme.owner.get(f"/workspaces/{dev}/keys", params={"limit": 200}).json()["items"]) == before


def test_it_makes_keys_as_narrow_as_itself(acme: Tenant, dev: str) -> None:
    maker = acme.as_key(acme.key(dev, permissions=["key:admin"]))
    made = _make(acme, dev, maker, permissions=["key:admin"])
    assert made.status_code == 201


def test_a_key_without_roles_is_no_way_to_become_its_principal(acme: Tenant, dev: str) -> None:
    """It does what its principal is bound to, so only who holds all of that makes one."""
    maker = acme.as_key(acme.key(dev, permissions=["key:admin"]))
    problem(_make(acme, dev, maker), 403, "grant_exceeds_own")
    account = _account(acme, dev, "powerful")
    acme.owner.post(f"/workspaces/{dev}/bindings", json={"principal": account, "role": "workspace-admin"})
    problem(_make(acme, dev, maker, service_account=account), 403, "grant_exceeds_own")
    admin = acme.as_role("workspace-admin", dev)
    assert _make(acme, dev, admin, service_account=account).status_code == 201
    problem(_make(acme, dev, admin), 403, "grant_exceeds_own")
    assert _make(acme, dev).status_code == 201


def test_a_principal_bound_in_the_whole_tenant_is_not_taken_over_from_a_workspace(acme: Tenant, dev: str) -> None:
    account = _account(acme, dev, "wide")
    acme.owner.post(f"/tenants/{acme.id}/bindings", json={"principal": account, "role": "tenant-admin"})
    admin = acme.as_role("workspace-admin", dev)
    problem(_make(acme, dev, admin, service_account=account), 403, "grant_exceeds_own")


@pytest.mark.parametrize("role", ["tenant-admin", "platform-admin"])
def test_a_workspace_key_holds_no_role_of_the_whole_tenant(role: str, acme: Tenant, dev: str) -> None:
    problem(_make(acme, dev, roles=[role]), 422, "role_not_for_workspace")


def test_a_tenants_administrator_makes_no_operator_of_the_installation(acme: Tenant) -> None:
    for wanted in ({"roles": ["platform-admin"]}, {"permissions": ["platform:admin"]}):
        answer = acme.owner.post(f"/tenants/{acme.id}/keys", json={"name": "k", **wanted})
        problem(answer, 403, "grant_exceeds_own")


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"roles": ["root"]}, "role_unknown"),
        ({"roles": ["Viewer"]}, "role_unknown"),
        ({"permissions": ["job:*"]}, "permission_unknown"),
        ({"permissions": ["*"]}, "permission_unknown"),
        ({"permissions": [""]}, "permission_unknown"),
    ],
    ids=str,
)
def test_unknown_roles_and_permissions_make_no_key(wanted: dict[str, Any], code: str, acme: Tenant, dev: str) -> None:
    problem(_make(acme, dev, **wanted), 422, code)


def test_a_workspaces_administrator_has_no_say_beyond_it(acme: Tenant, dev: str) -> None:
    admin, tenant = acme.as_role("workspace-admin", dev), f"/tenants/{acme.id}"
    for method, path in (
        ("GET", tenant),
        ("GET", f"{tenant}/keys"),
        ("GET", f"{tenant}/members"),
        ("GET", f"{tenant}/bindings"),
        ("POST", f"{tenant}/keys"),
        ("POST", "/workspaces"),
    ):
        body = {"name": "x", "roles": ["viewer"]} if path.endswith("keys") else {"name": "x"}
        answer = admin.request(method, path, json=body if method == "POST" else None)
        problem(answer, 403, "permission_missing")


async def test_the_owners_bootstrap_key_works_for_a_day(
    installation: Installation, make_tenant: Any, beside: Beside
) -> None:
    tenant = make_tenant(region="eu")
    me = tenant.owner.get("/me").json()
    assert me["tenant"]["id"] == tenant.id
    assert me["principal"]["roles"] == ["tenant-admin"]
    keys = tenant.owner.get(f"/tenants/{tenant.id}/keys").json()["items"]
    assert [key["name"] for key in keys] == ["bootstrap"]
    lifetime = datetime.fromisoformat(keys[0]["expires_at"]) - datetime.fromisoformat(keys[0]["created_at"])
    assert abs(lifetime - timedelta(hours=24)) < timedelta(seconds=1)
    async with beside.client(tenant.bootstrap_key) as client:
        try:
            beside.clock.ahead = timedelta(hours=23, minutes=58)
            assert (await client.get("/me")).status_code == 200
            beside.clock.ahead = timedelta(hours=24, seconds=1)
            problem(await client.get("/me"), 401, "credential_refused")
        finally:
            beside.clock.ahead = timedelta()
