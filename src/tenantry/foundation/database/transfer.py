"""All rows of one tenant, whatever tables there are: to copy, compare, count, write out and delete them.

Tables and their order come from the catalogue: whatever has a `tenant_id` joins by itself. The connection is the
mover's, whose policies show the one tenant its context is signed for.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.places import dsn_at, schema_at
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.errors import Fault, Invalid

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

QUEUE: Final = "queue"
_BATCH: Final = 500
# The context is judged at the start of a transaction; how long a copy then takes is the tenant's size.
_SETTINGS: Final = {"timezone": "UTC", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}

_TABLES: Final = """
    select c.relname::text as name,
           array(select a.attname::text from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                 order by a.attname) as columns,
           array(select format_type(a.atttypid, a.atttypmod) from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                 order by a.attname) as types,
           array(select a.attname::text from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   and has_column_privilege('tenantry_app', c.oid, a.attnum, 'INSERT') order by a.attname) as given,
           array(select a.attname::text from pg_index i, unnest(i.indkey) with ordinality k (number, place)
                 join pg_attribute a on a.attnum = k.number
                 where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid order by k.place) as key,
           array(select distinct p.relname::text from pg_constraint f join pg_class p on p.oid = f.confrelid
                 where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid) as parents
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relkind in ('r', 'p')
      and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
    order by c.relname
"""
# A sum over the rows, each by the halves of its digest: it asks for no order and no memory.
_DIGEST: Final = """
    select count(*) as rows,
           coalesce(sum(('x' || substr(d.hex, 1, 16))::bit(64)::bigint::numeric), 0)::text || '/' ||
           coalesce(sum(('x' || substr(d.hex, 17, 16))::bit(64)::bigint::numeric), 0)::text as sum
    from {table} t, lateral (
        select encode(sha256(convert_to(row({columns})::text, 'UTF8')), 'hex') as hex) d
    where t.tenant_id = $1
"""


@dataclass(frozen=True, slots=True)
class TenantTable:
    """`columns` are all that can be written, `given` those an application role may insert; both in order of name.

    `types` are those of the columns.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    given: tuple[str, ...]
    key: tuple[str, ...]
    parents: frozenset[str]

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class RowsDigest:
    """How many rows, and a sum that two tables share when they hold the same."""

    rows: int
    sum: str


class TenantRows:
    """The rows of one tenant at one place, in one transaction."""

    def __init__(self, connection: "Connection", *, tenant_id: UUID, place: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._schema = schema_at(place)

    async def tables(self, *, queue: bool = False) -> list[TenantTable]:
        """List the place's tables, parents first; with `queue` those of the queue in its database instead."""
        schema = QUEUE if queue else self._schema
        found = {
            row["name"]: TenantTable(
                schema=schema,
                name=row["name"],
                columns=tuple(row["columns"]),
                types=tuple(row["types"]),
                given=tuple(row["given"]),
                key=tuple(row["key"]),
                parents=frozenset(row["parents"]),
            )
            for row in await self._connection.fetch(_TABLES, schema)
        }
        return _parents_first(found)

    async def digest(self, table: TenantTable, *, columns: Sequence[str] | None = None) -> RowsDigest:
        """Count the rows and sum them up; `columns` leaves out what the other side is not to have."""
        named = ", ".join(f"t.{column}" for column in columns or table.columns)
        row = await self._connection.fetchrow(_DIGEST.format(table=table.qualified, columns=named), self._tenant_id)
        if row is None:
            raise Fault("digest_missing", f"{table.name} could not be summed up", layer="database")
        return RowsDigest(row["rows"], row["sum"])

    async def read(self, table: TenantTable, *, columns: Sequence[str] | None = None) -> AsyncIterator[list[Any]]:
        """Give batches of rows in order of their key, jsonb as text."""
        query = "select {columns} from {table} where tenant_id = $1 order by {key}".format(
            columns=", ".join(columns or table.columns), table=table.qualified, key=", ".join(table.key)
        )
        cursor = await self._connection.cursor(query, self._tenant_id)
        while batch := await cursor.fetch(_BATCH):
            yield [tuple(row) for row in batch]

    async def write(self, table: TenantTable, rows: Sequence[Any], *, columns: Sequence[str] | None = None) -> None:
        named = tuple(columns or table.columns)
        await self._connection.executemany(
            "insert into {table} ({columns}) values ({values})".format(
                table=table.qualified,
                columns=", ".join(named),
                values=", ".join(f"${number}" for number in range(1, len(named) + 1)),
            ),
            rows,
        )

    async def read_texts(self, table: TenantTable) -> AsyncIterator[list[tuple[str | None, ...]]]:
        """Give batches of rows, all columns as PostgreSQL writes them, which it reads again as they were."""
        query = "select {columns} from {table} where tenant_id = $1 order by {key}".format(
            columns=", ".join(f"{column}::text" for column in table.columns),
            table=table.qualified,
            key=", ".join(f"{table.qualified}.{column}" for column in table.key),
        )
        cursor = await self._connection.cursor(query, self._tenant_id)
        while batch := await cursor.fetch(_BATCH):
            yield [tuple(row) for row in batch]

    async def write_texts(
        self, table: TenantTable, rows: Sequence[Sequence[str | None]], *, columns: Sequence[str]
    ) -> None:
        """Insert rows as `read_texts` gives them; raises Invalid `rows_refused` for what the table does not take."""
        types = dict(zip(table.columns, table.types, strict=True))
        statement = "insert into {table} ({columns}) values ({values})".format(
            table=table.qualified,
            columns=", ".join(columns),
            values=", ".join(f"${number}::text::{types[name]}" for number, name in enumerate(columns, 1)),
        )
        try:
            await self._connection.executemany(statement, rows)
        except (
            asyncpg.DataError,
            asyncpg.IntegrityConstraintViolationError,
            asyncpg.InsufficientPrivilegeError,
        ) as error:
            raise Invalid(
                "rows_refused", f"{table.name}: a row is none of this table ({type(error).__name__})", layer="database"
            ) from None

    async def delete(self, table: TenantTable) -> int:
        """Delete the tenant's rows; tells how many."""
        done = await self._connection.execute(f"delete from {table.qualified} where tenant_id = $1", self._tenant_id)
        return int(done.rpartition(" ")[2])

    async def count(self, table: str, where: str = "true") -> int:
        """Count rows by a condition of the caller's own making, never of input."""
        return int(
            await self._connection.fetchval(
                f"select count(*) from {table} where tenant_id = $1 and {where}", self._tenant_id
            )
        )

    async def state(self) -> tuple[str, str] | None:
        """Tell mode and home of the tenant as this database knows them."""
        told = await self._connection.fetchval("select fence.state_of_tenant()")
        if told is None:
            return None
        mode, _, home = told.partition(" ")
        return mode, home

    async def place(self, mode: str, *, home: str) -> None:
        """Say in this database what may be done with the tenant, and in which schema it is at home."""
        await self._connection.fetchval("select fence.place_tenant($1, $2)", mode, home)

    async def forget(self) -> None:
        """Let this database forget that it ever knew the tenant; its rows must be gone."""
        await self._connection.fetchval("select fence.forget_tenant()")

    async def hold_purges(self) -> None:
        """Let nothing of the tenant be purged in this database until the transaction ends, after what is under way."""
        await self._connection.execute("select pg_advisory_xact_lock($1)", purge_lock(self._tenant_id))

    async def transaction_number(self) -> int:
        """Give this transaction a number; whatever began to write before has a lower one."""
        return int(await self._connection.fetchval("select pg_current_xact_id()::text::bigint"))

    async def oldest_transaction(self) -> int:
        """Tell the number below which no transaction is open any more."""
        return int(await self._connection.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))

    async def value(self, query: str, *arguments: object) -> Any:
        return await self._connection.fetchval(query, *arguments)

    async def execute(self, statement: str, *arguments: object) -> None:
        await self._connection.execute(statement, *arguments)


@asynccontextmanager
async def open_rows(
    dsn: str, *, place: str, signer: ContextSigner, tenant_id: UUID, snapshot: bool = False
) -> AsyncIterator[TenantRows]:
    """Open a transaction on a tenant's rows at a place, as the mover of `dsn`; it commits when the block ends well.

    With `snapshot` all reads see one moment. Raises Unavailable when the database does not answer; a retry is safe.
    """
    with database_errors():
        settings = {**_SETTINGS, "search_path": f"{schema_at(place)}, pg_temp"}
        connection = await asyncpg.connect(dsn_at(dsn, place), server_settings=settings, timeout=10)
        try:
            async with connection.transaction(isolation="repeatable_read" if snapshot else "read_committed"):
                context = signer.sign(tenant_id=tenant_id, workspace_id=None, lifecycle=True)
                await connection.execute(f"set local app.ctx = '{context}'")
                yield TenantRows(connection, tenant_id=tenant_id, place=place)
        finally:
            await connection.close(timeout=10)


async def copy_rows(
    source: TenantRows, target: TenantRows, table: TenantTable, *, columns: Sequence[str] | None = None
) -> RowsDigest:
    """Copy a table's rows and compare; raises Fault `copy_differs`, and then nothing may be committed."""
    there = replace(table, schema=QUEUE if table.schema == QUEUE else target._schema)  # noqa: SLF001 - two of a kind
    async for batch in source.read(table, columns=columns):
        await target.write(there, batch, columns=columns)
    ours, theirs = await source.digest(table, columns=columns), await target.digest(there, columns=columns)
    if ours != theirs:
        raise Fault(
            "copy_differs", f"{table.name}: {ours.rows} rows were copied, {theirs.rows} arrived", layer="database"
        )
    return ours


def purge_lock(tenant_id: UUID) -> int:
    """Name the advisory lock that purges of a tenant share, and who must find what the rows say is there excludes."""
    named = hashlib.sha256(b"tenantry/purges/" + tenant_id.bytes).digest()
    return int.from_bytes(named[:8], "big", signed=True)


def digest_of_all(digests: dict[str, RowsDigest]) -> str:
    """Sum up a whole place: what two copies of a tenant share."""
    told = "\n".join(f"{name} {digest.rows} {digest.sum}" for name, digest in sorted(digests.items()))
    return hashlib.sha256(told.encode()).hexdigest()


def _parents_first(tables: dict[str, TenantTable]) -> list[TenantTable]:
    ordered: list[TenantTable] = []
    waiting = dict(tables)
    while waiting:
        ready = [table for table in waiting.values() if not table.parents & waiting.keys()]
        if not ready:
            raise Fault("tables_circular", f"these tables refer to each other: {', '.join(waiting)}", layer="database")
        ordered += ready
        for table in ready:
            del waiting[table.name]
    return ordered
