"""Every table that lets the application in, taken from the catalogue: whose rows it shows, whose it lets change."""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest
from tests.integration.database.ground import (
    Database,
    FencedTable,
    Ground,
    context_body,
    insert_row,
    value_of,
    workspace_of,
)

from tenantry.capabilities.sandboxes.service.queue import QUEUE

pytestmark = pytest.mark.xdist_group("database")


@dataclass(frozen=True)
class Neighbours:
    """Two tenants with two rows in each table that knows workspaces, one in each other."""

    mine: UUID
    theirs: UUID


@pytest.fixture(scope="module")
async def neighbours(database: Database) -> Neighbours:
    return Neighbours(await database.make_tenant(rows=2), await database.make_tenant(rows=2))


async def attempts(
    database: Database, table: FencedTable, *, context: str | None, victim: UUID, blind: bool
) -> list[str]:
    """Tell what one context lets the application do to the victim's rows of one table; each try is rolled back.

    `blind` also tries what reads no column, to which the policy of reading does not apply; it hits every row there is.
    """
    own = f"where tenant_id = '{victim}'"
    statements = {
        "select": f"select tenant_id from {table.name} {own}",
        "lock": f"select tenant_id from {table.name} {own} for update",
        "delete": f"delete from {table.name} {own}",
        "insert": "",
    } | {f"update {column}": f"update {table.name} set {column} = {column} {own}" for column in table.updatable}
    if blind:
        statements |= {"delete all": f"delete from {table.name}"} | {
            f"update all {column}": f"update {table.name} set {column} = null" for column in table.updatable
        }
    done = []
    async with database.connected() as connection:
        for what, statement in statements.items():
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(f"set local app.ctx = '{context or ''}'")
                if statement:
                    tag = await connection.execute(statement)
                else:
                    tag = await insert_row(connection, table.name, tenant=victim, number=77)
                if not tag.endswith(" 0"):
                    done.append(f"{table.name}: {what}")
            except asyncpg.IntegrityConstraintViolationError:
                done.append(f"{table.name}: {what}")  # the fence had let it pass
            except asyncpg.InsufficientPrivilegeError:
                pass
            finally:
                await transaction.rollback()
    return done


async def all_attempts(database: Database, *, context: str | None, victim: UUID, blind: bool = False) -> list[str]:
    return [
        done
        for table in await database.tables()
        for done in await attempts(database, table, context=context, victim=victim, blind=blind)
    ]


def own_context(ground: Ground, tenant: UUID, *, workspace: UUID | None = None) -> str:
    return ground.signer().sign(tenant_id=tenant, workspace_id=workspace)


async def test_the_catalogue_knows_the_tables(database: Database) -> None:
    tables = {table.name: table.has_workspace for table in await database.tables()}
    assert len(tables) >= 17
    assert tables["tenantry.jobs"]
    assert tables["queue.entries"]
    assert not tables["tenantry.outbox"]


async def test_without_context_no_row_is_seen_or_written(database: Database, neighbours: Neighbours) -> None:
    assert await all_attempts(database, context=None, victim=neighbours.theirs, blind=True) == []


async def test_the_share_of_a_whole_tenant_is_set_from_any_of_its_workspaces(
    ground: Ground, database: Database
) -> None:
    """A neighbouring workspace's is not, nor another tenant's."""
    tenant, stranger = await database.make_tenant(rows=2), await database.make_tenant()
    ours, theirs = (workspace_of(tenant, number) for number in (1, 2))
    async with database.connected() as connection, connection.transaction():
        await connection.execute(f"set local app.ctx = '{own_context(ground, tenant, workspace=ours)}'")
        for keys, written in (((tenant,), True), ((tenant,), False), ((tenant, ours), True)):
            assert await QUEUE.set_share(connection, keys=keys, weight=2, most_running=3) is written
        for keys in ((tenant, theirs), (stranger,)):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await QUEUE.set_share(connection, keys=keys, weight=2, most_running=3)
        seen = await connection.fetch("select workspace_id from queue.shares")
        assert {row["workspace_id"] for row in seen} == {UUID(int=0), ours}


async def test_a_tenant_without_rows_changes_none(ground: Ground, database: Database, neighbours: Neighbours) -> None:
    """By no statement, not even one that reads nothing: only the policies of writing stand between it and all rows."""
    context = own_context(ground, await database.make_tenant(rows=0))
    assert await all_attempts(database, context=context, victim=neighbours.theirs, blind=True) == []


async def test_another_tenants_rows_are_neither_seen_nor_written(
    ground: Ground, database: Database, neighbours: Neighbours
) -> None:
    context = own_context(ground, neighbours.mine)
    assert await all_attempts(database, context=context, victim=neighbours.theirs) == []


async def test_ones_own_rows_are_seen_and_written(ground: Ground, database: Database, neighbours: Neighbours) -> None:
    """The control: the same attempts on one's own rows succeed wherever the role has the right."""
    done = await all_attempts(database, context=own_context(ground, neighbours.mine), victim=neighbours.mine)
    verbs = Counter(line.partition(": ")[2].partition(" ")[0] for line in done)
    tables = await database.tables()
    # `for update` wants the right to update the whole row, and deleting is granted on few; what becomes of
    # one's own audit events is the sealer's to insert: sequence, heads, tiles, what is unsigned, checkpoints.
    assert verbs["select"] == len(tables)
    assert verbs["insert"] == len(tables) - 5
    assert verbs["update"] == sum(len(table.updatable) for table in tables)
    assert verbs["delete"] >= 12


async def test_a_row_cannot_be_given_to_another_tenant(
    ground: Ground, database: Database, neighbours: Neighbours
) -> None:
    taken = []
    async with database.connected() as connection:
        for table in await database.tables():
            if "tenant_id" not in table.updatable:
                continue
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"set local app.ctx = '{own_context(ground, neighbours.mine)}'")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(f"update {table.name} set tenant_id = '{neighbours.theirs}'")
            await transaction.rollback()
            taken.append(table.name)
    assert len(taken) >= 10


async def test_a_table_without_its_fence_is_noticed(ground: Ground) -> None:
    """The suite itself is seen red: one table of a broken database lets everybody in."""
    async with ground.clone() as broken:
        victim = await broken.make_tenant()
        assert await all_attempts(broken, context=None, victim=victim) == []
        await broken.alter("alter table tenantry.users disable row level security")
        leaks = await all_attempts(broken, context=None, victim=victim)
        assert {leak.partition(":")[0] for leak in leaks} == {"tenantry.users"}
        await broken.alter(
            "alter table tenantry.users enable row level security",
            "drop policy workspace on tenantry.jobs",
        )
        mine = await broken.make_tenant(rows=2)
        leaks = await workspace_leaks(broken, own_context(ground, mine, workspace=workspace_of(mine, 1)), mine)
        assert leaks == ["tenantry.jobs"]


async def workspace_leaks(database: Database, context: str, tenant: UUID) -> list[str]:
    """Tables that show a session bound to the first workspace a row that is not its own."""
    leaks = []
    async with database.connected() as connection:
        for table in await database.tables():
            if not table.has_workspace:
                continue
            async with connection.transaction():
                await connection.execute(f"set local app.ctx = '{context}'")
                seen = await connection.fetch(f"select workspace_id from {table.name}")
            if [row["workspace_id"] for row in seen] != [workspace_of(tenant, 1)]:
                leaks.append(table.name)
    return leaks


async def test_a_session_of_one_workspace_sees_only_its_rows(
    ground: Ground, database: Database, neighbours: Neighbours
) -> None:
    context = own_context(ground, neighbours.mine, workspace=workspace_of(neighbours.mine, 1))
    assert await workspace_leaks(database, context, neighbours.mine) == []


async def test_a_session_of_one_workspace_writes_only_there(
    ground: Ground, database: Database, neighbours: Neighbours
) -> None:
    """Neither inserting into a sibling workspace, nor taking a row over, nor handing one to it."""
    mine = neighbours.mine
    context = own_context(ground, mine, workspace=workspace_of(mine, 1))
    sibling = workspace_of(mine, 2)
    async with database.connected() as connection:
        for table in await database.tables():
            if not table.has_workspace:
                continue
            for statement in (
                f"update {table.name} set workspace_id = '{sibling}'",
                f"update {table.name} set workspace_id = workspace_id where workspace_id = '{sibling}'",
                f"delete from {table.name} where workspace_id = '{sibling}'",
            ):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(f"set local app.ctx = '{context}'")
                try:
                    assert (await connection.execute(statement)).endswith(" 0"), statement
                except asyncpg.InsufficientPrivilegeError:
                    pass
                finally:
                    await transaction.rollback()
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"set local app.ctx = '{context}'")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await insert_row(connection, table.name, tenant=mine, number=3)
            await transaction.rollback()


@pytest.mark.parametrize("workspace", ["", "%", "*" * 32])
async def test_a_workspace_that_is_none_opens_none(
    ground: Ground, database: Database, neighbours: Neighbours, workspace: str
) -> None:
    """Not even when it is signed."""
    context = ground.sign(context_body(neighbours.mine, workspace=workspace))
    async with database.connected() as connection, connection.transaction():
        await connection.execute(f"set local app.ctx = '{context}'")
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await connection.fetch("select job_id from jobs")


async def test_a_statement_cannot_leave_its_workspace_half_way(
    ground: Ground, database: Database, neighbours: Neighbours
) -> None:
    """The planner evaluates the sub-select after the tenant's policy and before the workspace's."""
    mine = neighbours.mine
    context = own_context(ground, mine, workspace=workspace_of(mine, 1))
    widened = "select set_config('app.ctx', substr(current_setting('app.ctx'), 1, 108) || '*', true)"
    async with database.connected() as connection, connection.transaction():
        await connection.execute(f"set local app.ctx = '{context}'")
        job = await connection.fetchval("select job_id from jobs")
        other = value_of("job_id", "uuid", None, tenant=mine, number=2)
        assert other != job
        with pytest.raises(asyncpg.PostgresError, match="not signed") as refused:
            await connection.fetch(
                f"""select job_id from jobs where job_id =
                    (select '{other}'::uuid from ({widened} offset 0) x where x.set_config <> '')"""
            )
        assert refused.value.sqlstate == "TN003"


async def test_a_foreign_key_cannot_name_another_tenants_row(
    ground: Ground, database: Database, neighbours: Neighbours
) -> None:
    """The row would have to be of one tenant and its target of the other: each key starts with tenant_id."""
    theirs = workspace_of(neighbours.theirs, 1)
    async with database.connected() as connection, connection.transaction():
        await connection.execute(f"set local app.ctx = '{own_context(ground, neighbours.mine)}'")
        statement = """insert into service_accounts
            (tenant_id, service_account_id, workspace_id, name, status, created_at)
            values ($1, gen_random_uuid(), $2, 'spy', 'active', now())"""
        with pytest.raises(asyncpg.ForeignKeyViolationError) as foreign:
            async with connection.transaction():
                await connection.execute(statement, neighbours.mine, theirs)
        with pytest.raises(asyncpg.ForeignKeyViolationError) as absent:
            async with connection.transaction():
                await connection.execute(statement, neighbours.mine, UUID(int=5))
    assert str(foreign.value) == str(absent.value)


async def test_a_unique_key_is_no_oracle(ground: Ground, database: Database, neighbours: Neighbours) -> None:
    """What a neighbour has used up is free for me: ids, names, look-ups of keys, paths."""
    async with database.connected("superuser") as connection:
        used = {
            table: await connection.fetchrow(f"select * from {table} where tenant_id = $1 limit 1", neighbours.theirs)
            for table in ("tenantry.users", "tenantry.api_keys", "tenantry.idempotency_records", "tenantry.workspaces")
        }
    async with database.connected() as connection, connection.transaction():
        await connection.execute(f"set local app.ctx = '{own_context(ground, neighbours.mine)}'")
        for table, row in used.items():
            assert row is not None
            values = {**row, "tenant_id": neighbours.mine}
            if table == "tenantry.users":
                values["subject"] = "subject-of-mine"
            columns = ", ".join(values)
            places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
            # On conflict with mine nothing happens, with a neighbour's key it would be an error that tells of it.
            await connection.execute(
                f"insert into {table} ({columns}) values ({places}) on conflict do nothing",
                *values.values(),
            )


async def test_every_key_starts_with_the_tenant(database: Database) -> None:
    """Of all tables with a tenant, reachable or not: primary, unique, exclusion and foreign keys on both sides."""
    async with database.connected("superuser") as connection:
        keys = await connection.fetch(
            """select k.conrelid::regclass::text as name, k.contype::text as type,
                      (select attname from pg_attribute where attrelid = k.conrelid and attnum = k.conkey[1]) as here,
                      (select attname from pg_attribute where attrelid = k.confrelid and attnum = k.confkey[1]) as there
               from pg_constraint k where k.contype in ('p', 'u', 'x', 'f') and exists (
                   select from pg_attribute a where a.attrelid = k.conrelid and a.attname = 'tenant_id')"""
        )
        indexes = await connection.fetch(
            """select i.indexrelid::regclass::text as name, a.attname from pg_index i
               left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
               where i.indisunique and exists (
                   select from pg_attribute a where a.attrelid = i.indrelid and a.attname = 'tenant_id')"""
        )
    assert len(keys) >= 30
    assert [key for key in keys if key["here"] != "tenant_id" or key["there"] not in (None, "tenant_id")] == []
    assert [index for index in indexes if index["attname"] != "tenant_id"] == []
