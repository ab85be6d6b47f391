"""Quotas and usage, counted from a tenant's own rows; counters that only go where they may."""

import asyncio
import io
import secrets
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import ShiftedClock, problem

from tenantry.capabilities.identity.service import UserCount
from tenantry.capabilities.sandboxes.service import StoredContent
from tenantry.capabilities.tenants.service import UsageService, load_plans
from tenantry.capabilities.tenants.service.usage import MAX_AMOUNT
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import Clock, SystemClock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Conflict, Invalid
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

pytestmark = pytest.mark.xdist_group("api")

_ARTIFACT = 5000


def _usage(tenant: Tenant) -> dict[str, Any]:
    answer = tenant.owner.get(f"/tenants/{tenant.id}/usage")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _until(tenant: Tenant, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while not fits(found := _usage(tenant)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def _service(session: TenantSession, clock: Clock | None = None) -> UsageService:
    sources = (UserCount(), StoredContent())
    return UsageService(session=session, sources=sources, plans=load_plans(), clock=clock or SystemClock())


def _scope(tenant: Tenant) -> TenantScope:
    return TenantScope(tenant_id=parse_id(Prefix.TENANT, tenant.id), region=tenant.region, actor=SYSTEM)


async def _count(parts: Parts, tenant: Tenant, name: str, amount: int = 1, *, clock: Clock | None = None) -> int:
    async with parts.cells.session(_scope(tenant)) as session:
        return await _service(session, clock).increment_usage(name, amount)


@pytest.fixture(params=["us", "eu"])
def tenant(request: pytest.FixtureRequest, make_tenant: MakeTenant) -> Tenant:
    return make_tenant(region=request.param, plan="free")


def test_a_new_tenant_uses_its_owner_and_nothing_else(tenant: Tenant) -> None:
    assert _usage(tenant) == {
        "current_users": 1,
        "current_projects": 0,
        "tokens_this_month": 0,
        "concurrent_agents": 0,
        "storage_used_bytes": 0,
        "storage_used_gb": 0.0,
        "storage_bytes": {},
        "by_workspace": [],
        "month": f"{datetime.now(UTC):%Y-%m}",
    }


def test_each_quota_tells_what_is_used_of_what(tenant: Tenant) -> None:
    found = tenant.owner.get(f"/tenants/{tenant.id}/quotas").json()
    plain = {"unlimited": False, "exceeded": False}
    assert found == {
        "users": {"current": 1, "limit": 1, "unlimited": False, "exceeded": True},
        "projects": {"current": 0, "limit": 3, **plain},
        "tokens": {"current": 0, "limit": 100_000, **plain},
        "storage": {"current": 0, "limit": 1, **plain},
        "concurrent_agents": {"current": 0, "limit": 2, **plain},
    }


def test_archived_workspaces_take_no_place(tenant: Tenant, installation: Installation) -> None:
    workspaces = [tenant.workspace(name) for name in ("a", "b")]
    tenant.owner.post(f"/workspaces/{workspaces[0]}/suspend", json={"reason": "x"})
    path = f"/tenants/{tenant.id}"
    installation.platform.patch(path, json={"quotas": {"maxProjects": 2, "maxUsers": "unlimited"}})
    full = tenant.owner.get(f"{path}/quotas").json()
    assert full["projects"] == {"current": 2, "limit": 2, "unlimited": False, "exceeded": True}
    assert full["users"] == {"current": 1, "limit": None, "unlimited": True, "exceeded": False}
    tenant.owner.delete(f"/workspaces/{workspaces[1]}")
    assert tenant.owner.get(f"{path}/quotas").json()["projects"]["current"] == 1
    assert _usage(tenant)["current_projects"] == 1


def test_a_quota_of_nothing_is_exceeded_by_nothing(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(plan="free", quotas={"maxConcurrentAgents": 0})
    found = tenant.owner.get(f"/tenants/{tenant.id}/quotas").json()["concurrent_agents"]
    assert (found["current"], found["exceeded"]) == (0, True)


def test_storage_is_what_is_kept_by_kind_and_workspace(make_tenant: MakeTenant) -> None:
    """Of each job its inputs, artifacts and the log so far, and images."""
    tenant = make_tenant(region="eu")
    one, other = tenant.workspace("one"), tenant.workspace("other")
    command = ["sh", "-c", f"echo hello; head -c {_ARTIFACT} /dev/zero > out.bin"]
    job = tenant.owner.post(
        f"/workspaces/{one}/jobs", params={"wait": 60}, json={"command": command, "artifacts": ["out.bin"]}
    ).json()
    assert job["status"] == "succeeded", job
    found = _usage(tenant)
    assert found["storage_bytes"]["artifacts"] == _ARTIFACT
    logged = found["storage_bytes"]["job_logs"]
    assert 0 < logged < 1000
    archive = _image()
    query = {"name": "tiny", "format": "directory"}
    made = tenant.owner.post(f"/workspaces/{other}/images", params=query, content=archive, headers=_TAR)
    assert made.status_code == 201, made.text
    image = made.json()["size_bytes"]
    assert image >= len(archive), "what its root takes, not what was sent"
    found = _usage(tenant)
    assert found["storage_bytes"]["images"] == image
    total = image + _ARTIFACT + logged
    assert (found["storage_used_bytes"], found["storage_used_gb"]) == (total, total / 10**9)
    shown = {each["workspace"]: each["storage_used_bytes"] for each in found["by_workspace"]}
    assert shown == {one: _ARTIFACT + logged, other: image}
    assert [*shown] == sorted(shown, key=lambda place: -shown[place])
    quota = tenant.owner.get(f"/tenants/{tenant.id}/quotas").json()["storage"]
    assert quota["current"] == total / 10**9


def test_inputs_count_while_they_are_kept_and_the_environment_until_the_job_ends(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    workspace = tenant.workspace(settings={"persistence_mode": "full"})
    body = {
        "command": ["sleep", "300"],
        "inputs": [{"path": "a", "content_base64": "QUFB" * 1000}],
        "env": {"A": "a" * 2000},
    }
    job = tenant.owner.post(f"/workspaces/{workspace}/jobs", json=body).json()
    assert 5000 < _usage(tenant)["storage_bytes"]["inputs"] < 6000
    tenant.owner.post(f"/workspaces/{workspace}/jobs/{job['id']}/cancel")
    _until(tenant, lambda found: 3000 < found["storage_bytes"]["inputs"] < 4000)


def test_what_is_purged_counts_no_more(make_tenant: MakeTenant, installation: Installation) -> None:
    async def purge(scope: TenantScope) -> None:
        async with open_parts(installation.settings) as parts, parts.cells.session(scope) as session:
            await session.execute(
                "update jobs set content_purged_at = now() where tenant_id = $1", session.scope.tenant_id
            )

    tenant = make_tenant()
    workspace = tenant.workspace()
    tenant.owner.post(f"/workspaces/{workspace}/jobs", params={"wait": 60}, json={"command": ["echo", "hello"]})
    assert _usage(tenant)["storage_bytes"]["job_logs"]
    asyncio.run(purge(_scope(tenant)))
    assert _usage(tenant)["storage_used_bytes"] == 0


def test_nothing_of_another_tenant_is_counted_or_shown(
    make_tenant: MakeTenant, acme: Tenant, globex: Tenant, installation: Installation
) -> None:
    """In one cell: the neighbour's workspaces, jobs and images are nobody's but its own."""
    busy, idle = make_tenant(region="us"), make_tenant(region="us")
    workspace = busy.workspace()
    body = {"command": ["echo", "hello"]}
    busy.owner.post(f"/workspaces/{workspace}/jobs", params={"wait": 60}, json=body)
    query = {"name": "tiny", "format": "directory"}
    busy.owner.post(f"/workspaces/{workspace}/images", params=query, content=_image(), headers=_TAR)
    assert _usage(busy)["storage_used_bytes"] > 0
    found = _usage(idle)
    assert (found["storage_used_bytes"], found["current_projects"], found["current_users"]) == (0, 0, 1)
    for name in ("usage", "quotas"):
        for stranger in (acme, globex, idle):
            problem(stranger.owner.get(f"/tenants/{busy.id}/{name}"), 403, "tenant_mismatch")
    seen = installation.platform.get(f"/tenants/{busy.id}/usage").json()
    assert seen["storage_used_bytes"] == _usage(busy)["storage_used_bytes"]
    assert set(seen["by_workspace"][0]) == {"workspace", "storage_used_bytes", "storage_bytes"}


def test_a_workspaces_reader_does_not_read_the_tenants_usage(acme: Tenant, dev: str) -> None:
    for name in ("usage", "quotas"):
        problem(acme.as_role("viewer", dev).get(f"/tenants/{acme.id}/{name}"), 403, "permission_missing")


# --- counters --------------------------------------------------------------------------------------------------------


async def test_counters_add_up_when_many_count_at_once(installation: Installation, tenant: Tenant) -> None:
    async with open_parts(installation.settings) as parts:
        counted = await asyncio.gather(*(_count(parts, tenant, "tokens", 7) for _ in range(30)))
        assert sorted(counted) == [7 * n for n in range(1, 31)]
        await asyncio.gather(*(_count(parts, tenant, "concurrent_agents") for _ in range(6)))
        given_back = await asyncio.gather(
            *(_count(parts, tenant, "concurrent_agents", -1) for _ in range(8)), return_exceptions=True
        )
    assert sum(isinstance(each, Conflict) for each in given_back) == 2
    found = await asyncio.to_thread(_usage, tenant)
    assert (found["tokens_this_month"], found["concurrent_agents"]) == (210, 0)


async def test_a_counter_counts_for_its_own_tenant_only(installation: Installation, make_tenant: MakeTenant) -> None:
    mine, theirs = make_tenant(region="us"), make_tenant(region="us")
    async with open_parts(installation.settings) as parts:
        await _count(parts, mine, "tokens", 100)
    assert _usage(mine)["tokens_this_month"] == 100
    assert _usage(theirs)["tokens_this_month"] == 0


@pytest.mark.parametrize(
    ("name", "amount", "code"),
    [
        ("current_users", 1, "usage_unknown"),
        ("storage", 1, "usage_unknown"),
        ("", 1, "usage_unknown"),
        ("tokens' or true --", 1, "usage_unknown"),
        ("tokens", float("nan"), "usage_amount_invalid"),
        ("tokens", float("inf"), "usage_amount_invalid"),
        ("tokens", 1.0, "usage_amount_invalid"),
        ("tokens", "1", "usage_amount_invalid"),
        ("tokens", True, "usage_amount_invalid"),
        ("tokens", None, "usage_amount_invalid"),
        ("tokens", MAX_AMOUNT + 1, "usage_amount_invalid"),
        ("tokens", -(10**400), "usage_amount_invalid"),
    ],
    ids=str,
)
async def test_what_cannot_be_counted_is_refused(name: str, amount: Any, code: str, installation: Installation) -> None:
    async with open_parts(installation.settings) as parts:
        scope = TenantScope(tenant_id=parse_id(Prefix.TENANT, f"ten_{'0' * 26}"), region="us", actor=SYSTEM)
        session = parts.cells.session(scope)
        with pytest.raises(Invalid) as error:
            await _service(session).increment_usage(name, amount)
    assert error.value.code == code


async def test_a_counter_stays_between_zero_and_what_json_carries(installation: Installation, acme: Tenant) -> None:
    async with open_parts(installation.settings) as parts:
        for name, amount in (("concurrent_agents", -1), ("tokens", -1)):
            with pytest.raises(Conflict, match="below zero"):
                await _count(parts, acme, name, amount)
        assert await _count(parts, acme, "tokens", MAX_AMOUNT) == MAX_AMOUNT
        with pytest.raises(Conflict, match="beyond"):
            await _count(parts, acme, "tokens", 1)
        assert await _count(parts, acme, "tokens", -MAX_AMOUNT) == 0


async def test_a_month_begins_with_no_tokens_and_keeps_its_agents(installation: Installation, tenant: Tenant) -> None:
    later = ShiftedClock()
    later.ahead = timedelta(days=40)
    async with open_parts(installation.settings) as parts:
        await _count(parts, tenant, "tokens", 5)
        await _count(parts, tenant, "concurrent_agents", 2)
        assert await _count(parts, tenant, "tokens", 3, clock=later) == 3
        async with parts.cells.session(_scope(tenant)) as session:
            now, then = await _service(session).measure(), await _service(session, later).measure()
    assert (now.tokens_this_month, now.concurrent_agents) == (5, 2)
    assert (then.tokens_this_month, then.concurrent_agents) == (3, 2)
    assert then.month.day == 1
    assert then.month.tzinfo is UTC


async def test_what_is_rolled_back_was_never_counted(installation: Installation, tenant: Tenant) -> None:
    async with open_parts(installation.settings) as parts:
        session = parts.cells.session(_scope(tenant))
        assert await _service(session).increment_usage("tokens", 9) == 9
        await session.rollback()
    found = await asyncio.to_thread(_usage, tenant)
    assert found["tokens_this_month"] == 0


_TAR = {"Content-Type": "application/x-tar"}


def _image() -> bytes:
    """A directory archive with one file that nobody else has."""
    content = secrets.token_bytes(2000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
