"""Cells and the directory: a process serves the regions it has, and the directory knows where, not what."""

# ruff: noqa: PT012 - a session is its block: what is refused stands inside of it

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from tests.integration.database.ground import Database, Ground, scope_of

from tenantry.capabilities.tenants.service import Directory
from tenantry.capabilities.tenants.types import Isolation, Placement, TenantStatus
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.places import SHARED
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.errors import Conflict, Fault, WrongRegion

pytestmark = pytest.mark.xdist_group("database")

# All that the directory may ever hold. A column joins this list by a decision, not by a migration.
DIRECTORY = {
    ("tenants", "tenant_id", "uuid"),
    ("tenants", "slug", "text"),
    ("tenants", "region", "text"),
    ("tenants", "isolation", "text"),
    ("tenants", "placement", "text"),
    ("tenants", "status", "text"),
    ("tenants", "created_at", "timestamp with time zone"),
    ("workspaces", "workspace_id", "uuid"),
    ("workspaces", "tenant_id", "uuid"),
    ("workspaces", "region", "text"),
    ("workspaces", "created_at", "timestamp with time zone"),
    *(
        ("operations", name, "text")
        for name in (
            *("kind", "status", "step", "ending", "failure", "requested_by", "confirmed_by", "cancelled_by"),
            *("source_region", "source_isolation", "source_placement"),
            *("target_region", "target_isolation", "target_placement"),
        )
    ),
    *(("operations", name, "uuid") for name in ("operation_id", "tenant_id")),
    *(
        ("operations", name, "timestamp with time zone")
        for name in ("due_at", "step_since", "lease_until", "created_at", "updated_at")
    ),
    ("operations", "epoch", "bigint"),
    ("operations", "grace_seconds", "integer"),
}


async def test_a_region_that_is_not_served_is_refused(ground: Ground) -> None:
    async with ground.database("us").cell() as cell:
        cells = Cells({"us": cell})
        assert cells.get("us") is cell
        assert list(cells) == [cell]
        for region in ("eu", "", "US", "us ", "../us"):
            with pytest.raises(WrongRegion) as refused:
                cells.get(region)
            assert refused.value.code == "wrong_region"
            with pytest.raises(WrongRegion):
                cells.session(scope_of(uuid4(), region=region))


async def test_a_context_of_one_cell_is_refused_by_the_other(ground: Ground) -> None:
    """The same tenant id in both: each cell has a key of its own."""
    us, eu = ground.database("us"), ground.database("eu")
    tenant = await us.make_tenant()
    await eu.alter(f"insert into fence.tenant_state (tenant_id, mode, home) values ('{tenant}', 'active', 'tenantry')")
    async with Database(ground, eu.name, "us").cell() as confused:
        with pytest.raises(Fault) as refused:
            async with confused.session(scope_of(tenant)) as session:
                await session.fetchval("select count(*) from jobs")
    assert refused.value.code == "context_refused"
    async with us.cell() as cell, cell.session(scope_of(tenant)) as session:
        assert await session.fetchval("select count(*) from jobs") == 1


async def test_a_cell_answers_a_ping(ground: Ground) -> None:
    async with ground.database().cell() as cell:
        await cell.ping()


async def test_the_directory_holds_where_and_nothing_else(ground: Ground) -> None:
    connection = await asyncpg.connect(ground.dsn("tenantry_directory", "tenantry_directory"))
    try:
        columns = await connection.fetch(
            """select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) as type
               from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
               where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
                 and c.relkind in ('r', 'v', 'm', 'p')
                 and a.attnum > 0 and not a.attisdropped and c.relname <> 'alembic_version'"""
        )
        assert {tuple(column) for column in columns} == DIRECTORY
        for statement in (
            "create table directory.loot (id int)",
            "create temporary table loot (id int)",
            "truncate directory.tenants cascade",
            "alter table directory.tenants add column email text",
            "drop table directory.tenants",
            "select version_num from directory.alembic_version",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_slug_is_placed_once_and_an_abandoned_reservation_is_taken_over(ground: Ground) -> None:
    directory = Directory(
        await open_pool(ground.dsn("tenantry_directory", "tenantry_directory"), search_path="directory", max_size=2)
    )
    try:
        now = SystemClock().now()
        first = Placement(uuid4(), "acme", "us", Isolation.ROW_LEVEL, SHARED, TenantStatus.PENDING, now)
        reserved = await directory.reserve(first)
        assert reserved.tenant_id == first.tenant_id
        again = replace(first, tenant_id=uuid4(), created_at=now + timedelta(seconds=29))
        with pytest.raises(Conflict) as taken:
            await directory.reserve(again)
        assert taken.value.code == "slug_taken"
        late = replace(again, created_at=now + timedelta(seconds=31))
        with pytest.raises(Conflict):
            await directory.reserve(replace(late, region="eu"))
        assert (await directory.reserve(late)).tenant_id == first.tenant_id
        await directory.set_status(first.tenant_id, TenantStatus.ACTIVE)
        with pytest.raises(Conflict):
            await directory.reserve(replace(late, created_at=now + timedelta(days=1)))
        platform = await directory.get("platform")
        with pytest.raises(Conflict):
            await directory.reserve(
                Placement(uuid4(), "platform", "us", Isolation.ROW_LEVEL, SHARED, TenantStatus.PENDING, now)
            )
        assert platform.status is TenantStatus.ACTIVE
        for slug in ("A", "a", "ü" * 4, "a\n", "a" * 41, "a b"):
            with pytest.raises(asyncpg.CheckViolationError):
                await directory.reserve(replace(first, tenant_id=uuid4(), slug=slug))
    finally:
        await directory.close()


async def test_a_platform_session_is_one_transaction(ground: Ground) -> None:
    pool = await open_pool(ground.dsn("tenantry_directory", "tenantry_directory"), search_path="directory", max_size=1)
    tenant = uuid4()
    insert = """insert into tenants (tenant_id, slug, region, isolation, placement, status)
                values ($1, $2, 'us', 'row_level', 'us', 'pending')"""
    try:
        with pytest.raises(ZeroDivisionError):
            async with platform_session(pool) as directory:
                await directory.execute(insert, tenant, f"t-{tenant.hex[:10]}")
                raise ZeroDivisionError
        async with platform_session(pool) as directory:
            assert await directory.fetchval("select count(*) from tenants where tenant_id = $1", tenant) == 0
    finally:
        await pool.close()
