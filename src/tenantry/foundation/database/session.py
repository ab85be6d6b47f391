"""A transaction inside one tenant: bound lazily, at the first query; committed at the edge.

Round trips: `BEGIN; SET LOCAL app.ctx` (one), each query (one), `COMMIT; RESET ALL` (one). A session that never
queries takes no connection at all. One task uses a session at a time.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.pool import ACQUIRE_SECONDS, database_errors
from tenantry.foundation.errors import Fault
from tenantry.foundation.scope import TenantScope

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    from tenantry.foundation.database.pool import Pool


class TenantSession:
    """Queries of one scope. Leaving the block commits, an exception rolls back; a later query begins anew.

    `lifecycle` is the platform's own work on a tenant (create, suspend, resume, erase): it passes a suspended state.
    """

    __slots__ = ("_after_commit", "_connection", "_lifecycle", "_pool", "_signer", "scope")

    def __init__(self, *, pool: "Pool", signer: ContextSigner, scope: TenantScope, lifecycle: bool = False) -> None:
        self._pool = pool
        self._signer = signer
        self._lifecycle = lifecycle
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._after_commit: list[Callable[[], None]] = []
        self.scope = scope

    async def fetch(self, query: str, *args: object) -> "list[asyncpg.Record]":
        connection = self._connection or await self._bind()
        with database_errors():
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> "asyncpg.Record | None":
        connection = self._connection or await self._bind()
        with database_errors():
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        connection = self._connection or await self._bind()
        with database_errors():
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        connection = self._connection or await self._bind()
        with database_errors():
            return str(await connection.execute(query, *args))

    async def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        connection = self._connection or await self._bind()
        with database_errors():
            await connection.executemany(query, rows)

    async def connection(self) -> "PoolConnectionProxy[asyncpg.Record]":
        """Lend the bound connection itself, for an engine that brings its own statements (the fair queue)."""
        return self._connection or await self._bind()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once the transaction is durable; never when it is rolled back. It must not raise or block."""
        self._after_commit.append(action)

    async def commit(self) -> None:
        """End the transaction. On an error nothing was kept, or it cannot be known: retry with the same key."""
        connection, self._connection = self._connection, None
        actions, self._after_commit = self._after_commit, []
        if connection is not None:
            try:
                with database_errors():
                    await connection.execute("COMMIT; RESET ALL")
            finally:
                await self._pool.release(connection)
        for action in actions:
            action()

    async def rollback(self) -> None:
        """Forget everything since the last commit; asyncpg rolls back what is open when a connection is released."""
        connection, self._connection = self._connection, None
        self._after_commit.clear()
        if connection is not None:
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

    async def _bind(self) -> "PoolConnectionProxy[asyncpg.Record]":
        context = self._signer.sign(
            tenant_id=self.scope.tenant_id, workspace_id=self.scope.workspace_id, lifecycle=self._lifecycle
        )
        with database_errors():
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        try:
            with database_errors():
                await connection.execute(f"BEGIN; SET LOCAL app.ctx = '{context}'")
        except BaseException:
            await self._pool.release(connection)
            raise
        if self._connection is not None:
            await self._pool.release(connection)
            raise Fault("session_shared", "one session was used by two tasks at once", layer="database")
        self._connection = connection
        return connection
