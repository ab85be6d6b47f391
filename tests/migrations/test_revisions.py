"""Every revision up, down and up again, each leaving a fence that stands; and one that leaves a hole is found."""

import shutil
from pathlib import Path
from uuid import uuid4

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
# What a schema `queue` holds, without the order of columns.
QUEUE_INVENTORY = """
    with tables as (select c.oid, c.relname, c.reloptions from pg_class c
                    where c.relnamespace = 'queue'::regnamespace and c.relkind = 'r' and c.relname <> 'purges')
    select 'table ' || relname || ' ' || coalesce(reloptions::text, '') as item from tables
    union all
    select 'column ' || t.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
           || a.attnotnull || ' ' || a.attidentity::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
      from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
    union all
    select 'index ' || pg_get_indexdef(i.indexrelid) || ' ' || coalesce(c.reloptions::text, '')
      from tables t join pg_index i on i.indrelid = t.oid join pg_class c on c.oid = i.indexrelid
    union all
    select 'constraint ' || t.relname || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
      from tables t join pg_constraint k on k.conrelid = t.oid
    union all
    select 'function ' || pg_get_functiondef(p.oid) || ' ' || coalesce(p.proacl::text, '')
      from pg_proc p where p.pronamespace = 'queue'::regnamespace
    union all
    select 'policy ' || t.relname || ' ' || p.polcmd::text || ' ' || p.polpermissive || ' '
           || pg_get_expr(p.polqual, p.polrelid) || ' ' || pg_get_expr(p.polwithcheck, p.polrelid)
      from tables t join pg_policy p on p.polrelid = t.oid
     where p.polroles = array['tenantry_dispatcher'::regrole]::oid[]
    union all
    select 'right ' || t.relname || ' ' || r.privilege
      from tables t, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as r (privilege)
     where has_table_privilege('tenantry_dispatcher', t.oid, r.privilege)
    union all
    select 'forced ' || c.relname from tables t join pg_class c on c.oid = t.oid
     where c.relrowsecurity and c.relforcerowsecurity
    order by item
"""
QUEUE_CLAIM = "select tenant_id, job_id from queue.claim($1, 3, 3, '{}', 60)"
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


async def test_the_queue_at_head_is_what_its_engine_says(ground: Ground) -> None:
    """Its revisions are frozen text; together they make what the engine makes at once."""
    made: list[list[str]] = []
    async with empty_database(ground) as database:
        await migrate(database.dsn("tenantry_owner"), line="cell")
        made.append(await queue_inventory(database))
    async with empty_database(ground) as database, database.connected("tenantry_owner") as connection:
        for statement in (*ddl(QUEUE.names), *dispatcher_grants(QUEUE.names, role="tenantry_dispatcher")):
            await connection.execute(statement)
        made.append(await queue_inventory(database))
    assert made[0] == made[1]
    assert len(made[0]) > 150


async def queue_inventory(database: Database) -> list[str]:
    """Everything of the queue but the purge list, and what is the application's or the mover's."""
    async with database.connected("superuser") as connection:
        return [row["item"] for row in await connection.fetch(QUEUE_INVENTORY)]


@pytest.mark.parametrize(("table", "number"), [("entries", "0006_queue"), ("shares", "0014_queue_shares")])
def test_the_application_gets_of_the_queue_what_its_engine_asks_for(table: str, number: str) -> None:
    revision = FOLDER / "cell" / "versions" / f"{number}.py"
    namespace: dict[str, object] = {"__file__": str(revision)}
    exec(compile(revision.read_text(), str(revision), "exec"), namespace)  # noqa: S102 - a revision is no module
    assert str(namespace["_APPLICATION"]).lower() == application_grants(QUEUE.names)[table].lower()


async def test_a_queue_that_is_taken_back_still_hands_out_what_it_has(ground: Ground) -> None:
    """Down to the queue without shares and up again, each with entries at a cap in it."""
    async with empty_database(ground) as database:
        await migrate(database.dsn("tenantry_owner"), line="cell")
        async with database.connected("superuser") as superuser, database.connected("tenantry_dispatcher") as link:
            await superuser.execute(
                """insert into queue.shares (tenant_id, weight, most_running) values (lpad('a', 32, '0')::uuid, 3, 1);
                   insert into queue.entries (tenant_id, workspace_id, principal_id, job_id, estimate_seconds)
                   select lpad(substr('ab', 1 + n % 2, 1), 32, '0')::uuid, gen_random_uuid(), gen_random_uuid(),
                          gen_random_uuid(), 1 from generate_series(1, 12) n"""
            )
            free = {"worker": uuid4(), "free_slots": 5, "capacity": 5, "labels": (), "lease_seconds": 60.0}
            first = await QUEUE.claim(link, **free)  # type: ignore[arg-type]
            assert len({claim.ticket.first for claim in first}) == 2
            assert len(first) == 5
            await migrate(database.dsn("tenantry_owner"), line="cell", revision="0013")
            assert await superuser.fetchval("select count(*) from queue.nodes where weight <> 1") == 0
        async with database.connected("tenantry_dispatcher") as link:
            second = [row[1] for row in await link.fetch(QUEUE_CLAIM, uuid4())]
            assert len(second) == 3
        await migrate(database.dsn("tenantry_owner"), line="cell")
        async with database.connected("tenantry_dispatcher") as link:
            third = await QUEUE.claim(link, **{**free, "free_slots": 9, "capacity": 9})  # type: ignore[arg-type]
            entries = [claim.ticket.entry for claim in (*first, *third)] + second
            assert len(set(entries)) == len(entries) == 12


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
