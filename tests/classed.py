"""Looks at the events that a whole run has recorded: each member of their details has a class somebody has chosen."""

import asyncio
from dataclasses import asdict, replace
from pathlib import Path

import asyncpg

from tenantry.capabilities.audit.types.classes import CLASSES
from tenantry.entrypoints.addresses import cell_database
from tenantry.foundation.database.embedded import EmbeddedPostgres

_TABLES = """
    select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname = 'audit_events'
"""
_MEMBERS = """
    with said as (select convert_from(canonical, 'UTF8')::jsonb as form from {table})
    select distinct form ->> 'action' as action, m.name from said, lateral (
        select jsonb_object_keys(form -> 'details') as name
        union all
        select substr(c.name, 9) from jsonb_object_keys(form -> 'committed') as c (name) where c.name like 'details.%'
    ) m
"""


def unclassed(home: Path, *, region: str = "us") -> set[tuple[str, str]]:
    """Give action and member of what was recorded in a cell and is in no list."""
    return asyncio.run(_unclassed(home, region))


async def _unclassed(home: Path, region: str) -> set[tuple[str, str]]:
    server = replace(EmbeddedPostgres(home).superuser, database=cell_database(region))
    connection = await asyncpg.connect(**asdict(server))
    found: set[tuple[str, str]] = set()
    try:
        for table in await connection.fetch(_TABLES):
            rows = await connection.fetch(_MEMBERS.format(table=table["name"]))
            found |= {(row["action"], row["name"]) for row in rows if row["name"] not in CLASSES}
    finally:
        await connection.close()
    return found
