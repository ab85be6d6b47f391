"""Idempotency-Key: a repeated request does its work once; the record stands or falls with the effect."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import Installation, Tenant
from tests.integration.api.conftest import problem

from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation import idempotency
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings) as opened:
        yield opened


def _key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


def _workspace(name: str = "") -> dict[str, Any]:
    return {"name": name or secrets.token_hex(4), "owner": {"type": "team", "id": "core"}}


def _routes(tenant: Tenant, workspace: str) -> list[tuple[str, dict[str, Any], str]]:
    """POSTs that make something: where, what, and where it is listed."""
    account = tenant.owner.post(f"/workspaces/{workspace}/service-accounts", json={"name": secrets.token_hex(4)}).json()
    return [
        ("/workspaces", _workspace(), "/workspaces"),
        (f"/workspaces/{workspace}/service-accounts", {"name": secrets.token_hex(4)}, ""),
        (f"/workspaces/{workspace}/keys", {"name": "k", "roles": ["viewer"]}, ""),
        (f"/tenants/{tenant.id}/keys", {"name": "k", "roles": ["viewer"]}, ""),
        (f"/workspaces/{workspace}/bindings", {"principal": account["id"], "role": "ci"}, ""),
        (f"/tenants/{tenant.id}/bindings", {"principal": account["id"], "role": "ci"}, ""),
        (f"/workspaces/{workspace}/jobs", {"command": ["true"]}, ""),
    ]


def test_the_same_request_again_makes_one_thing_and_shows_no_secret_again(acme: Tenant, dev: str) -> None:
    for path, body, _ in _routes(acme, dev):
        key = _key()
        first = acme.owner.post(path, json=body, headers=key)
        assert first.status_code in (201, 202), first.text
        assert "idempotency-replayed" not in first.headers
        before = _ids(acme, path)
        for _ in range(2):
            again = acme.owner.post(path, json=body, headers=key)
            assert again.status_code == first.status_code, again.text
            assert again.headers["idempotency-replayed"] == "true"
            assert again.json()["id"] == first.json()["id"]
            assert "secret" not in again.json()
        assert _ids(acme, path) == before


def _ids(tenant: Tenant, path: str) -> set[str]:
    return {item["id"] for item in tenant.owner.get(path, params={"limit": 200}).json()["items"]}


def test_a_tenant_made_twice_with_one_key_is_one_and_its_key_is_shown_once(installation: Installation) -> None:
    slug, key = f"t-{secrets.token_hex(5)}", _key()
    body = {"name": slug, "slug": slug, "plan": "free", "region": "eu", "owner": {"email": "o@x.example", "name": "O"}}
    first = installation.platform.post("/tenants", json=body, headers=key)
    assert first.json()["bootstrap_key"]["secret"]
    again = installation.platform.post("/tenants", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert "bootstrap_key" not in again.json()
    assert first.json()["bootstrap_key"]["secret"] not in again.text


def test_the_key_with_another_body_path_or_query_is_422_and_does_nothing(acme: Tenant, dev: str) -> None:
    key, body = _key(), _workspace()
    assert acme.owner.post("/workspaces", json=body, headers=key).status_code == 201
    before = _ids(acme, "/workspaces")
    problem(acme.owner.post("/workspaces", json=_workspace(), headers=key), 422, "idempotency_key_reused")
    problem(acme.owner.post("/workspaces?x=1", json=body, headers=key), 422, "idempotency_key_reused")
    answer = acme.owner.post(f"/workspaces/{dev}/service-accounts", json={"name": "other"}, headers=key)
    problem(answer, 422, "idempotency_key_reused")
    assert _ids(acme, "/workspaces") == before


def test_another_tenants_same_key_is_another_key(acme: Tenant, globex: Tenant) -> None:
    key, body = _key(), _workspace()
    first = acme.owner.post("/workspaces", json=body, headers=key)
    second = globex.owner.post("/workspaces", json=body, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert "idempotency-replayed" not in second.headers


def test_another_principals_same_key_is_another_key(acme: Tenant, dev: str) -> None:
    key, body = _key(), {"command": ["true"]}
    clients = []
    for name in ("first", "second"):
        account = acme.owner.post(f"/workspaces/{dev}/service-accounts", json={"name": f"{name} {key}"}).json()["id"]
        clients.append(acme.as_key(acme.key(dev, "operator", service_account=account)))
    jobs = [client.post(f"/workspaces/{dev}/jobs", json=body, headers=key) for client in clients]
    assert [job.status_code for job in jobs] == [202, 202]
    assert jobs[0].json()["id"] != jobs[1].json()["id"]


def test_a_request_that_failed_does_not_burn_its_key(acme: Tenant) -> None:
    key = _key()
    path = f"teams/{secrets.token_hex(4)}"
    holder = acme.owner.post("/workspaces", json=_workspace() | {"path": path}).json()["id"]
    body = _workspace() | {"path": path}
    problem(acme.owner.post("/workspaces", json=body, headers=key), 409, "path_taken")
    problem(acme.owner.post("/workspaces", json={}, headers=key), 422, "invalid_request")
    acme.owner.delete(f"/workspaces/{holder}")
    done = acme.owner.post("/workspaces", json=body, headers=key)
    assert done.status_code == 201
    assert "idempotency-replayed" not in done.headers


async def test_a_key_in_flight_is_409_and_free_when_the_other_gives_up(acme: Tenant, parts: Parts) -> None:
    """The other request is a transaction of ours that took the key and has not ended."""
    name, body = secrets.token_hex(8), _workspace()
    principal = acme.owner.get("/me").json()["principal"]["acts_for"]
    scope = TenantScope(tenant_id=parse_id(Prefix.TENANT, acme.id), region=acme.region, actor=SYSTEM)
    session = parts.cells.session(scope)
    try:
        assert await idempotency.begin(session, principal_id=principal, key=name, digest=b"other") is None
        before = _ids(acme, "/workspaces")
        answer = acme.owner.post("/workspaces", json=body, headers={"Idempotency-Key": name})
        problem(answer, 409, "in_progress")
        assert _ids(acme, "/workspaces") == before
    finally:
        await session.rollback()
    done = acme.owner.post("/workspaces", json=body, headers={"Idempotency-Key": name})
    assert done.status_code == 201
    assert "idempotency-replayed" not in done.headers


@pytest.mark.parametrize("name", ["", "a b", "x" * 201, "tab\tbed", "é"])
def test_a_key_that_breaks_its_rule_is_422_and_makes_nothing(name: str, acme: Tenant) -> None:
    before = _ids(acme, "/workspaces")
    headers = {b"Idempotency-Key": name.encode("latin-1")}
    answer = acme.owner.post("/workspaces", json=_workspace(), headers=headers)
    problem(answer, 422, "idempotency_key_invalid")
    assert _ids(acme, "/workspaces") == before


def test_a_replay_needs_the_permission_still(acme: Tenant, dev: str) -> None:
    """A key that may do nothing any more is not told what it made."""
    account = acme.owner.post(f"/workspaces/{dev}/service-accounts", json={"name": secrets.token_hex(4)}).json()["id"]
    bound = {"principal": account, "role": "operator"}
    binding = acme.owner.post(f"/workspaces/{dev}/bindings", json=bound).json()["id"]
    client, key = acme.as_key(acme.key(dev, service_account=account)), _key()
    made = client.post(f"/workspaces/{dev}/jobs", json={"command": ["true"]}, headers=key)
    assert made.status_code == 202
    acme.owner.delete(f"/workspaces/{dev}/bindings/{binding}")
    acme.owner.post(f"/workspaces/{dev}/bindings", json=bound | {"role": "viewer"})
    again = client.post(f"/workspaces/{dev}/jobs", json={"command": ["true"]}, headers=key)
    problem(again, 403, "permission_missing")
