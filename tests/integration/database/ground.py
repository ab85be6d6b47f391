"""A prepared installation's databases without its processes, and the rows and connections to try the fence with."""

import asyncio
import hashlib
import hmac
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4, uuid5

import asyncpg

from tenantry.entrypoints.addresses import embedded_dsn
from tenantry.entrypoints.prepare import prepare
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell, open_cell
from tenantry.foundation.database.context import ContextSigner, derive_context_key
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.migrate import CELL_SCHEMAS
from tenantry.foundation.database.roles import CELL_ROLES, OWNER, prepare_database
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.secrets import Secrets, load_secrets
from tenantry.foundation.settings import load_settings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

PRISTINE: Final = "pristine"
# Every table that lets the application in, with what the catalogue says of it.
_TABLES: Final = """
    select n.nspname || '.' || c.relname as name,
           array(select a.attname::text from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   and has_column_privilege('tenantry_app', c.oid, a.attname, 'UPDATE')) as updatable,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'workspace_id') as has_workspace
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname in ('fence', 'queue', 'tenantry')
      and has_schema_privilege('tenantry_app', n.oid, 'USAGE')
      and has_any_column_privilege('tenantry_app', c.oid, 'SELECT, INSERT, UPDATE')
    order by name
"""
_COLUMNS: Final = """
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
           (select substring(pg_get_constraintdef(k.oid) from '''([^'']+)''::text') from pg_constraint k
            where k.conrelid = a.attrelid and k.contype = 'c' and k.conkey = array[a.attnum] limit 1) as allowed
    from pg_attribute a
    where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
      and ((a.attnotnull and not a.atthasdef) or a.attname = 'workspace_id')
"""


@dataclass(frozen=True)
class FencedTable:
    name: str
    updatable: tuple[str, ...]
    has_workspace: bool


@dataclass
class Database:
    """One cell's database, under whatever name."""

    ground: "Ground"
    name: str
    region: str = "us"

    def dsn(self, role: str = "tenantry_app") -> str:
        return self.ground.dsn(role, self.name)

    @property
    def signer(self) -> ContextSigner:
        return self.ground.signer(self.region)

    @asynccontextmanager
    async def connected(self, role: str = "tenantry_app") -> "AsyncIterator[Connection]":
        connection = await asyncpg.connect(self.dsn(role), server_settings={"search_path": "tenantry, pg_temp"})
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def cell(self, *, pool_size: int = 4) -> AsyncIterator[Cell]:
        cell = await open_cell(
            self.region,
            self.dsn(),
            context_master=self.ground.secrets.context_key,
            pool_size=pool_size,
            clock=SystemClock(),
        )
        try:
            yield cell
        finally:
            await cell.close()

    async def tables(self) -> list[FencedTable]:
        async with self.connected("superuser") as connection:
            rows = await connection.fetch(_TABLES)
        return [FencedTable(row["name"], tuple(row["updatable"]), row["has_workspace"]) for row in rows]

    async def alter(self, *statements: str) -> None:
        """Run statements as the superuser, whom nothing fences."""
        async with self.connected("superuser") as connection:
            for statement in statements:
                await connection.execute(statement)

    async def make_tenant(self, *, mode: str = "active", rows: int = 1) -> UUID:
        """A tenant with `rows` rows in each table, each row of a workspace of its own."""
        tenant = uuid4()
        tables = await self.tables()
        async with self.connected("superuser") as connection, connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            await connection.execute(
                "insert into fence.tenant_state (tenant_id, mode, home) values ($1, $2, 'tenantry')", tenant, mode
            )
            for table in tables:
                for number in range(1, rows + 1 if rows and table.has_workspace else min(rows, 1) + 1):
                    await insert_row(connection, table.name, tenant=tenant, number=number)
        return tenant


async def insert_row(connection: "Connection", table: str, *, tenant: UUID, number: int) -> str:
    """Insert a row that differs from others of the tenant in every column that may differ; gives the command's tag."""
    columns = await connection.fetch(_COLUMNS, table)
    values = {
        column["name"]: value_of(column["name"], column["type"], column["allowed"], tenant=tenant, number=number)
        for column in columns
    }
    names, places = ", ".join(values), ", ".join(f"${place}" for place in range(1, len(values) + 1))
    statement = f"insert into {table} ({names}) values ({places})"
    return await connection.execute(statement, *values.values())


def value_of(column: str, kind: str, allowed: str | None, *, tenant: UUID, number: int) -> object:
    """The same for the same column of a tenant, so that foreign keys find what they name."""
    if column == "tenant_id":
        return tenant
    text = allowed or f"{column}-{number}"
    values: dict[str, object] = {
        "uuid": uuid5(tenant, f"{column}/{number}"),
        "text": text,
        "text[]": [],
        "jsonb": "{}",
        "bytea": hashlib.sha256(text.encode()).digest(),
        "timestamp with time zone": datetime.now(UTC),
        "date": datetime.now(UTC).date(),
        "boolean": False,
        "bigint": number,
        "integer": number,
        "smallint": number,
        "double precision": float(number),
        "numeric": Decimal(number),
    }
    return values[kind]


def workspace_of(tenant: UUID, number: int) -> UUID:
    return uuid5(tenant, f"workspace_id/{number}")


def scope_of(tenant: UUID, *, workspace: UUID | None = None, region: str = "us") -> TenantScope:
    return TenantScope(tenant_id=tenant, region=region, actor=SYSTEM, workspace_id=workspace)


@dataclass
class Ground:
    """The scratch server, prepared as at a first start, and clones of its cell to break."""

    home: Path
    server: EmbeddedPostgres
    secrets: Secrets = field(repr=False)
    platform_key: str | None = field(repr=False)

    def dsn(self, role: str, database: str) -> str:
        user = self.server.superuser.user if role == "superuser" else role
        password = self.server.superuser.password if role == "superuser" else self.secrets.passwords[role]
        return embedded_dsn(self.home, user=user, password=password, database=database)

    def signer(self, region: str = "us") -> ContextSigner:
        return ContextSigner(key=derive_context_key(master=self.secrets.context_key, region=region))

    def database(self, region: str = "us") -> Database:
        return Database(self, f"tenantry_{region}", region)

    def sign(self, body: str, *, region: str = "us") -> str:
        """Sign whatever stands after the mac, as only who holds the key can."""
        key = derive_context_key(master=self.secrets.context_key, region=region)
        return hmac.new(key, body.encode(), hashlib.sha256).hexdigest() + body

    @asynccontextmanager
    async def clone(self) -> AsyncIterator[Database]:
        """A database of its own, as just prepared; dropped afterwards."""
        database = Database(self, f"clone_{secrets.token_hex(6)}")
        connection = await asyncpg.connect(self.dsn("superuser", "postgres"))
        try:
            await connection.execute(f"create database {database.name} owner {OWNER} template {PRISTINE}")
            await prepare_database(
                connection,
                database.dsn("superuser"),
                name=database.name,
                schemas=CELL_SCHEMAS,
                roles=(OWNER, *CELL_ROLES),
            )
            yield database
        finally:
            await connection.execute(f"drop database if exists {database.name} with (force)")
            await connection.close()


def make_home() -> Path:
    """A place that PostgreSQL's account may pass, unlike pytest's own."""
    home = Path(tempfile.mkdtemp(prefix="tenantry-ground-"))
    home.chmod(0o755)
    return home


@asynccontextmanager
async def open_ground() -> AsyncIterator[Ground]:
    home = make_home()
    server = EmbeddedPostgres(home)
    try:
        await asyncio.to_thread(server.start)
        key = await prepare(load_settings(home=home))
        ground = Ground(home, server, load_secrets(home), key)
        connection = await asyncpg.connect(ground.dsn("superuser", "postgres"))
        try:
            await connection.execute(f"create database {PRISTINE} owner {OWNER} template tenantry_us")
        finally:
            await connection.close()
        yield ground
    finally:
        await asyncio.to_thread(server.purge)
        shutil.rmtree(home)


def context_body(
    tenant: UUID, *, workspace: str = "*", purpose: str = "n", ahead: int = 45, key: str = "a", now: float | None = None
) -> str:
    """What a context says after its mac, with any part bent."""
    expiry = int(time.time() if now is None else now) + ahead
    return f"{key}{purpose}{expiry:010d}{tenant.hex}{workspace}"
