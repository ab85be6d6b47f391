"""Connection pools of one database, and how their failures read above."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

from tenantry.foundation.errors import Conflict, Denied, Exhausted, Fault, TenantryError, Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ACQUIRE_SECONDS: Final = 5.0
SHELF_SECONDS: Final = 30.0
_KEPT: Final = 5
"""One in so many connections is kept for whoever holds one already."""


def tenant_moved() -> Unavailable:
    """Tell of a place that its tenant has left, which this process has not heard yet."""
    return Unavailable("tenant_moved", "this tenant has just moved: retry", layer="fence", retry_after=1)


# What the fence raises (migration 0001). A forged or stale context is our bug or an attack: never shown as data.
_FENCE_ERRORS: Final[dict[str, Callable[[], TenantryError]]] = {
    "TN001": lambda: Denied(
        "tenant_suspended", "this tenant is suspended: its administrator or the operator can tell why", layer="tenants"
    ),
    "TN002": lambda: Unavailable(
        "tenant_read_only", "this tenant is being moved: reads work, retry the write", layer="fence", retry_after=2
    ),
    "TN003": lambda: Fault("context_refused", "the database refused the tenant context", layer="fence"),
    # What was cached of its place is dropped by the session; the next attempt finds the new one.
    "TN005": tenant_moved,
    "TN004": lambda: Denied("tenant_unknown", "no such tenant in this cell", layer="fence"),
}

# Serialization failure, deadlock, statement time-out, a transaction left idle: nothing was kept, a repetition may work.
_RETRY_STATES: Final = frozenset({"40001", "40P01", "57014", "25P03"})


class QuietConnection(asyncpg.Connection):
    """A connection whose release costs no round trip: a session ends with `COMMIT; RESET ALL` by itself.

    Its prepared statements outlive a session, so their names are drawn at random: where they count up, injected SQL of
    one borrower can deallocate the next statement and prepare its own under that name, which the next borrower then
    runs as another tenant. `roles.prepare_database` closes the view that would tell the names.
    """

    def get_reset_query(self) -> str:
        return ""

    def _get_unique_id(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_hex(12)}"


class SessionPool(asyncpg.Pool):
    """A pool with a shelf: what a session has ended cleanly waits there for the next one.

    asyncpg's own lending and return cost a timer and a task each, a third of what binding a tenant costs. One
    connection is never shelved, so those who use the pool directly do not starve.

    A fifth, at least one, is kept for those who read `beside` a transaction that is open and waits for it. Else all
    could be held by transactions that wait for one more, behind a queue of others that wait for theirs.
    """

    def __init__(self, *arguments: Any, shelf_seconds: float = SHELF_SECONDS, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._shelf_seconds = shelf_seconds
        self._shelf: list[PoolConnectionProxy[asyncpg.Record]] = []
        self._wanted = 0
        self._clearing: asyncio.Task[None] | None = None
        size = self.get_max_size()
        self._room = asyncio.Semaphore(max(1, size - max(1, size // _KEPT)))
        self._in_room: set[PoolConnectionProxy[asyncpg.Record]] = set()

    async def take(self, *, beside: bool = False) -> "PoolConnectionProxy[asyncpg.Record]":
        """Lend a connection, to be given back by `shelve` or `release`; raises TimeoutError when none comes free.

        `beside` is for whoever holds one already: it passes those that wait, so it must need none more itself.
        """
        if beside:
            return await self._take()
        if self._room.locked():
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            connection = await self._take()
        except BaseException:
            self._room.release()
            raise
        self._in_room.add(connection)
        return connection

    async def _take(self) -> "PoolConnectionProxy[asyncpg.Record]":
        while self._shelf:
            connection = self._shelf.pop()
            with contextlib.suppress(asyncpg.InterfaceError):  # closed meanwhile, and so back in the pool
                if not connection.is_closed():
                    return connection
        self._wanted += 1
        try:
            return await self.acquire(timeout=ACQUIRE_SECONDS)
        finally:
            self._wanted -= 1

    async def shelve(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        """Take back a connection whose transaction has ended and whose settings are reset."""
        if self._wanted or len(self._shelf) >= self.get_max_size() - 1 or connection.is_in_transaction():
            await self.release(connection)
            return
        self._shelf.append(connection)
        self._leave_room(connection)
        if self._clearing is None:
            self._clearing = asyncio.create_task(self._clear_later(), name="pool-shelf")

    async def release(self, connection: "PoolConnectionProxy[asyncpg.Record]", *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        try:
            await super().release(connection, timeout=timeout)
        finally:
            self._leave_room(connection)

    def _leave_room(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        if connection in self._in_room:
            self._in_room.remove(connection)
            self._room.release()

    async def close(self) -> None:
        if self._clearing is not None:
            self._clearing.cancel()
        await self._clear()
        await super().close()

    async def _clear_later(self) -> None:
        """Give back what nobody took, so that asyncpg closes what stays idle."""
        await asyncio.sleep(self._shelf_seconds)
        self._clearing = None
        await self._clear()

    async def _clear(self) -> None:
        while self._shelf:
            await self.release(self._shelf.pop())


async def _prepare(connection: "Connection") -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def open_pool(
    dsn: str,
    *,
    search_path: str,
    min_size: int = 1,
    max_size: int = 10,
    idle_seconds: float = 60.0,
    lock_seconds: float | None = None,
) -> SessionPool:
    """Open a pool; raises Unavailable `database_unavailable` with the cause when nothing answers.

    `pg_temp` stands last in `search_path`: first, a temporary table could shadow a real one. `lock_seconds`: how long
    its statements wait for a lock at most; without it, as long as they may take at all.
    """
    waiting = {} if lock_seconds is None else {"lock_timeout": f"{int(lock_seconds * 1000)}ms"}
    with database_errors():
        pool = SessionPool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            max_queries=50_000,
            max_inactive_connection_lifetime=idle_seconds,
            shelf_seconds=min(SHELF_SECONDS, idle_seconds),
            connect=None,
            setup=None,
            reset=None,
            loop=None,
            record_class=asyncpg.Record,
            connection_class=QuietConnection,
            init=_prepare,
            server_settings={"search_path": f"{search_path}, pg_temp", "timezone": "UTC", "jit": "off", **waiting},
            timeout=ACQUIRE_SECONDS,
        )
        await pool
    return pool


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate what asyncpg raises; a programming error passes through as it is."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _translated(error) or error from error
    # The last is what asyncpg makes of a connection that is being closed by the server at this very moment.
    except (OSError, asyncpg.InterfaceError, TimeoutError, asyncpg.InternalClientError) as error:
        raise Unavailable(
            "database_unavailable", f"the database does not answer: {type(error).__name__}", layer="database"
        ) from error


def _translated(error: asyncpg.PostgresError) -> TenantryError | None:
    state = getattr(error, "sqlstate", "") or ""
    if known := _FENCE_ERRORS.get(state):
        return known()
    # Connection exceptions; the server is shutting down or starting; the database is closed, else a fault of ours.
    if state.startswith(("08", "57P")) or (state == "55000" and "accepting connections" in str(error)):
        return Unavailable("database_unavailable", "the database went away, retry", layer="database")
    if state in _RETRY_STATES:
        return Unavailable("database_unavailable", "the database gave this up, retry", layer="database")
    if state == "53300":
        return Exhausted("database_connections", "the database has no connection left, retry", layer="database")
    if state == "55P03":
        return Conflict("in_progress", "the same thing is being done right now, retry", layer="database")
    return None
