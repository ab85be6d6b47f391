"""The models say what the head of the migrations makes: tables, columns, types, defaults, keys, indexes."""

import pytest
from tests.integration.database.ground import Database, Ground
from tests.migrations.schema import EXCLUDED, differences, empty_database, metadata_of

from tenantry.foundation.database.migrate import Line, migrate

pytestmark = pytest.mark.xdist_group("migrations")

# Each change of a database at head, and a word of what must be said of it.
DRIFTS = [
    ("create table tenantry.loot (tenant_id uuid primary key)", "remove_table"),
    ("drop table tenantry.artifacts", "add_table"),
    ("alter table tenantry.jobs add column loot text", "remove_column"),
    ("alter table tenantry.jobs drop column detail", "add_column"),
    ("alter table tenantry.jobs alter column exit_code type bigint", "modify_type"),
    ("alter table tenantry.jobs alter column image_digest set not null", "modify_nullable"),
    ("alter table tenantry.jobs alter column attempt drop default", "modify_default"),
    ("drop index tenantry.jobs_workspace", "add_index"),
    ("create index spare on tenantry.jobs (tenant_id)", "remove_index"),
    ("alter table tenantry.jobs drop constraint jobs_tenant_id_workspace_id_fkey", "add_fk"),
    ("alter table tenantry.images drop constraint images_tenant_id_workspace_id_name_key", "add_constraint"),
    ("alter table tenantry.audit_heads drop constraint audit_heads_pkey", "primary_key"),
]


@pytest.mark.parametrize("line", ["cell", "directory"])
async def test_models_equal_head(ground: Ground, line: Line) -> None:
    async with empty_database(ground, line) as database:
        await migrate(database.dsn("tenantry_owner"), line=line)
        assert await differences(database, line) == []


async def test_every_kind_of_drift_is_seen(ground: Ground) -> None:
    async with empty_database(ground) as database:
        await migrate(database.dsn("tenantry_owner"), line="cell")
        for statement, _ in DRIFTS:
            await database.alter(statement)
        found = str(await differences(database))
    assert [word for _, word in DRIFTS if word not in found] == []


def test_every_exclusion_has_its_reason_and_no_model() -> None:
    tables = [*metadata_of("cell").sorted_tables, *metadata_of("directory").sorted_tables]
    described = {f"{table.schema}.{table.name}" for table in tables}
    assert described.isdisjoint(EXCLUDED)
    assert all(len(reason.split()) > 1 for reason in EXCLUDED.values())


async def test_every_excluded_table_is_there(ground: Ground) -> None:
    """An exclusion of what is gone would hide the next table of that name."""
    there = set()
    for name in ("tenantry_us", "tenantry_directory"):
        async with Database(ground, name).connected("superuser") as connection:
            there |= {
                row["name"]
                for row in await connection.fetch(
                    """select n.nspname || '.' || c.relname as name from pg_class c
                       join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r'"""
                )
            }
    assert set(EXCLUDED) - there == set()


def test_every_model_of_a_cell_leads_with_its_tenant() -> None:
    """So that move, export and erase can be generated from the metadata."""
    own = ("sealer_gate", "region_log", "region_tiles", "region_head", "region_roots", "seen_roots")
    fence_own = {f"fence.{name}" for name in own}
    for table in metadata_of("cell").sorted_tables:
        if f"{table.schema}.{table.name}" not in fence_own:
            assert next(iter(table.primary_key.columns)).name == "tenant_id", table.name
            for key in table.foreign_key_constraints:
                assert key.column_keys[0] == "tenant_id", table.name
