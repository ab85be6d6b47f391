"""Places that are away, or of an older release, when the installation starts: they keep nobody else from it."""

import subprocess
import sys
from functools import partial

import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.places.conftest import Eyes
from tests.integration.sandboxes.ground import away

from tenantry.entrypoints.addresses import cell_database
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.migrate import head_revision
from tenantry.foundation.database.places import database_of, schema_of
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope


def prepared(installation: Installation) -> str:
    """Prepare the databases as each start does; gives what it complains of."""
    command = [sys.executable, "-m", "tenantry.entrypoints.prepare", str(installation.home)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stderr


async def read(parts: Parts, tenant: Tenant) -> bool:
    scope = TenantScope(tenant_id=parse_id(Prefix.TENANT, tenant.id), region=tenant.region, actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        return bool(await session.fetchval("select count(*) = 1 from tenants"))


async def note(eyes: Eyes, tenant: Tenant, revision: str, *, apart: bool) -> None:
    tenant_id = parse_id(Prefix.TENANT, tenant.id)
    database = database_of(tenant.region, tenant_id) if apart else cell_database(tenant.region)
    async with eyes.on(database) as connection:
        schema = "fence" if apart else schema_of(tenant_id)
        await connection.execute(f"comment on table {schema}.alembic_version is '{revision}'")


@pytest.mark.parametrize("isolation", ["schema_level", "database_level"])
async def test_one_of_an_older_release_refuses_its_tenant_until_it_is_brought_up(
    isolation: str, make_tenant: MakeTenant, eyes: Eyes
) -> None:
    own, other = make_tenant(isolation=isolation), make_tenant()
    noted = partial(note, eyes, own, apart=isolation == "database_level")
    await noted("0001")
    async with open_parts(own.installation.settings) as parts:
        with pytest.raises(Unavailable) as refused:
            await read(parts, own)
        assert refused.value.code == "place_behind"
        assert await read(parts, other)
        await noted("")
        with pytest.raises(Unavailable):
            await read(parts, own)
        assert prepared(own.installation) == ""
        assert await read(parts, own)
        await noted(f"{head_revision('cell')}a")
    async with open_parts(own.installation.settings) as parts:
        assert await read(parts, own), "one that a newer release has brought on already"


async def test_one_that_is_away_is_told_and_keeps_no_start_from_all_others(make_tenant: MakeTenant) -> None:
    """Red once where the first that could not be prepared ended it."""
    tenant, other = make_tenant(isolation="database_level"), make_tenant(isolation="schema_level")
    async with away(tenant):
        told = prepared(tenant.installation)
        assert tenant.id in told
        assert "not currently accepting connections" in told
        assert len(told.splitlines()) == 2
        async with open_parts(tenant.installation.settings) as parts:
            assert await read(parts, other)
            with pytest.raises(Unavailable) as refused:
                await read(parts, tenant)
            assert refused.value.code == "database_unavailable"
    assert prepared(tenant.installation) == ""
