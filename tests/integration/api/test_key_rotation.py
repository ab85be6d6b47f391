"""Rotation: two keys for a day or two, then one; and no key that never ends."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import Tenant
from tests.integration.api.conftest import Beside, problem

pytestmark = pytest.mark.xdist_group("api")

LASTING = ("name", "principal", "roles", "permissions", "allowed_networks", "workspace")


def _make(tenant: Tenant, workspace: str, **fields: object) -> dict[str, Any]:
    body = {"name": "rotated", "roles": ["viewer"], **fields}
    answer = tenant.owner.post(f"/workspaces/{workspace}/keys", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _rotate(
    tenant: Tenant, workspace: str, key: str, client: httpx.Client | None = None, **fields: object
) -> httpx.Response:
    return (client or tenant.owner).post(f"/workspaces/{workspace}/keys/{key}/rotate", json=fields)


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


@contextmanager
def ahead(beside: Beside, by: timedelta) -> Iterator[None]:
    beside.clock.ahead = by
    try:
        yield
    finally:
        beside.clock.ahead = timedelta()


def test_a_rotated_key_has_a_successor_that_may_do_the_same(acme: Tenant, dev: str) -> None:
    old = _make(acme, dev, permissions=["job:create"], allowed_networks=["127.0.0.0/8"])
    answer = _rotate(acme, dev, old["id"])
    assert answer.status_code == 201
    new = answer.json()
    assert {name: new[name] for name in LASTING} == {name: old[name] for name in LASTING}
    assert (new["status"], new["rotated_from"], new["grace_until"]) == ("active", old["id"], None)
    assert new["secret"] != old["secret"]
    before = acme.owner.get(f"/workspaces/{dev}/keys/{old['id']}").json()
    assert before["status"] == "grace"
    assert abs(_at(before["grace_until"]) - _at(new["created_at"]) - timedelta(hours=24)) < timedelta(seconds=1)
    for secret in (old["secret"], new["secret"]):
        assert acme.as_key(secret).get("/me").status_code == 200


def test_the_successors_secret_is_shown_once_and_stands_in_no_trail(acme: Tenant, dev: str) -> None:
    old = _make(acme, dev)
    idempotent = {"Idempotency-Key": f"rotate-{old['id']}"}
    path = f"/workspaces/{dev}/keys/{old['id']}/rotate"
    first = acme.owner.post(path, json={}, headers=idempotent)
    again = acme.owner.post(path, json={}, headers=idempotent)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert "secret" not in again.json()
    trail = acme.owner.get("/audit", params={"resource": old["id"]})
    assert [event["action"] for event in trail.json()["items"] if event["action"] == "key.rotated"] == ["key.rotated"]
    assert first.json()["id"] in trail.text
    assert first.json()["secret"].split("_")[3] not in trail.text


@pytest.mark.parametrize("hours", [24, 48])
async def test_the_old_key_is_refused_when_its_grace_is_over_and_reads_retired(
    hours: int, acme: Tenant, dev: str, beside: Beside
) -> None:
    old = _make(acme, dev)
    new = _rotate(acme, dev, old["id"], grace_hours=hours).json()
    async with beside.client(old["secret"]) as client, beside.client(new["secret"]) as successor:
        with ahead(beside, timedelta(hours=hours, seconds=-5)):
            assert (await client.get("/me")).status_code == 200
        with ahead(beside, timedelta(hours=hours, seconds=5)):
            problem(await client.get("/me"), 401, "credential_refused")
            assert (await successor.get("/me")).status_code == 200
    admin = _make(acme, dev, roles=["workspace-admin"])
    async with beside.client(admin["secret"]) as reader:
        with ahead(beside, timedelta(hours=hours, seconds=5)):
            read = (await reader.get(f"/workspaces/{dev}/keys/{old['id']}")).json()
            listed = (await reader.get(f"/workspaces/{dev}/keys", params={"limit": 200})).json()["items"]
    assert read["status"] == "retired"
    assert {key["id"]: key["status"] for key in listed}[old["id"]] == "retired"
    events = acme.owner.get("/audit", params={"resource": old["id"], "outcome": "denied"}).json()["items"]
    assert [event["reason"] for event in events] == ["key_retired"]


async def test_a_process_that_has_cached_the_old_key_hears_of_its_end(acme: Tenant, dev: str, beside: Beside) -> None:
    old = _make(acme, dev)
    async with beside.client(old["secret"]) as client:
        assert (await client.get("/me")).status_code == 200
        _rotate(acme, dev, old["id"])
        at = time.monotonic()
        with ahead(beside, timedelta(hours=25)):
            while (answer := await client.get("/me")).status_code == 200:
                assert time.monotonic() - at < 1
            problem(answer, 401, "credential_refused")


@pytest.mark.parametrize("hours", [0, 23, 49, -24, 24.5, "24", None, 10**9])
def test_a_grace_lasts_24_to_48_hours(hours: object, acme: Tenant, dev: str) -> None:
    old = _make(acme, dev)
    problem(_rotate(acme, dev, old["id"], grace_hours=hours), 422, "invalid_request")
    assert acme.owner.get(f"/workspaces/{dev}/keys/{old['id']}").json()["status"] == "active"


def test_a_key_that_was_replaced_or_revoked_is_not_rotated(acme: Tenant, dev: str) -> None:
    old = _make(acme, dev)
    assert _rotate(acme, dev, old["id"]).status_code == 201
    problem(_rotate(acme, dev, old["id"]), 409, "key_not_active")
    acme.owner.delete(f"/workspaces/{dev}/keys/{old['id']}")
    problem(_rotate(acme, dev, old["id"]), 409, "key_not_active")


async def test_a_key_that_has_ended_is_not_rotated(acme: Tenant, dev: str, beside: Beside) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    expired, retired = _make(acme, dev, expires_at=soon), _make(acme, dev)
    _rotate(acme, dev, retired["id"])
    admin = _make(acme, dev, roles=["workspace-admin"])
    async with beside.client(admin["secret"]) as client:
        with ahead(beside, timedelta(hours=25)):
            for key in (expired, retired):
                answer = await client.post(f"/workspaces/{dev}/keys/{key['id']}/rotate", json={})
                problem(answer, 409, "key_not_active")


def test_a_key_that_is_rotated_by_many_at_once_has_one_successor(acme: Tenant, dev: str) -> None:
    old = _make(acme, dev)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _rotate(acme, dev, old["id"]).status_code, range(8)))
    assert sorted(answers) == [201] + [409] * 7
    keys = acme.owner.get(f"/workspaces/{dev}/keys", params={"limit": 200}).json()["items"]
    assert [key["rotated_from"] for key in keys].count(old["id"]) == 1


def test_a_revoked_key_in_grace_ends_at_once(acme: Tenant, dev: str) -> None:
    old = _make(acme, dev)
    _rotate(acme, dev, old["id"])
    revoked = acme.owner.delete(f"/workspaces/{dev}/keys/{old['id']}").json()
    assert revoked["status"] == "revoked"
    problem(acme.as_key(old["secret"]).get("/me"), 401, "credential_refused")


def test_nobody_rotates_a_key_to_more_than_they_hold(acme: Tenant, dev: str) -> None:
    maker = acme.as_key(acme.key(dev, permissions=["key:admin"]))
    wanted: list[dict[str, Any]] = [{"roles": ["operator"]}, {"roles": [], "permissions": ["job:read"]}, {"roles": []}]
    for fields in wanted:
        key = _make(acme, dev, **fields)
        problem(_rotate(acme, dev, key["id"], maker), 403, "grant_exceeds_own")
        assert acme.owner.get(f"/workspaces/{dev}/keys/{key['id']}").json()["status"] == "active"


def test_a_key_of_another_place_is_absent(acme: Tenant, globex: Tenant, dev: str) -> None:
    sibling = acme.workspace("sibling")
    elsewhere = _make(acme, sibling)
    problem(_rotate(acme, dev, elsewhere["id"]), 404, "not_found")
    foreign = _make(globex, globex.workspace("dev"))
    problem(_rotate(acme, dev, foreign["id"]), 404, "not_found")
    whole = acme.owner.post(f"/tenants/{acme.id}/keys", json={"name": "k", "roles": ["viewer"]}).json()
    problem(_rotate(acme, dev, whole["id"]), 404, "not_found")
    rotated = acme.owner.post(f"/tenants/{acme.id}/keys/{whole['id']}/rotate", json={"grace_hours": 48})
    assert (rotated.status_code, rotated.json()["workspace"]) == (201, None)


def test_a_key_ends_by_default_and_never_later_than_the_limit(acme: Tenant, dev: str) -> None:
    key = _make(acme, dev)
    assert _at(key["expires_at"]) - _at(key["created_at"]) == timedelta(days=90)
    latest = datetime.now(UTC) + timedelta(days=366)
    within = _make(acme, dev, expires_at=(latest - timedelta(minutes=1)).isoformat())
    assert within["expires_at"] is not None
    body = {"name": "k", "roles": ["viewer"], "expires_at": (latest + timedelta(minutes=1)).isoformat()}
    found = problem(acme.owner.post(f"/workspaces/{dev}/keys", json=body), 422, "expiry_too_far")
    assert (found["field"], found["limit_days"]) == ("expires_at", 366)


def test_a_successor_lasts_as_long_as_its_predecessor_was_meant_to(acme: Tenant, dev: str) -> None:
    week = _make(acme, dev, expires_at=(datetime.now(UTC) + timedelta(days=7)).isoformat())
    new = _rotate(acme, dev, week["id"]).json()
    lifetime = _at(new["expires_at"]) - _at(new["created_at"])
    assert abs(lifetime - timedelta(days=7)) < timedelta(minutes=1)
