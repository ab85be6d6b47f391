"""Makes the places that tenants have for themselves, a schema or a database, and removes them again.

`python -m tenantry.entrypoints.provision HOME REGION PLACE` makes one, or brings it to the head of its revisions; a
process of its own, whose memory (Alembic's) is gone when the server serves on. Idempotent.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import asyncpg

from tenantry.capabilities.tenants.types import Isolation
from tenantry.entrypoints.addresses import Addresses, CellAddresses, addresses_of, cell_database, provisioner_of
from tenantry.foundation.database.context import derive_context_key
from tenantry.foundation.database.migrate import (
    CELL_SCHEMAS,
    TEMPLATE,
    head_revision,
    install_context_key,
    migrate,
    noting,
    schema_statements,
)
from tenantry.foundation.database.places import SHARED, dsn_at, is_schema
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.roles import CELL_ROLES, OWNER, prepare_database
from tenantry.foundation.errors import Fault, Unavailable
from tenantry.foundation.files import replace_file
from tenantry.foundation.secrets import load_secrets
from tenantry.foundation.settings import Settings, load_settings

_SECONDS: Final = 120.0
_WRITTEN: Final = "places.json"
_DATABASES: Final = "select datname from pg_database where datname = any($1)"


async def provision(
    cell: CellAddresses, *, provisioner: str | None, region: str, place: str, context_master: bytes
) -> None:
    """Make a place, or bring it to the head. Raises Fault when this process holds no credentials for that."""
    if cell.owner is None:
        raise Fault("place_refused", f"region {region} has no owner_url here: it can make no places")
    if is_schema(place):
        await migrate(cell.owner, line="cell", schema=None if place == SHARED else place)
        return
    if provisioner is None:
        raise Fault(
            "place_refused", f"region {region} has no provisioner_url: it can make no database", layer="settings"
        )
    connection = await asyncpg.connect(provisioner)
    try:
        await prepare_database(
            connection,
            dsn_at(provisioner, place),
            name=place,
            schemas=CELL_SCHEMAS,
            roles=(OWNER, *CELL_ROLES),
        )
    finally:
        await connection.close()
    owner = dsn_at(cell.owner, place)
    await migrate(owner, line="cell")
    await install_context_key(owner, key_id="a", key=derive_context_key(master=context_master, region=region))


class PlaceMaker:
    """The `Provisioner` port of tenants, for the regions whose owners this process may act as."""

    def __init__(self, addresses: Addresses, settings: Settings) -> None:
        self._addresses = addresses
        self._settings = settings

    def offers(self, region: str) -> frozenset[Isolation]:
        """Say which strategies a tenant of the region can have."""
        cell = self._addresses.cells[region]
        offered = {Isolation.ROW_LEVEL}
        if cell.owner and cell.mover:
            offered.add(Isolation.SCHEMA_LEVEL)
            if provisioner_of(self._settings, region):
                offered.add(Isolation.DATABASE_LEVEL)
        return frozenset(offered)

    async def make(self, *, region: str, place: str) -> None:
        """Make the place of a tenant; repeating it is safe. Raises Unavailable `place_unavailable`."""
        if place == SHARED:
            return
        with database_errors():
            quickly = self._schema_at_once if is_schema(place) else self._database_at_once
            if await quickly(region, place):
                return
        await self._in_a_process(region, place)

    async def _schema_at_once(self, region: str, place: str) -> bool:
        """Repeat what the last preparation has written down; False when it is of another version, or all is there."""
        statements = await asyncio.to_thread(_written_down, self._settings.home)
        owner = self._addresses.cells[region].owner
        if owner is None or statements is None:
            return False
        connection = await asyncpg.connect(owner)
        try:
            async with connection.transaction():
                if await connection.fetchval("select to_regnamespace($1) is not null", place):
                    return False
                statements.append(noting(head_revision("cell"), schema=TEMPLATE))
                await connection.execute(";\n".join(statements).replace(TEMPLATE, place))
        finally:
            await connection.close()
        return True

    async def _database_at_once(self, region: str, place: str) -> bool:
        """Copy the region's empty database, which is made the first time; False when the place exists already."""
        address, empty = provisioner_of(self._settings, region), empty_database(region)
        if address is None:
            return False
        connection = await asyncpg.connect(address)
        try:
            there = {row["datname"] for row in await connection.fetch(_DATABASES, [place, empty])}
            if place in there:
                return False
            if empty not in there:
                await self._in_a_process(region, empty)
            await connection.execute(f"create database {place} owner {OWNER} template {empty}")
            await connection.execute(f"revoke all on database {place} from public")
            for role in (OWNER, *CELL_ROLES):
                await connection.execute(f"grant connect on database {place} to {role}")
        finally:
            await connection.close()
        return True

    async def _in_a_process(self, region: str, place: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tenantry.entrypoints.provision", str(self._settings.home), region, place),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=dict(os.environ),
        )
        try:
            async with asyncio.timeout(_SECONDS):
                _, said = await process.communicate()
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            raise Unavailable(
                "place_unavailable",
                f"the place of this tenant could not be made: {lines[-1] if lines else process.returncode}",
                layer="tenants",
                retry_after=5,
            )

    async def remove(self, *, region: str, place: str) -> None:
        """Remove a place with everything in it; one that is gone already is fine."""
        if place == SHARED:
            raise Fault("place_shared", "the shared place is no tenant's to remove", layer="tenants")
        cell = self._addresses.cells[region]
        address = cell.owner if is_schema(place) else provisioner_of(self._settings, region)
        if address is None:
            raise Fault("place_refused", f"region {region}: this process may not remove {place}", layer="settings")
        statement = (
            f"drop schema if exists {place} cascade"
            if is_schema(place)
            else f"drop database if exists {place} with (force)"
        )
        with database_errors():
            connection = await asyncpg.connect(address)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()


def empty_database(region: str) -> str:
    """Name the database of which those of tenants' own are copies."""
    return f"{cell_database(region)}_empty"


async def database_exists(provisioner: str, name: str) -> bool:
    connection = await asyncpg.connect(provisioner)
    try:
        return bool(await connection.fetchval("select count(*) from pg_database where datname = $1", name))
    finally:
        await connection.close()


async def write_down(cell: CellAddresses, *, home: Path) -> None:
    """Write down how a schema is made, so that a server can without Alembic; once for each revision."""
    if cell.owner is not None and _written_down(home) is None:
        statements = await schema_statements(cell.owner)
        content = {"revision": head_revision("cell"), "statements": statements}
        replace_file(home / _WRITTEN, json.dumps(content))


def _written_down(home: Path) -> list[str] | None:
    try:
        content = json.loads((home / _WRITTEN).read_text())
        statements: list[str] = content["statements"]
    except (OSError, ValueError, KeyError):
        return None
    return statements if content["revision"] == head_revision("cell") else None


async def _main(home: Path, region: str, place: str) -> None:
    settings = load_settings(home=home)
    secrets = load_secrets(home)
    await provision(
        addresses_of(settings, secrets).cells[region],
        provisioner=provisioner_of(settings, region),
        region=region,
        place=place,
        context_master=secrets.context_key,
    )


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
