"""Each strategy for real: where the rows lie, and that nobody reaches them by another way."""

import time

import asyncpg
import pytest
from tests.conftest import MakeTenant
from tests.integration.places.conftest import Eyes, MakeGround
from tests.integration.sandboxes.ground import until_async
from tests.schedule import STRATEGIES

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.types import Isolation
from tenantry.entrypoints.addresses import DIRECTORY_DATABASE, cell_database, provisioner_of
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.database.places import SHARED, database_of, dsn_at, schema_of
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.errors import TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope


@pytest.mark.parametrize("region", ["us", "eu"])
@pytest.mark.parametrize("isolation", STRATEGIES)
async def test_a_tenant_has_its_rows_where_its_strategy_says_and_nowhere_else(
    make_ground: MakeGround, eyes: Eyes, isolation: str, region: str
) -> None:
    ground = make_ground(isolation=isolation, region=region)
    job = ground.run("sh", "-c", "echo said; echo kept > file", artifacts=["file"])
    assert job["status"] == "succeeded", job
    assert ground.lines(job["id"], "stdout") == "said\n"
    assert list(ground.artifacts(job["id"])) == ["file"]
    tenant, cell = ground.tenant_id, cell_database(region)
    own = database_of(region, tenant)
    found = {
        database: await eyes.rows(database, tenant)
        for database in sorted(await eyes.databases())
        if "tenantry" in database
    }
    seats = {
        (database, schema)
        for database, schemas in found.items()
        for schema in schemas
        if schema not in ("fence", "queue", "directory")
    }
    wanted = {
        "row_level": {(cell, SHARED)},
        "schema_level": {(cell, schema_of(tenant))},
        "database_level": {(own, SHARED)},
    }
    assert seats == wanted[isolation]
    (database, schema) = seats.pop()
    assert {"tenants", "jobs", "job_logs", "artifacts", "audit_events", "keysets"} <= set(found[database][schema])
    assert ground.tenant.owner.get(f"/tenants/{ground.tenant.id}").json()["isolation"] == isolation


@pytest.mark.parametrize("isolation", STRATEGIES)
async def test_events_get_their_sequence_without_gaps(make_ground: MakeGround, isolation: str) -> None:
    ground = make_ground(isolation=isolation)
    ground.run("true")

    def sequences() -> list[int] | None:
        items = ground.tenant.owner.get("/audit", params={"limit": 200}).json()["items"]
        # The reading of the trail is itself an event, which comes a moment later.
        numbers = [item["sequence"] for item in items if item["action"].startswith(("job.", "tenant.created"))]
        return numbers if all(numbers) else None

    found = await until_async(sequences)
    assert found
    assert len(found) == len(set(found))


async def test_a_session_at_anothers_place_is_refused_by_the_place(make_tenant: MakeTenant, parts: Parts) -> None:
    """As a process whose cache is wrong would open it; lifecycle work too, since what it wrote would be lost."""
    tenants = {isolation: make_tenant(isolation=isolation) for isolation in STRATEGIES}
    ids = {isolation: parse_id(Prefix.TENANT, tenant.id) for isolation, tenant in tenants.items()}
    places = {
        "row_level": SHARED,
        "schema_level": schema_of(ids["schema_level"]),
        "database_level": database_of("us", ids["database_level"]),
    }
    cell = parts.cells.get("us")
    for whose, tenant_id in ids.items():
        scope = TenantScope(tenant_id=tenant_id, region="us", actor=SYSTEM)
        for at, place in places.items():
            for lifecycle in (False, True):
                session = await cell.session_at(place, scope, lifecycle=lifecycle)
                async with session:
                    if whose == at:
                        assert await session.fetchval("select count(*) from tenants") == 1
                        continue
                    if lifecycle and at == "database_level":
                        # A database that never heard of the tenant has nothing of it to lose or to show.
                        assert await session.fetchval("select count(*) from tenants") == 0
                        continue
                    with pytest.raises(TenantryError) as refused:
                        await session.fetchval("select count(*) from tenants")
                    assert refused.value.code in ("tenant_moved", "tenant_unknown"), (whose, at)
                    await session.rollback()


async def test_injected_sql_does_not_leave_the_schema_by_its_search_path(make_tenant: MakeTenant, parts: Parts) -> None:
    """Another tenant's schema, and the shared one: named outright, they show no row."""
    mine, theirs, shared = (
        parse_id(Prefix.TENANT, make_tenant(isolation=isolation).id)
        for isolation in ("schema_level", "schema_level", "row_level")
    )
    cell = parts.cells.get("us")
    for attack in (f"{schema_of(theirs)}.tenants", "tenantry.tenants"):
        async with cell.session(TenantScope(tenant_id=mine, region="us", actor=SYSTEM)) as session:
            assert await session.fetchval("select count(*) from tenants") == 1
            with pytest.raises(Unavailable, match="moved"):
                await session.fetch(f"select tenant_id from {attack}")
            await session.rollback()
    scope = TenantScope(tenant_id=shared, region="us", actor=SYSTEM)
    async with cell.session(scope) as session:
        with pytest.raises(Unavailable, match="moved"):
            await session.fetch(f"select tenant_id from {schema_of(mine)}.tenants")
        await session.rollback()


async def test_the_application_may_neither_make_nor_drop_places(parts: Parts, make_tenant: MakeTenant) -> None:
    tenant = parse_id(Prefix.TENANT, make_tenant(isolation="schema_level").id)
    connection = await asyncpg.connect(parts.addresses.cells["us"].app)
    try:
        for statement in (
            "create schema t_loot",
            f"drop schema {schema_of(tenant)} cascade",
            f"create table {schema_of(tenant)}.loot (id int)",
            f"alter schema {schema_of(tenant)} owner to tenantry_app",
            "create database loot",
            "select fence.place_tenant('active', 'tenantry')",
            "select fence.forget_tenant()",
        ):
            with pytest.raises(asyncpg.PostgresError, match=r"permission denied|must be owner"):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("isolation", STRATEGIES)
def test_a_suspension_reaches_what_runs_within_a_second(make_ground: MakeGround, isolation: str) -> None:
    ground = make_ground(isolation=isolation)
    job = ground.start("sleep", "60")
    ground.until_status(job, "running")
    suspended = ground.installation.platform.post(f"/tenants/{ground.tenant.id}/suspend", json={"reason": "unpaid"})
    assert suspended.status_code == 200, suspended.text
    begun = time.monotonic()
    assert ground.post("true").status_code == 403
    # Its slot is free: the whole of the machine's other slots are taken by another tenant's jobs meanwhile.
    other = make_ground(isolation="row_level")
    slots = ground.installation.settings.jobs.slots
    for started in [other.start("sleep", "0.2") for _ in range(slots)]:
        assert other.ended(started)["status"] == "succeeded"
    assert time.monotonic() - begun < 10
    ground.installation.platform.post(f"/tenants/{ground.tenant.id}/resume")
    ended = ground.job(job)
    assert (ended["status"], ended["reason"]) == ("cancelled", "tenant_suspended")


async def test_what_is_not_offered_is_refused(parts: Parts) -> None:
    assert parts.places.offers("us") == frozenset(Isolation)


async def test_a_look_for_own_places_reads_none_of_those_who_share(parts: Parts) -> None:
    """Each loop that goes round a cell looks each second, however many tenants there are."""
    superuser = provisioner_of(parts.settings, "us")
    assert superuser is not None
    pool = await open_pool(dsn_at(superuser, DIRECTORY_DATABASE), search_path="directory", max_size=1)
    async with pool, pool.acquire() as connection:
        crowd = connection.transaction()
        await crowd.start()
        try:
            await connection.execute(
                """insert into directory.tenants (tenant_id, slug, region, isolation, placement, status)
                   select gen_random_uuid(), 'crowd-' || number, 'us', 'row_level', 'tenantry', 'active'
                   from generate_series(1, 5000) as number"""
            )
            await connection.execute(
                """insert into directory.tenants (tenant_id, slug, region, isolation, placement, status)
                   values (gen_random_uuid(), 'crowd-own', 'us', 'schema_level', 't_crowd', 'active')"""
            )
            await connection.execute("analyze directory.tenants")
            assert "t_crowd" in await repository.list_places(connection, "us")
            read = await connection.fetchval(
                """select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables
                   where relid = 'directory.tenants'::regclass"""
            )
        finally:
            await crowd.rollback()
    assert read < 1000
