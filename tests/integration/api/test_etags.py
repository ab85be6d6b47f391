"""304 is what is so at that moment, after every refusal; of changes on one version one wins."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import Beside, problem

from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.ids import Prefix, parse_id

pytestmark = pytest.mark.xdist_group("api")

RACERS = 32


def _tag(client: httpx.Client, path: str) -> str:
    return client.get(path).headers["etag"]


@pytest.fixture
def workspace(acme: Tenant) -> str:
    """The path of a fresh workspace."""
    return f"/workspaces/{acme.workspace(secrets.token_hex(4))}"


@pytest.mark.parametrize("named", ["{}", "W/{}", '"x", {}', '"999" , W/{}', "{},{}"])
def test_what_the_caller_holds_is_304_without_a_body(named: str, acme: Tenant, workspace: str) -> None:
    tag = _tag(acme.owner, workspace)
    whole = acme.owner.get(workspace)
    answer = acme.owner.get(workspace, headers={"If-None-Match": named.replace("{}", tag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    for name in ("cache-control", "x-content-type-options"):
        assert answer.headers[name] == whole.headers[name]
    assert len(answer.headers["x-trace-id"]) == 32
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("named", ["*", "1", '"1', "W/1", '"1.0"', '"01"', '" 1"', '"-1"', "", ",", '"2"', "\\"])
def test_what_names_no_version_in_force_is_answered_whole(named: str, acme: Tenant, workspace: str) -> None:
    answer = acme.owner.get(workspace, headers={"If-None-Match": named})
    assert (answer.status_code, answer.json()["version"]) == (200, 1)


def test_two_headers_are_one_list(acme: Tenant, workspace: str) -> None:
    headers = [("If-None-Match", '"7"'), ("If-None-Match", _tag(acme.owner, workspace))]
    assert acme.owner.get(workspace, headers=headers).status_code == 304


def test_only_a_get_is_answered_so(acme: Tenant, workspace: str) -> None:
    tag = _tag(acme.owner, workspace)
    changed = acme.owner.patch(workspace, json={"name": "changed"}, headers={"If-None-Match": '"2"'})
    assert (changed.status_code, changed.json()["name"], changed.headers["etag"]) == (200, "changed", '"2"')
    assert _tag(acme.owner, workspace) != tag


def test_a_refusal_comes_first(
    installation: Installation, acme: Tenant, globex: Tenant, make_tenant: MakeTenant, workspace: str
) -> None:
    named = {"If-None-Match": _tag(acme.owner, workspace)}
    problem(globex.owner.get(workspace, headers=named), 404, "not_found")
    elsewhere = acme.as_role("viewer", acme.workspace("elsewhere"))
    problem(elsewhere.get(workspace, headers=named), 404, "not_found")
    problem(elsewhere.get(f"/tenants/{acme.id}", headers=named), 403, "permission_missing")
    made = acme.owner.post(f"{workspace}/keys", json={"name": "x", "roles": ["viewer"]})
    revoked = acme.as_key(made.json()["secret"])
    assert revoked.get(workspace, headers=named).status_code == 304
    assert acme.owner.delete(f"{workspace}/keys/{made.json()['id']}").status_code < 300
    problem(revoked.get(workspace, headers=named), 401, "credential_refused")
    closed = make_tenant()
    place = f"/tenants/{closed.id}"
    held = {"If-None-Match": _tag(closed.owner, place)}
    assert installation.platform.post(f"{place}/suspend", json={"reason": "test"}).status_code == 200
    problem(closed.owner.get(place, headers=held), 403, "tenant_suspended")


def test_a_304_is_a_read_in_the_trail(acme: Tenant, workspace: str) -> None:
    acme.owner.get(workspace, headers={"If-None-Match": _tag(acme.owner, workspace)})
    query = {"action": "workspace.read", "resource": workspace.rpartition("/")[2], "limit": "50"}
    for _ in range(200):
        if len(acme.owner.get("/audit", params=query).json()["items"]) == 2:
            return
    pytest.fail("a read of the two was not recorded")


def test_a_slug_may_come_to_mean_another_tenant(acme: Tenant) -> None:
    tag = _tag(acme.owner, f"/tenants/{acme.id}")
    assert acme.owner.get(f"/tenants/{acme.id}", headers={"If-None-Match": tag}).status_code == 304
    by_slug = acme.owner.get(f"/tenants/{acme.slug}", headers={"If-None-Match": tag})
    assert (by_slug.status_code, by_slug.headers["etag"]) == (200, tag)


def test_a_slug_of_an_environment_may_come_to_mean_another(acme: Tenant, workspace: str) -> None:
    for description in ("first", "second"):
        made = acme.owner.post(f"{workspace}/environments", json={"slug": "dev", "description": description})
        assert made.status_code == 201, made.text
        tag = made.headers["etag"]
        again = acme.owner.get(f"{workspace}/environments/dev", headers={"If-None-Match": tag})
        assert (again.status_code, again.json()["description"]) == (200, description)
        assert acme.owner.delete(f"{workspace}/environments/dev").status_code == 200


def test_an_artifact_that_the_caller_has_is_not_sent_again(acme: Tenant, workspace: str) -> None:
    body = {"command": ["sh", "-c", "echo kept > /outputs/kept.txt"], "artifacts": ["outputs/*"]}
    job = acme.owner.post(f"{workspace}/jobs", json=body, params={"wait": 60}).json()
    assert job["status"] == "succeeded", job
    place = f"{workspace}/jobs/{job['id']}/artifacts"
    (artifact,) = acme.owner.get(place).json()["items"]
    path = f"{place}/{artifact['id']}/content"
    whole = acme.owner.get(path)
    assert (whole.content, whole.headers["etag"]) == (b"kept\n", f'"{artifact["sha256"]}"')
    again = acme.owner.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", whole.headers["etag"])


# --- If-Match --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _row_held(installation: Installation, statement: str, row: UUID) -> AsyncIterator[Callable[[int], Any]]:
    """Hold a row while others come for it; gives what waits until so many stand in line."""
    user = EmbeddedPostgres(installation.home).superuser
    place = asdict(user) | {"database": "tenantry_us"}
    holder, watcher = await asyncpg.connect(**place), await asyncpg.connect(**place)

    async def wait_for(number: int) -> None:
        query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        for _ in range(2_000):
            if await watcher.fetchval(query) >= number:
                return
            await asyncio.sleep(0.005)
        pytest.fail("nobody came for the row")

    try:
        async with holder.transaction():
            await holder.execute(statement, row)
            yield wait_for
    finally:
        await holder.close()
        await watcher.close()


@pytest.mark.one_strategy
@pytest.mark.parametrize("noun", ["workspace", "tenant"])
async def test_of_racing_changes_on_one_version_exactly_one_wins(
    noun: str, installation: Installation, beside: Beside, make_tenant: MakeTenant
) -> None:
    """They come from two processes that share nothing but the database, and all stand before the row at once."""
    tenant = make_tenant(isolation="row_level")
    workspace = tenant.workspace("raced")
    path = f"/workspaces/{workspace}" if noun == "workspace" else f"/tenants/{tenant.id}"
    row = parse_id(Prefix.WORKSPACE, workspace) if noun == "workspace" else parse_id(Prefix.TENANT, tenant.id)
    hold = f"select from tenantry.{noun}s where {noun}_id = $1 for update"
    headers = {"Authorization": f"Bearer {tenant.bootstrap_key}"}
    running = httpx.AsyncClient(base_url=installation.api, headers=headers, timeout=60)
    async with running as one, beside.client(tenant.bootstrap_key) as other:
        async with asyncio.TaskGroup() as group, _row_held(installation, hold, row) as wait_for:
            racing = [
                group.create_task(
                    (one, other)[number % 2].patch(path, json={"name": f"racer {number}"}, headers={"If-Match": '"1"'})
                )
                for number in range(RACERS)
            ]
            await wait_for(8)
        now = (await other.get(path)).json()
    answers = [task.result() for task in racing]
    (winner,) = [answer for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer is not winner:
            assert problem(answer, 412, "version_mismatch")["current"] == '"2"'
    assert (now["version"], now["name"]) == (2, winner.json()["name"])
