"""A transaction inside one tenant: bound lazily, at the first query; committed at the edge.

Round trips: `BEGIN; SET LOCAL app.ctx` (one), each query (one), `COMMIT; RESET ALL` (one; news of what has changed goes
with it). A session that never queries takes no connection at all. One task uses a session at a time.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import asyncpg

from tenantry.foundation.changes import CHANGES, ChangeKeeper, require_name
from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.places import SHARED, Place, Places, is_schema
from tenantry.foundation.database.pool import database_errors, tenant_moved
from tenantry.foundation.errors import Fault, TenantryError
from tenantry.foundation.scope import TenantScope

_ELSEWHERE: Final = frozenset({"tenant_moved", "tenant_unknown"})

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy


class Sealer(Protocol):
    """A tenant's keys, as far as sealing goes; `associated` names the place and is not stored."""

    def seal(self, plaintext: bytes, associated: bytes) -> bytes: ...

    def open(self, sealed: bytes, associated: bytes) -> bytes: ...


class Vault(Protocol):
    """Finds the keys of a session's tenant: the port that a cell is handed."""

    async def keys(self, session: "TenantSession") -> Sealer | None:
        """Give them, read in the session's own transaction at first; None for a tenant whose keys are no more."""


class TenantSession:
    """Queries of one scope. Leaving the block commits, an exception rolls back; a later query begins anew.

    `lifecycle` is the platform's own work on a tenant (create, suspend, resume, erase): it passes a suspended state.
    `beside` says that a transaction which is open may wait for this one: it takes a connection that is kept for such.
    `lock_seconds` is how long its statements wait for a lock; without it, as long as they may take at all.
    """

    __slots__ = (
        "_after_commit",
        "_beside",
        "_broken",
        "_busy",
        "_changed",
        "_connection",
        "_forwards",
        "_keeper",
        "_lifecycle",
        "_lock_seconds",
        "_place",
        "_places",
        "_signer",
        "revokes",
        "scope",
        "vault",
    )

    def __init__(
        self,
        *,
        places: Places,
        signer: ContextSigner,
        scope: TenantScope,
        lifecycle: bool = False,
        beside: bool = False,
        lock_seconds: float | None = None,
        at: Place | None = None,
        keeper: ChangeKeeper | None = None,
        vault: Vault | None = None,
    ) -> None:
        self._places = places
        self._place = at
        self._signer = signer
        self._keeper = keeper
        self._lifecycle = lifecycle
        self._beside = beside
        self._lock_seconds = lock_seconds
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._after_commit: list[Callable[[], None]] = []
        self._forwards: set[tuple[str, str | None]] = set()
        self._changed: set[str] = set()
        self._busy = False
        self._broken = False
        self.revokes = False
        """Whether it took back, or gave, keys, permissions or states: whoever commits it drops what it cached."""
        self.scope = scope
        self.vault = vault
        """What personal data are sealed with; None where nobody has keys: they are not kept then."""

    async def fetch(self, query: str, *args: object) -> "list[asyncpg.Record]":
        with self._turn():
            connection = self._connection or await self._bind()
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> "asyncpg.Record | None":
        with self._turn():
            connection = self._connection or await self._bind()
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        with self._turn():
            connection = self._connection or await self._bind()
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        with self._turn():
            connection = self._connection or await self._bind()
            return str(await connection.execute(query, *args))

    async def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        with self._turn():
            connection = self._connection or await self._bind()
            await connection.executemany(query, rows)

    async def connection(self) -> "PoolConnectionProxy[asyncpg.Record]":
        """Lend the bound connection itself, for an engine that brings its own statements (the fair queue)."""
        with self._turn():
            return self._connection or await self._bind()

    async def place(self) -> Place:
        """Tell where the tenant's rows lie, which binds the session to there."""
        place = self._place = self._place or await self._places.find(self.scope.tenant_id)
        return place

    def forward(self, channel: str, payload: str | None = None) -> None:
        """Repeat this news in the cell's database after the commit, where the tenant has a database of its own.

        Without a payload the place is told.
        """
        self._forwards.add((channel, payload))

    def changes(self, name: str) -> None:
        """Say that this transaction changes a resource, see `foundation/changes`.

        At its commit nobody vouches any more for what it was, and every process hears of it.
        """
        self._changed.add(require_name(name))

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once the transaction is durable; never when it is rolled back. It must not raise or block."""
        self._after_commit.append(action)

    async def commit(self) -> None:
        """End the transaction. On an error nothing was kept, or it cannot be known: retry with the same key.

        Raises Fault `transaction_broken` where a statement has failed and the failure was passed over: PostgreSQL
        would answer that COMMIT with a silent rollback.
        """
        if self._broken:
            await self.rollback()
            raise Fault("transaction_broken", "a statement of this transaction failed before", layer="database")
        changed, self._changed = self._changed, set()
        if changed and self._keeper is not None:
            await self._keeper.close(self.scope.tenant_id, changed)
        with self._turn():
            connection, self._connection = self._connection, None
            actions, self._after_commit = self._after_commit, []
            if connection is not None:
                pool = self._bound_place.pool
                try:
                    await connection.execute(f"{self._news_of(changed)}COMMIT; RESET ALL")
                except BaseException:
                    await pool.release(connection)
                    raise
                await pool.shelve(connection)
        # Of a commit that failed nobody knows whether it counts: what was closed then stays closed until its time.
        if changed and self._keeper is not None:
            await self._keeper.open(self.scope.tenant_id, changed)
        forwards, self._forwards = self._forwards, set()
        if forwards and connection is not None and not is_schema(self._bound_place.name):
            await self._places.tell(self._bound_place, forwards)
        for action in actions:
            action()

    async def rollback(self) -> None:
        """Forget everything since the last commit, and whatever a statement has set for the whole connection."""
        connection, self._connection = self._connection, None
        self._after_commit.clear()
        self._changed.clear()
        self._forwards.clear()
        self._broken = False
        if connection is None:
            return
        try:
            # What no longer answers is closed by `release`, which also rolls back when this is interrupted.
            with contextlib.suppress(TenantryError), database_errors():
                await connection.execute("ROLLBACK; RESET ALL")
        finally:
            await self._bound_place.pool.release(connection)

    def _news_of(self, changed: set[str]) -> str:
        tenant = self.scope.tenant_id.hex
        return "".join(f"SELECT pg_notify('{CHANGES}', '{tenant}/{name}'); " for name in sorted(changed))

    @property
    def _bound_place(self) -> Place:
        if self._place is None:
            raise Fault("session_unbound", "this session has not been bound to a place", layer="database")
        return self._place

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.commit()
        else:
            await self.rollback()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One statement at a time; raises Fault `session_shared` when two tasks use the session at once."""
        if self._busy:
            raise Fault("session_shared", "one session was used by two tasks at once", layer="database")
        self._busy = True
        try:
            with database_errors():
                yield
        except (asyncpg.UndefinedTableError, asyncpg.InvalidCatalogNameError) as error:
            self._broken = self._connection is not None
            if self._place is None or self._place.name == SHARED:
                raise
            self._places.forget(self.scope.tenant_id)
            raise tenant_moved() from error
        except BaseException as error:
            self._broken = self._connection is not None
            if isinstance(error, TenantryError) and error.code in _ELSEWHERE:
                self._places.forget(self.scope.tenant_id)
            raise
        finally:
            self._busy = False

    async def _bind(self) -> "PoolConnectionProxy[asyncpg.Record]":
        context = self._signer.sign(
            tenant_id=self.scope.tenant_id, workspace_id=self.scope.workspace_id, lifecycle=self._lifecycle
        )
        tenant_id = self.scope.tenant_id
        # Found once: what follows a commit stays where it began.
        place = self._place = self._place or self._places.known(tenant_id) or await self._places.find(tenant_id)
        patience = "" if self._lock_seconds is None else f"; SET LOCAL lock_timeout = {int(self._lock_seconds * 1000)}"
        connection = await place.pool.take(beside=self._beside)
        try:
            await connection.execute(f"BEGIN; SET LOCAL app.ctx = '{context}'{patience}")
        except BaseException:
            await place.pool.release(connection)
            raise
        self._connection = connection
        return connection
