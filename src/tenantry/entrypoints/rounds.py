"""Goes round the databases and schemas of a cell for the roles that see all tenants: sealer, relay, janitors."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.tenants.service import Directory
from tenantry.capabilities.tenants.types import REVOCATIONS
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import SHARED, dsn_at, is_schema, schema_at, tenant_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import database_errors, open_pool
from tenantry.foundation.errors import TenantryError, Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from tenantry.foundation.database.pool import Pool

_LOOK_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 20.0
_IDLE_SECONDS: Final = 5.0
_MOST_IDLE: Final = 4
"""Connections to tenants' own databases that one loop keeps for a moment, however many such tenants there are."""
LOCK_SECONDS: Final = 0.5
"""How long a loop that goes from place to place waits for a lock in one of them."""
_OF_THE_DATABASE: Final = ("08", "53", "57P")
"""Classes of errors: connections, resources, a server that starts or stops."""
_LEAST_REST: Final = 1.0
_MOST_REST: Final = 5.0
_HAS_ROWS: Final = "select '{schema}' as name where {some}"

_log = structlog.get_logger(__name__)


class Rounds:
    """One role's connections to one cell, for one loop.

    The cell's own database is visited each time, one that a tenant has for itself when something was done there, and
    else from time to time: what was not told, or told in vain, is found then. Its connection is closed in between, at
    once when others were used more recently, so that many such tenants do not take the server's connections from all.
    """

    def __init__(
        self,
        dsn: str,
        *,
        region: str,
        directory: Directory,
        clock: Clock,
        look_seconds: float = _LOOK_SECONDS,
        lock_seconds: float | None = LOCK_SECONDS,
    ) -> None:
        """`look_seconds`: how old what the directory said may be; a loop that is woken by news wants 0.

        `lock_seconds`: how long its statements wait for a lock; None for a loop that would wait much longer for its
        next turn.
        """
        self._dsn = dsn
        self._lock_seconds = lock_seconds
        self.region = region
        self._directory = directory
        self._clock = clock
        self._look_seconds = look_seconds
        self._pools: OrderedDict[str, Pool] = OrderedDict()
        self._lent: Counter[str] = Counter()
        self._opening = asyncio.Lock()
        self._places: tuple[str, ...] = (SHARED,)
        self._looked_at = float("-inf")
        self._visit_at: dict[str, float] = {}
        self._resting: dict[tuple[str, str], float] = {}

    def stir(self, place: str) -> None:
        """Visit a database next time: something was done there."""
        self._visit_at[place] = float("-inf")
        if place not in self._places:  # younger than the last look
            self._looked_at = float("-inf")

    async def databases(self) -> AsyncIterator["tuple[str, Pool, list[str]]"]:
        """Give each database (by its place's name) with the schemas that hold tenants' tables, the shared one first.

        It is connected to when it is first asked: who asks passes over one that does not answer.
        """
        await self._look()
        schemas = [schema_at(place) for place in self._places if is_schema(place)]
        async with self._connection(SHARED) as pool:
            yield SHARED, pool, schemas
        async for place in self.own_databases():
            async with self._connection(place) as pool:
                yield place, pool, [SHARED]

    async def own_databases(self) -> AsyncIterator[str]:
        """Give each database that a tenant has for itself and that is due, by its place's name."""
        await self._look()
        now = self._clock.monotonic()
        for place in self._places:
            if is_schema(place) or self._visit_at.get(place, float("-inf")) > now:
                continue
            self._visit_at[place] = now + _QUIET_SECONDS
            yield place

    @asynccontextmanager
    async def shared(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """Open a transaction on the cell's own database; raises Unavailable."""
        async with self._connection(SHARED) as pool, platform_session(pool) as connection:
            yield connection

    @asynccontextmanager
    async def queue_of(self, place: str) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """Open a transaction on the queue's tables of a place's database; raises Unavailable."""
        async with self._connection(place) as pool, platform_session(pool, schema="queue") as connection:
            yield connection

    async def waiting(self, *tables: str) -> AsyncIterator["tuple[str, Pool, str]"]:
        """Give the database and schema of each place where one of the tables has rows; one statement a database.

        Where that statement fails for one schema's sake, each is asked by itself, and those that rest are not asked.
        """
        async for place, pool, schemas in self.databases():
            for name in await self._ask(place, pool, self._awake(place, schemas), tables):
                yield place, pool, name

    @contextmanager
    def attempt(self, place: str, schema: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Log what goes wrong in the block, and leave the schema alone ten times as long as it has held up the others.

        That is a second at least and five at most. `but` is raised as it is.
        """
        began = self._clock.monotonic()
        try:
            yield
        except but:
            raise
        except Exception as error:  # noqa: BLE001 - one place's trouble must not keep the others waiting
            _log_trouble(place, schema, error)
            self._rest(place, schema, began=began)

    def _rest(self, place: str, schema: str, *, began: float) -> None:
        now = self._clock.monotonic()
        self._resting[place, schema] = until = now + min(max(_LEAST_REST, 10 * (now - began)), _MOST_REST)
        if place in self._visit_at:
            self._visit_at[place] = until

    def _awake(self, place: str, schemas: Sequence[str]) -> list[str]:
        now = self._clock.monotonic()
        for key in [key for key, until in self._resting.items() if until <= now]:
            del self._resting[key]
        return [schema for schema in schemas if (place, schema) not in self._resting]

    async def _ask(self, place: str, pool: "Pool", schemas: Sequence[str], tables: Sequence[str]) -> list[str]:
        """List the schemas where one of the tables has rows."""
        if not schemas:
            return []
        asked = " union all ".join(
            _HAS_ROWS.format(
                schema=schema, some=" or ".join(f"exists (select from {schema}.{table})" for table in tables)
            )
            for schema in schemas
        )
        began = self._clock.monotonic()
        try:
            with database_errors():
                return [row["name"] for row in await pool.fetch(asked)]
        except (TenantryError, asyncpg.PostgresError) as error:
            self._looked_at = float("-inf")  # one that has just been removed: the directory tells at the next look
            of_a_schema = _is_of_a_schema(error)
            if of_a_schema and len(schemas) > 1:
                return [name for schema in schemas for name in await self._ask(place, pool, [schema], tables)]
            _log_trouble(place, schemas[0], error)
            if of_a_schema and place == SHARED:
                self._rest(place, schemas[0], began=began)
            else:
                await self._drop(place)
            return []

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()

    async def _look(self) -> None:
        """Ask the directory which places there are, again after a while; when it is away the last answer counts."""
        now = self._clock.monotonic()
        if now - self._looked_at < self._look_seconds:
            return
        try:
            self._places = (SHARED, *await self._directory.list_places(self.region))
        except Unavailable as error:
            _log.warning("directory.unavailable", code=error.code)
            return
        self._looked_at = now
        for place in [place for place in self._pools if place not in self._places]:
            await self._drop(place)
        for place in [place for place in self._visit_at if place not in self._places]:
            del self._visit_at[place]
        self._lent = +self._lent

    @asynccontextmanager
    async def _connection(self, place: str) -> "AsyncIterator[Pool]":
        """Lend the connection to the database of a place; then close those that have been idle longest."""
        async with self._opening:
            pool = self._pools.get(place) or await self._open(place)
            self._pools[place] = pool
            self._pools.move_to_end(place)
            self._lent[place] += 1
        try:
            yield pool
        finally:
            self._lent[place] -= 1
            idle = [name for name in self._pools if name != SHARED and not self._lent[name]]
            for name in idle[:-_MOST_IDLE]:
                await self._drop(name)

    async def _open(self, place: str) -> "Pool":
        idle = 60.0 if place == SHARED else _IDLE_SECONDS
        return await open_pool(
            dsn_at(self._dsn, place),
            search_path=SHARED,
            min_size=0,
            max_size=1,
            idle_seconds=idle,
            lock_seconds=self._lock_seconds,
        )

    async def _drop(self, place: str) -> None:
        if (pool := self._pools.pop(place, None)) is not None:
            await pool.close()


def _is_of_a_schema(error: Exception) -> bool:
    """Say whether a statement failed that others of the same database may pass: for a lock, or for what it names."""
    cause = error.__cause__ if isinstance(error, TenantryError) else error
    state = getattr(cause, "sqlstate", None) or ""
    return isinstance(cause, asyncpg.PostgresError) and not state.startswith(_OF_THE_DATABASE)


def _log_trouble(place: str, schema: str, error: Exception) -> None:
    reason = error.code if isinstance(error, TenantryError) else type(error).__name__
    _log.warning("place.unavailable", place=tenant_at(place), schema=schema, reason=reason)


def follow_moves(cell: Cell) -> None:
    """Ask the directory anew where a tenant is whenever news of it come; before the cell is started."""
    cell.link.subscribe(REVOCATIONS, lambda payload: cell.places.forget(UUID(hex=payload)))
    cell.link.on_reconnect(cell.places.forget_all)


async def tidy_places(cell: Cell, directory: Directory) -> None:
    """Close what this process has open of places that are gone."""
    await cell.places.retain(await directory.list_places(cell.region))
