"""Connection pools of one database, and how their failures read above."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

from tenantry.foundation.errors import Conflict, Denied, Exhausted, Fault, TenantryError, Unavailable

if TYPE_CHECKING:
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ACQUIRE_SECONDS: Final = 5.0

# What the fence raises (migration 0001). A forged or stale context is our bug or an attack: never shown as data.
_FENCE_ERRORS: Final[dict[str, Callable[[], TenantryError]]] = {
    "TN001": lambda: Denied(
        "tenant_suspended", "this tenant is suspended: its administrator or the operator can tell why", layer="tenants"
    ),
    "TN002": lambda: Unavailable(
        "tenant_read_only", "this tenant is being moved: reads work, retry the write", layer="fence", retry_after=5
    ),
    "TN003": lambda: Fault("context_refused", "the database refused the tenant context", layer="fence"),
    "TN004": lambda: Denied("tenant_unknown", "no such tenant in this cell", layer="fence"),
}


class QuietConnection(asyncpg.Connection):
    """A connection whose release costs no round trip: a session ends with `COMMIT; RESET ALL` by itself."""

    def get_reset_query(self) -> str:
        return ""


async def _prepare(connection: "Connection") -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def open_pool(
    dsn: str,
    *,
    search_path: str,
    min_size: int = 1,
    max_size: int = 10,
) -> "Pool":
    """Open a pool; raises Unavailable `database_unavailable` with the cause when nothing answers.

    `pg_temp` stands last in `search_path`: first, a temporary table could shadow a real one.
    """
    with database_errors():
        return await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            connection_class=QuietConnection,
            init=_prepare,
            server_settings={"search_path": f"{search_path}, pg_temp", "timezone": "UTC", "jit": "off"},
            timeout=ACQUIRE_SECONDS,
        )


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate what asyncpg raises; a programming error passes through as it is."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _translated(error) or error from error
    except (OSError, asyncpg.InterfaceError, TimeoutError) as error:
        raise Unavailable(
            "database_unavailable", f"the database does not answer: {type(error).__name__}", layer="database"
        ) from error


def _translated(error: asyncpg.PostgresError) -> TenantryError | None:
    state = getattr(error, "sqlstate", "") or ""
    if known := _FENCE_ERRORS.get(state):
        return known()
    if state.startswith(("08", "57P")):  # connection exceptions; the server is shutting down or starting
        return Unavailable("database_unavailable", "the database went away, retry", layer="database")
    if state == "53300":
        return Exhausted("database_connections", "the database has no connection left, retry", layer="database")
    if state == "55P03":
        return Conflict("in_progress", "the same thing is being done right now, retry", layer="database")
    return None
