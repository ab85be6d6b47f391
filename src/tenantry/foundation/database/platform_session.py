"""The one way to step outside of a tenant.

The import contract lists who may import this module, and why:

- `capabilities.tenants.service`: placements live in the directory, which belongs to no tenant;
- `entrypoints`: dispatcher, sealer and relay see ids of all tenants, then open one bound session per tenant.

The roles behind these pools are fenced too: each sees only the tables that a policy of its own opens to it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tenantry.foundation.database.pool import ACQUIRE_SECONDS, database_errors

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    from tenantry.foundation.database.pool import Pool


@asynccontextmanager
async def platform_session(
    pool: "Pool", *, schema: str | None = None
) -> "AsyncIterator[PoolConnectionProxy[asyncpg.Record]]":
    """Open a transaction that no tenant binds; it commits when the block ends well.

    `schema` is one of the database's whose tables it then names, instead of the pool's own.
    """
    with database_errors():
        async with pool.acquire(timeout=ACQUIRE_SECONDS) as connection, connection.transaction():
            if schema is not None:
                await connection.execute("select set_config('search_path', $1, true)", f"{schema}, pg_temp")
            yield connection
