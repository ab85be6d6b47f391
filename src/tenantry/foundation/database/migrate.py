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

    from tenantry.foundation.database.pool import Pool

Line = Literal["cell", "directory"]
CELL_SCHEMAS: Final = ("fence", "queue", "tenantry")
DIRECTORY_SCHEMAS: Final = ("directory",)
TEMPLATE: Final = f"t_{0:032x}"
_VERSION_SCHEMA: Final[dict[Line, str]] = {"cell": "fence", "directory": "directory"}


async def migrate(owner_dsn: str, *, line: Line, revision: str = "head", schema: str | None = None) -> None:
    """Upgrade (or, with an older `revision`, downgrade) one database; all of it or nothing, in one transaction.

    With `schema`, the tables of a tenant's own schema in a cell's database that stands at the head already; it is
    made when it is missing.
    """
    from alembic import command, script
    from sqlalchemy.ext.asyncio import create_async_engine

    config = alembic_config(line, schema=schema)
    known = [r.revision for r in script.ScriptDirectory.from_config(config).walk_revisions()]
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(owner_dsn))

    def run(connection: "Connection") -> None:
        if schema is not None:
            connection.exec_driver_sql(f"create schema if not exists {schema}")
        config.attributes["connection"] = connection
        if revision == "base":
            command.downgrade(config, revision)
            return
        from alembic.migration import MigrationContext

        options = {"version_table_schema": (within := schema or _VERSION_SCHEMA[line])}
        present = MigrationContext.configure(connection, opts=options).get_current_revision()
        target = known[0] if revision == "head" else revision
        if present and known.index(present) < known.index(target):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)
        connection.exec_driver_sql(noting(target, schema=within))

    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


async def schema_statements(owner_dsn: str) -> list[str]:
    """Tell what makes a tenant's own schema of the name `TEMPLATE` in a cell's database, at the head of the revisions.

    It is made once and rolled back; whoever repeats it under another name needs neither Alembic nor its memory.
    """
    from alembic import command
    from sqlalchemy.ext.asyncio import create_async_engine

    config = alembic_config("cell", schema=TEMPLATE)
    said = config.attributes["said"] = [f"create schema {TEMPLATE}"]
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(owner_dsn))

    def run(connection: "Connection") -> None:
        connection.exec_driver_sql(said[0])
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.rollback()
    finally:
        await engine.dispose()
    version, key = f"{TEMPLATE}.alembic_version", "constraint alembic_version_pkc primary key (version_num)"
    table = f"create table {version} (version_num varchar(32) not null, {key})"
    head = head_revision("cell")
    return [*said, table, f"insert into {version} values ('{head}')"]  # noqa: S608 - the name of a file of ours


def noting(revision: str, *, schema: str) -> str:
    """Make the statement that notes a revision for those who may not read the table: see `cell_revision`."""
    return f"comment on table {schema}.alembic_version is '{revision}'"


async def cell_revision(pool: "Pool", *, schema: str | None = None) -> str | None:
    """Tell at which revision the tables of a cell's database, or of one `schema` in it, are.

    Empty where it was never noted, None where there are no tables.
    """
    asked = "select coalesce(obj_description(there, 'pg_class'), '') from to_regclass($1) there where there is not null"
    noted: str | None = await pool.fetchval(asked, f"{schema or _VERSION_SCHEMA['cell']}.alembic_version")
    return noted


def head_revision(line: Line) -> str:
    """Name the newest revision of a line, without Alembic: by the names of its files."""
    return max(
        file.name.partition("_")[0] for file in (Path(__file__).parent / "migrations" / line).glob("versions/*.py")
    )


def alembic_config(line: Line, *, schema: str | None = None) -> "Config":
    """Make the configuration of one line; the connection is put in `attributes` by the caller."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations" / line))
    config.attributes["schema"] = schema or _VERSION_SCHEMA[line]
    if schema is not None:
        config.attributes["place"] = schema
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
