"""Every revision up, down and up again, each leaving a fence that stands; and one that leaves a hole is found."""

import shutil
from pathlib import Path

import pytest
from alembic import command, script
from sqlalchemy import Connection
from tests.integration.database.ground import Database, Ground
from tests.migrations.schema import as_owner, differences, empty_database

from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.engines.fairqueue import application_grants, ddl, dispatcher_grants
from tenantry.foundation.database import migrations
from tenantry.foundation.database.context import derive_context_key
from tenantry.foundation.database.migrate import Line, alembic_config, install_context_key, migrate
from tenantry.foundation.database.selftest import examine_cell

pytestmark = pytest.mark.xdist_group("migrations")

FOLDER = Path(migrations.__path__[0])
CANARY_BEGINS = "0003"  # with the outbox, in which the canary sits

# Everything a revision can make, by name; what a downgrade leaves of it is a difference.
INVENTORY = """
    select 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || coalesce(c.relacl::text, '') as item
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = any ($1)
    union all
    select 'column ' || a.attrelid::regclass || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || ' ' || a.attnotnull || ' ' || coalesce(a.attacl::text, '')
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = any ($1) and a.attnum > 0 and not a.attisdropped
    union all
    select 'function ' || p.oid::regprocedure || ' ' || p.prosecdef || ' ' || md5(pg_get_functiondef(p.oid)) || ' '
           || coalesce(p.proacl::text, '')
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any ($1)
    union all
    select 'policy ' || tablename || ' ' || policyname || ' ' || permissive || cmd || roles::text || coalesce(qual, '')
           || coalesce(with_check, '') from pg_policies where schemaname = any ($1)
    union all
    select 'constraint ' || k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
      from pg_constraint k join pg_namespace n on n.oid = k.connamespace where n.nspname = any ($1)
    union all
    select 'schema ' || n.nspname || ' ' || n.nspowner::regrole || ' ' || coalesce(n.nspacl::text, '')
      from pg_namespace n where n.nspname = any ($1)
    order by item
"""
SCHEMAS = {"cell": ["fence", "queue", "tenantry"], "directory": ["directory"]}

UNFENCED = '''"""Adds a table and forgets the fence."""

from tenantry.foundation.database.migrations.fencing import run

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    run(
        "create table tenantry.notes (tenant_id uuid not null, note_id uuid primary key, body text not null)",
        "grant select, insert on tenantry.notes to tenantry_app",
    )


def downgrade() -> None:
    run("drop table tenantry.notes")
'''


def revisions(line: Line) -> list[str]:
    """Oldest first."""
    walk = script.ScriptDirectory.from_config(alembic_config(line)).walk_revisions()
    return [revision.revision for revision in walk][::-1]


async def inventory(database: Database, line: Line) -> list[str]:
    async with database.connected("superuser") as connection:
        return [row["item"] for row in await connection.fetch(INVENTORY, SCHEMAS[line])]


async def install_key(database: Database) -> None:
    key = derive_context_key(master=database.ground.secrets.context_key, region="us")
    await install_context_key(database.dsn("tenantry_owner"), key_id="a", key=key)


@pytest.mark.parametrize("line", ["cell", "directory"])
async def test_head_can_be_left_and_reached_again_and_again(ground: Ground, line: Line) -> None:
    """Base, head, base, head: no remains below, the same above; a second upgrade changes nothing."""
    async with empty_database(ground, line) as database:
        owner = database.dsn("tenantry_owner")
        await migrate(owner, line=line)
        head = await inventory(database, line)
        await migrate(owner, line=line)
        assert await inventory(database, line) == head
        await migrate(owner, line=line, revision="base")
        left = [item for item in await inventory(database, line) if "alembic_version" not in item]
        assert [item for item in left if not item.startswith("schema ")] == []
        await migrate(owner, line=line)
        assert await inventory(database, line) == head
    assert len(head) > (300 if line == "cell" else 15)


async def test_each_revision_leaves_a_fence_that_stands(ground: Ground) -> None:
    """On the way up and on the way down."""
    async with empty_database(ground) as database:
        owner = database.dsn("tenantry_owner")
        up = revisions("cell")
        for number, revision in enumerate([*up, *up[-2::-1]]):
            await migrate(owner, line="cell", revision=revision)
            if number == 0:
                await install_key(database)
            findings = await examine_cell(database.dsn(), signer=database.signer)
            expected = [] if revision >= CANARY_BEGINS else ["canary_failed"]
            assert [finding.code for finding in findings] == expected, (revision, findings)


async def test_a_revision_is_one_transaction(ground: Ground) -> None:
    """What fails half way leaves nothing, and can be repeated."""
    async with empty_database(ground) as database:
        before = await inventory(database, "cell")
        await database.alter("create table tenantry.jobs (in_the_way int)")
        with pytest.raises(Exception, match="already exists"):
            await migrate(database.dsn("tenantry_owner"), line="cell")
        await database.alter("drop table tenantry.jobs")
        assert await inventory(database, "cell") == before
        await migrate(database.dsn("tenantry_owner"), line="cell")
        assert await differences(database) == []


async def test_a_revision_that_adds_an_unfenced_table_is_found(ground: Ground, tmp_path: Path) -> None:
    """By the self-test, which every start runs, and by the comparison with the models."""
    folder = tmp_path / "cell"
    shutil.copytree(FOLDER / "cell", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_notes.py").write_text(UNFENCED.format(head=revisions("cell")[-1]))
    config = alembic_config("cell")
    config.set_main_option("script_location", str(folder))

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with empty_database(ground) as database:
        await as_owner(database, upgrade)
        await install_key(database)
        findings = await examine_cell(database.dsn(), signer=database.signer)
        told = [finding.detail for finding in findings if finding.code == "table_unfenced"]
        assert [detail.partition(" ")[0] for detail in told] == ["tenantry.notes"] * 3
        assert {detail.partition(" ")[2] for detail in told} == {
            "has no forced row level security",
            "lacks a restrictive tenant policy",
            "has a key that does not start with tenant_id",
        }
        assert "notes" in str(await differences(database))


def test_the_frozen_queue_is_what_its_engine_says() -> None:
    """Revision 0006 was written by the engine and has not drifted from it."""
    text = (FOLDER / "cell" / "versions" / "0006_queue.sql").read_text(encoding="utf-8")
    header, _, frozen = text.partition("\n\n")
    assert all(line.startswith("--") for line in header.splitlines())
    statements = [*ddl(QUEUE.names), *dispatcher_grants(QUEUE.names, role="tenantry_dispatcher")]
    assert [statement.strip() for statement in frozen.split("-- ;;")] == [statement.strip() for statement in statements]


def test_the_application_gets_of_the_queue_what_its_engine_asks_for() -> None:
    revision = FOLDER / "cell" / "versions" / "0006_queue.py"
    namespace: dict[str, object] = {"__file__": str(revision)}
    exec(compile(revision.read_text(), str(revision), "exec"), namespace)  # noqa: S102 - a revision is no module
    assert str(namespace["_APPLICATION"]).lower() == application_grants(QUEUE.names).lower()


async def test_migrating_wants_the_owner(ground: Ground) -> None:
    async with empty_database(ground) as database:
        with pytest.raises(Exception, match="permission denied"):
            await migrate(database.dsn("tenantry_app"), line="cell")


def test_a_revision_imports_nothing_that_may_change() -> None:
    """Frozen text: of the product only `fencing`, which only ever grows."""
    for revision in FOLDER.glob("*/versions/*.py"):
        for line in revision.read_text().splitlines():
            if line.startswith(("import ", "from ")) and "tenantry" in line:
                assert line.startswith("from tenantry.foundation.database.migrations.fencing import "), revision.name


async def test_installing_a_key_again_replaces_it(ground: Ground) -> None:
    async with empty_database(ground) as database:
        await migrate(database.dsn("tenantry_owner"), line="cell")
        for _ in range(2):
            await install_key(database)
        async with database.connected("superuser") as connection:
            assert await connection.fetchval("select count(*) from fence.context_keys") == 1
