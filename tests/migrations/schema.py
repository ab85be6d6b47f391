"""Databases at any revision, and how they differ from the models."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from tests.integration.database.ground import Database, Ground

from tenantry.foundation.database.migrate import CELL_SCHEMAS, DIRECTORY_SCHEMAS, Line
from tenantry.foundation.database.roles import CELL_ROLES, DIRECTORY_ROLE, OWNER, prepare_database
from tenantry.foundation.database.tables import CELL, DIRECTORY

Result = TypeVar("Result")
PACKAGE: Final = Path(import_module("tenantry").__path__[0])

# Tables that no model describes, each with the reason.
EXCLUDED: Final = {
    "fence.alembic_version": "Alembic's own",
    "directory.alembic_version": "Alembic's own",
    "fence.context_keys": "the fence's own: read by its definer functions, by no repository",
    "fence.tenant_state": "the fence's own: changed by fence.set_tenant_state(), by no repository",
    **{
        f"queue.{table}": "the fair queue's: its engine brings the DDL, which the revisions must equal"
        for table in ("entries", "shares", "gate", "lanes", "nodes", "fronts", "workers")
    },
}


def metadata_of(line: Line) -> MetaData:
    """Everything the capabilities declare; whoever adds a `models` joins by itself."""
    for module in sorted((PACKAGE / "capabilities").glob("*/models.py")):
        import_module(f"tenantry.capabilities.{module.parent.name}.models")
    return CELL if line == "cell" else DIRECTORY


@asynccontextmanager
async def empty_database(ground: Ground, line: Line = "cell") -> AsyncIterator[Database]:
    """As prepared by a superuser before the first migration."""
    database = Database(ground, f"empty_{secrets.token_hex(6)}")
    cell = line == "cell"
    connection = await asyncpg.connect(ground.dsn("superuser", "postgres"))
    try:
        await prepare_database(
            connection,
            database.dsn("superuser"),
            name=database.name,
            schemas=CELL_SCHEMAS if cell else DIRECTORY_SCHEMAS,
            roles=(OWNER, *CELL_ROLES) if cell else (OWNER, DIRECTORY_ROLE),
        )
        yield database
    finally:
        await connection.execute(f"drop database if exists {database.name} with (force)")
        await connection.close()


async def as_owner(database: Database, work: Callable[[Connection], Result]) -> Result:
    """Run synchronous SQLAlchemy work on the database; what it changes is kept."""
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(database.dsn("tenantry_owner"))
    )
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def differences(database: Database, line: Line = "cell") -> list[Any]:
    """What Alembic would change to make the database like the models, and primary keys that differ."""
    metadata = metadata_of(line)

    def included(item: Any, _name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        table = item if kind == "table" else item.table
        return kind != "table" or f"{table.schema}.{table.name}" not in EXCLUDED

    def compare(connection: Connection) -> list[Any]:
        schemas = CELL_SCHEMAS if line == "cell" else DIRECTORY_SCHEMAS
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name in schemas,
            "include_object": included,
            "compare_type": True,
            "compare_server_default": True,
            "version_table_schema": "fence" if line == "cell" else "directory",
        }
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        reflected = inspect(connection)
        for table in metadata.sorted_tables:
            if reflected.has_table(table.name, schema=table.schema):
                key = reflected.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
                if key != [column.name for column in table.primary_key.columns]:
                    found.append(("primary_key", f"{table.schema}.{table.name}", key))
        return found

    return await as_owner(database, compare)
