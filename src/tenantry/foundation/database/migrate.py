"""Brings a database to the head of its line of revisions. Idempotent; runs at every start in a process of its own,
so that Alembic's memory is gone when the server serves.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import asyncpg

from tenantry.foundation.database.context import pads_of
from tenantry.foundation.database.pool import database_errors

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

Line = Literal["cell", "directory"]
CELL_SCHEMAS: Final = ("fence", "queue", "tenantry")
DIRECTORY_SCHEMAS: Final = ("directory",)
_VERSION_SCHEMA: Final[dict[Line, str]] = {"cell": "fence", "directory": "directory"}


async def migrate(owner_dsn: str, *, line: Line, revision: str = "head") -> None:
    """Upgrade (or, with an older `revision`, downgrade) one database; all of it or nothing, in one transaction."""
    from alembic import command, script
    from sqlalchemy.ext.asyncio import create_async_engine

    config = alembic_config(line)
    known = [r.revision for r in script.ScriptDirectory.from_config(config).walk_revisions()]
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(owner_dsn))

    def run(connection: "Connection") -> None:
        config.attributes["connection"] = connection
        if revision == "base":
            command.downgrade(config, revision)
            return
        from alembic.migration import MigrationContext

        options = {"version_table_schema": _VERSION_SCHEMA[line]}
        present = MigrationContext.configure(connection, opts=options).get_current_revision()
        target = known[0] if revision == "head" else revision
        if present and known.index(present) < known.index(target):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)

    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


def alembic_config(line: Line) -> "Config":
    """Make the configuration of one line; the connection is put in `attributes` by the caller."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations" / line))
    config.attributes["schema"] = _VERSION_SCHEMA[line]
    return config


async def install_context_key(owner_dsn: str, *, key_id: str, key: bytes) -> None:
    """Let the database verify contexts signed with `key`; other keys stay valid until they are removed (rotation)."""
    inner, outer = pads_of(key)
    with database_errors():
        connection = await asyncpg.connect(owner_dsn)
        try:
            await connection.execute(
                """insert into fence.context_keys (key_id, inner_pad, outer_pad) values ($1, $2, $3)
                   on conflict (key_id) do update set inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad""",
                key_id,
                inner,
                outer,
            )
        finally:
            await connection.close()
