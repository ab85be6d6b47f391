"""Tenants of every strategy in both regions, seen from their databases as well as from outside."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.conftest import Installation, MakeTenant
from tests.integration.sandboxes.ground import Ground

from tenantry.entrypoints.addresses import provisioner_of
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.places import dsn_at

MakeGround = Callable[..., Ground]


@pytest.fixture
def make_ground(make_tenant: MakeTenant) -> MakeGround:
    """Make a tenant with one workspace that keeps its content."""

    def make(**fields: object) -> Ground:
        tenant = make_tenant(**fields)
        workspace = tenant.workspace(settings={"persistence_mode": "full"})
        return Ground(tenant, workspace, tenant.owner)

    return make


@pytest.fixture(scope="session")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    """What a server is made of, beside the running one."""
    async with open_parts(installation.settings) as opened:
        yield opened


class Eyes:
    """The superuser's eyes: whatever is there, whoever may see it."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    @asynccontextmanager
    async def on(self, database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        superuser = provisioner_of(self._installation.settings, "us")
        assert superuser is not None
        connection = await asyncpg.connect(dsn_at(superuser, database))
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, database: str, tenant: object) -> dict[str, dict[str, int]]:
        """Count a tenant's rows by schema and table, in every table with a tenant_id."""
        found: dict[str, dict[str, int]] = {}
        async with self.on(database) as connection:
            tables = await connection.fetch(
                """select n.nspname as schema, c.relname as name from pg_class c
                   join pg_namespace n on n.oid = c.relnamespace
                   join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
                   where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')"""
            )
            for schema, name in tables:
                query = f"select count(*) from {schema}.{name} where tenant_id = $1"
                if count := await connection.fetchval(query, tenant):
                    found.setdefault(schema, {})[name] = count
        return found

    async def databases(self) -> set[str]:
        async with self.on("postgres") as connection:
            return {row["datname"] for row in await connection.fetch("select datname from pg_database")}

    async def schemas(self, database: str) -> set[str]:
        async with self.on(database) as connection:
            return {row["nspname"] for row in await connection.fetch("select nspname from pg_namespace")}


@pytest.fixture(scope="session")
def eyes(installation: Installation) -> Eyes:
    return Eyes(installation)
