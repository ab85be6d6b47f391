"""What events say about persons: never in clear, gone with the key or after a time, and no proof goes with it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.conftest import Installation, MakeTenant, Tenant

from tenantry.capabilities.audit.service import AuditService, forget, forgettable
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter
from tenantry.entrypoints.addresses import addresses_of, cell_database
from tenantry.entrypoints.forgetting import forget_old
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.places import schema_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.secrets import load_secrets
from tenantry.foundation.settings import load_settings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

pytestmark = pytest.mark.xdist_group("api")
ADDRESS = "127.0.0.1"


@pytest.fixture
def acting(make_tenant: MakeTenant) -> Tenant:
    return act(make_tenant(region="us"))


def act(tenant: Tenant) -> Tenant:
    """Do something, and wait until all of it is signed."""
    for number in range(3):
        tenant.workspace(f"w-{number}")
    newest = tenant.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"]
    deadline = time.monotonic() + 20
    while tenant.owner.get(f"/audit/proof/{newest}").status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return tenant


@pytest.fixture
async def superuser(installation: Installation) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    server = replace(EmbeddedPostgres(installation.home).superuser, database=cell_database("us"))
    connection = await asyncpg.connect(**asdict(server))
    yield connection
    await connection.close()


def made(tenant: Tenant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tenant.owner.get("/audit", params={"action": "workspace.created"}).json()["items"]
    return found


async def seen_by_another(installation: Installation, tenant: Tenant) -> list[AuditEvent]:
    """What a process sees that has read no key yet."""
    scope = TenantScope(parse_id(Prefix.TENANT, tenant.id), "us", SYSTEM)
    settings = load_settings(home=installation.home)
    async with open_parts(settings, regions=("us",), serves=False) as parts, parts.cells.session(scope) as session:
        audit = AuditService(session=session, clock=SystemClock())
        return await audit.list_events(AuditFilter(action="workspace.created"))


def verified(tenant: Tenant, file: Path) -> int:
    file.write_bytes(tenant.owner.get("/audit/export").content)
    return verify_bundle(file).size


async def test_an_address_is_shown_to_auditors_and_lies_nowhere_in_clear(
    acting: Tenant, superuser: Any, tmp_path: Path
) -> None:
    assert {(event["ip"], *event["withheld"]) for event in made(acting)} == {(ADDRESS,)}
    rows = await superuser.fetch(
        "select canonical, sealed from tenantry.audit_events where tenant_id = $1", parse_id(Prefix.TENANT, acting.id)
    )
    assert rows
    for row in rows:
        assert ADDRESS.encode() not in row["canonical"]
        assert ADDRESS.encode() not in (row["sealed"] or b"")
    assert sum("ip" in json.loads(row["canonical"]).get("committed", {}) for row in rows) >= 3
    assert verified(acting, tmp_path / "acme.audit")
    assert ADDRESS not in (tmp_path / "acme.audit").read_text()


async def test_without_the_tenants_key_it_is_gone_and_every_proof_stands(
    acting: Tenant, installation: Installation, superuser: Any, tmp_path: Path
) -> None:
    assert {event.ip for event in await seen_by_another(installation, acting)} == {ADDRESS}
    size = verified(acting, tmp_path / "before")
    await superuser.execute("delete from tenantry.keysets where tenant_id = $1", parse_id(Prefix.TENANT, acting.id))
    shredded = await seen_by_another(installation, acting)
    assert {(event.ip, event.withheld) for event in shredded} == {(None, ("ip",))}
    assert verified(acting, tmp_path / "after") >= size


async def test_what_was_sealed_beside_one_event_opens_beside_no_other(
    acting: Tenant, installation: Installation, superuser: Any
) -> None:
    first, second, _ = (parse_id(Prefix.AUDIT_EVENT, event["id"]) for event in made(acting))
    await superuser.execute(
        """update tenantry.audit_events e set sealed = o.sealed from tenantry.audit_events o
           where e.event_id = $1 and o.event_id = $2""",
        first,
        second,
    )
    found = {event.event_id: event for event in await seen_by_another(installation, acting)}
    assert (found[first].ip, found[first].withheld) == (None, ("ip",))
    assert found[second].ip == ADDRESS


async def test_after_its_time_it_is_forgotten_and_nothing_else_is(
    acting: Tenant, installation: Installation, tmp_path: Path
) -> None:
    settings, secrets = load_settings(home=installation.home), load_secrets(installation.home)
    tenant = parse_id(Prefix.TENANT, acting.id)
    times = [datetime.fromisoformat(event["occurred_at"]) for event in reversed(made(acting))]
    pool = await open_pool(addresses_of(settings, secrets).cells["us"].sealer, search_path="tenantry", max_size=1)
    try:
        now = datetime.now(UTC)
        async with platform_session(pool) as connection:
            found, further = await forget(connection, tenant_id=tenant, before=times[2], now=now)
        assert (found >= 2, further) == (True, False)
        assert [event["ip"] for event in made(acting)] == [ADDRESS, None, None]
        assert [event["withheld"] for event in made(acting)] == [[], ["ip"], ["ip"]]
        async with platform_session(pool) as connection:
            assert await forget(connection, tenant_id=tenant, before=times[2], now=now) == (0, False)
            assert tenant not in await forgettable(connection, before=times[2], after=None)
            found, _ = await forget(connection, tenant_id=tenant, before=now + timedelta(days=1), now=now)
        assert found >= 1
        assert {event["ip"] for event in made(acting)} == {None}
        assert all(event["details"]["path"] for event in made(acting))
        for statement in ("update audit_events set sealed = 'x'", "update audit_events set action = 'x'"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with platform_session(pool) as connection:
                    await connection.execute(statement)
    finally:
        await pool.close()
    assert verified(acting, tmp_path / "after")


class RoundsOfOne(Rounds):
    """Goes where one tenant's schema is and nowhere else: the others of this installation are not these tests' own."""

    schema = ""

    async def databases(self) -> "AsyncIterator[tuple[str, Pool, list[str]]]":
        async for place, pool, schemas in super().databases():
            yield place, pool, [schema for schema in schemas if schema == self.schema]


class InTwoDays(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(days=2)


async def test_the_server_forgets_after_the_days_it_was_told_and_says_so_in_the_trail(
    make_tenant: MakeTenant, installation: Installation
) -> None:
    acting = act(make_tenant(region="us", isolation="schema_level"))
    async with open_parts(load_settings(home=installation.home), regions=("us",), serves=False) as parts:
        cell = parts.cells.get("us")
        dsn = parts.addresses.cells["us"].sealer
        rounds = RoundsOfOne(dsn, region="us", directory=parts.directory, clock=parts.clock)
        placement = await parts.directory.get(parse_id(Prefix.TENANT, acting.id))
        rounds.schema = schema_at(placement.placement)
        try:
            await forget_old(rounds, cell, days=1, clock=parts.clock)
            assert {event["ip"] for event in made(acting)} == {ADDRESS}, "they are younger than a day"
            await forget_old(rounds, cell, days=1, clock=InTwoDays())
        finally:
            await rounds.close()
    assert {event["ip"] for event in made(acting)} == {None}
    (told,) = acting.owner.get("/audit", params={"action": "audit.personal_forgotten"}).json()["items"]
    assert told["actor"]["type"] == "system"
    assert told["details"]["count"] >= 3


def test_who_is_asked_for_at_the_command_line_is_forgotten_by_the_server(acting: Tenant, tmp_path: Path) -> None:
    """The whole of it: the request, the sealer's loop, the trail, the bundle from before."""
    size = verified(acting, tmp_path / "before")
    actor = made(acting)[0]["actor"]["id"]
    entry = "from tenantry.interfaces.cli.app import build_app; build_app()(prog_name='tenantry')"
    asked = subprocess.run(
        [sys.executable, "-c", entry, "--output", "json", "audit", "forget", actor, "--wait"],
        env={
            **os.environ,
            "TENANTRY_URL": acting.installation.url,
            "TENANTRY_KEY": acting.bootstrap_key,
            "TENANTRY_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    told = json.loads(asked.stdout)
    assert (told["state"], told["principal"]) == ("done", actor)
    assert told["forgotten"] >= 3
    assert {(event["ip"], *event["withheld"]) for event in made(acting)} == {(None, "ip")}
    assert verify_bundle(tmp_path / "before").size == size
    assert verified(acting, tmp_path / "after") >= size
    [event] = acting.owner.get("/audit", params={"action": "audit.person_forgotten"}).json()["items"]
    assert event["details"] == {"principal": actor, "count": told["forgotten"]}
