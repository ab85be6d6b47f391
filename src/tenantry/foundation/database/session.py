"""A transaction inside one tenant: bound lazily, at the first query; committed at the edge.

Round trips: `BEGIN; SET LOCAL app.ctx` (one), each query (one), `COMMIT; RESET ALL` (one). A session that never
queries takes no connection at all. One task uses a session at a time.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.pool import SessionPool, database_errors
from tenantry.foundation.errors import Fault, TenantryError
from tenantry.foundation.scope import TenantScope

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy


class TenantSession:
    """Queries of one scope. Leaving the block commits, an exception rolls back; a later query begins anew.

    `lifecycle` is the platform's own work on a tenant (create, suspend, resume, erase): it passes a suspended state.
    """

    __slots__ = (
        "_after_commit",
        "_broken",
        "_busy",
        "_connection",
        "_lifecycle",
        "_pool",
        "_signer",
        "revokes",
        "scope",
    )

    def __init__(
        self, *, pool: SessionPool, signer: ContextSigner, scope: TenantScope, lifecycle: bool = False
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._lifecycle = lifecycle
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._after_commit: list[Callable[[], None]] = []
        self._busy = False
        self._broken = False
        self.revokes = False
        """Whether it took back, or gave, keys, permissions or states: whoever commits it drops what it cached."""
        self.scope = scope

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
        with self._turn():
            connection, self._connection = self._connection, None
            actions, self._after_commit = self._after_commit, []
            if connection is not None:
                try:
                    await connection.execute("COMMIT; RESET ALL")
                except BaseException:
                    await self._pool.release(connection)
                    raise
                await self._pool.shelve(connection)
        for action in actions:
            action()

    async def rollback(self) -> None:
        """Forget everything since the last commit, and whatever a statement has set for the whole connection."""
        connection, self._connection = self._connection, None
        self._after_commit.clear()
        self._broken = False
        if connection is None:
            return
        try:
            # What no longer answers is closed by `release`, which also rolls back when this is interrupted.
            with contextlib.suppress(TenantryError), database_errors():
                await connection.execute("ROLLBACK; RESET ALL")
        finally:
            await self._pool.release(connection)

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
        except BaseException:
            self._broken = self._connection is not None
            raise
        finally:
            self._busy = False

    async def _bind(self) -> "PoolConnectionProxy[asyncpg.Record]":
        context = self._signer.sign(
            tenant_id=self.scope.tenant_id, workspace_id=self.scope.workspace_id, lifecycle=self._lifecycle
        )
        connection = await self._pool.take()
        try:
            await connection.execute(f"BEGIN; SET LOCAL app.ctx = '{context}'")
        except BaseException:
            await self._pool.release(connection)
            raise
        self._connection = connection
        return connection
