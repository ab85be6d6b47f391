"""Prepares the databases: roles, migrations, context keys, the platform's own tenant and its first key.

Idempotent; run at every start as a process of its own (`python -m tenantry.entrypoints.prepare HOME`), whose memory
is gone when the server serves. The first time it writes the one platform key to standard output, as JSON.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import IdentityService, KeyHasher
from tenantry.capabilities.identity.types import ApiKey, KeyStatus, PrincipalType, ScopeKind, make_credential
from tenantry.capabilities.tenants.service import Directory, TenantKeys, ensure_platform_tenant
from tenantry.capabilities.tenants.types import PLATFORM_TENANT
from tenantry.engines.envelope.key_file import KeyFile
from tenantry.entrypoints.addresses import (
    DIRECTORY_DATABASE,
    Addresses,
    addresses_of,
    cell_database,
    embedded_dsn,
    provisioner_of,
)
from tenantry.entrypoints.provision import database_exists, empty_database, provision, write_down
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell, open_cell
from tenantry.foundation.database.context import derive_context_key
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.migrate import CELL_SCHEMAS, DIRECTORY_SCHEMAS, install_context_key, migrate
from tenantry.foundation.database.places import is_schema, tenant_at
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.database.roles import CELL_ROLES, DIRECTORY_ROLE, ROLES, prepare_cluster, prepare_database
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.secrets import Secrets, load_secrets
from tenantry.foundation.settings import Settings, load_settings

KEY_FILE: Final = "kms.key"
_UNPREPARED: Final = """\
tenantry: what {tenant} has for itself is not prepared, so that tenant is refused if this release is newer than it;
  put it right and start again: {reason}
"""
_PLATFORM_ROLES: Final = ("platform-admin",)
_PLATFORM_PERMISSIONS: Final = ("audit:read", "key:read", "key:admin")


async def prepare(settings: Settings) -> str | None:
    """Prepare everything this process has the rights for; gives the platform key when it was made just now."""
    secrets = load_secrets(settings.home, roles=ROLES, create=True)
    addresses = addresses_of(settings, secrets)
    if settings.embedded:
        await _embedded_roles_and_databases(settings, secrets)
    if addresses.directory_owner:
        await migrate(addresses.directory_owner, line="directory")
    for region, cell in addresses.cells.items():
        if cell.owner:
            await migrate(cell.owner, line="cell")
            key = derive_context_key(master=secrets.context_key, region=region)
            await install_context_key(cell.owner, key_id="a", key=key)
    await _places(settings, secrets, addresses)
    return await _platform(settings, secrets, addresses)


async def _embedded_roles_and_databases(settings: Settings, secrets: Secrets) -> None:
    superuser = EmbeddedPostgres(settings.home).superuser

    def dsn(database: str) -> str:
        return embedded_dsn(settings.home, user=superuser.user, password=superuser.password, database=database)

    connection = await asyncpg.connect(dsn("postgres"))
    try:
        await prepare_cluster(connection, passwords=secrets.passwords)
        await prepare_database(
            connection,
            dsn(DIRECTORY_DATABASE),
            name=DIRECTORY_DATABASE,
            schemas=DIRECTORY_SCHEMAS,
            roles=("tenantry_owner", DIRECTORY_ROLE),
        )
        for region in settings.region_names:
            name = cell_database(region)
            await prepare_database(
                connection, dsn(name), name=name, schemas=CELL_SCHEMAS, roles=("tenantry_owner", *CELL_ROLES)
            )
    finally:
        await connection.close()


async def _places(settings: Settings, secrets: Secrets, addresses: Addresses) -> None:
    """Bring what tenants have for themselves to the head too, as far as this process has the rights."""
    directory = Directory(await open_pool(addresses.directory, search_path="directory", max_size=1))
    try:
        for region, cell in addresses.cells.items():
            if cell.owner is None:
                continue
            provisioner = provisioner_of(settings, region)
            await write_down(cell, home=settings.home)
            make = partial(provision, cell, provisioner=provisioner, region=region, context_master=secrets.context_key)
            if provisioner and await database_exists(provisioner, empty_database(region)):
                await make(place=empty_database(region))
            for place in await directory.list_places(region):
                if not is_schema(place) and not provisioner:
                    continue
                try:
                    await make(place=place)
                except Exception as error:  # noqa: BLE001 - one tenant's must not keep all others from starting
                    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
                    sys.stderr.write(_UNPREPARED.format(tenant=tenant_at(place), reason=reason))
    finally:
        await directory.close()


async def _platform(settings: Settings, secrets: Secrets, addresses: Addresses) -> str | None:
    clock = SystemClock()
    keys = TenantKeys(KeyFile.ensure(settings.home / KEY_FILE))
    directory = Directory(await open_pool(addresses.directory, search_path="directory", max_size=1))
    made = None
    try:
        for number, (region, cell_addresses) in enumerate(addresses.cells.items()):
            cell = await open_cell(
                region, cell_addresses.app, context_master=secrets.context_key, pool_size=1, clock=clock
            )
            try:
                await ensure_platform_tenant(cell=cell, keys=keys, clock=clock)
                if number == 0:
                    made = await _first_key(cell, secrets)
            finally:
                await cell.close()
        await directory.ensure_platform(region=next(iter(addresses.cells)), now=datetime.now(UTC))
    finally:
        await directory.close()
    return made


async def _first_key(cell: Cell, secrets: Secrets) -> str | None:
    """Make the platform key unless the platform has any; it opens tenants' records, not their content."""
    clock = SystemClock()
    scope = TenantScope(tenant_id=PLATFORM_TENANT, region=cell.region, actor=SYSTEM)
    async with cell.session(scope, lifecycle=True) as session:
        audit = AuditService(session=session, clock=clock)
        identity = IdentityService(session=session, audit=audit, hasher=KeyHasher(secrets.pepper), clock=clock)
        if await identity.list_keys(workspace_id=None, limit=1):
            return None
        credential = make_credential(region=cell.region, kind=ScopeKind.PLATFORM, scope_id=None)
        key = ApiKey(
            key_id=new_id(),
            workspace_id=None,
            principal_type=PrincipalType.SYSTEM,
            principal_id=SYSTEM.id,
            name="platform",
            roles=_PLATFORM_ROLES,
            permissions=_PLATFORM_PERMISSIONS,
            allowed_networks=(),
            status=KeyStatus.ACTIVE,
            created_at=clock.now(),
            created_by=SYSTEM.id,
            expires_at=None,
            last_used_at=None,
            revoked_at=None,
        )
        await identity.store_key(key, credential)
        return credential.text


if __name__ == "__main__":
    made_key = asyncio.run(prepare(load_settings(home=Path(sys.argv[1]))))
    json.dump({"platform_key": made_key}, sys.stdout)
