"""What the roles may not do, whatever the SQL: tried, each beside a control that shows the try can succeed."""

import asyncio
from uuid import UUID

import asyncpg
import pytest
from tests.integration.database.ground import Database, Ground, context_body, scope_of

pytestmark = pytest.mark.xdist_group("database")

FORBIDDEN = [
    "create table tenantry.loot (id int)",
    "create table public.loot (id int)",
    "create schema loot",
    "create temporary table jobs (tenant_id uuid, job_id uuid)",
    "select 1 as id into temporary loot",
    "create temporary view loot as select 1",
    "create temporary sequence loot",
    "create function tenantry.loot() returns int language sql as 'select 1'",
    "create function pg_temp.loot() returns int language sql as 'select 1'",
    "create type tenantry.loot as (id int)",
    "create extension plpython3u",
    "create role loot",
    "create server loot foreign data wrapper postgres_fdw",
    "create publication loot for all tables",
    "create event trigger loot on ddl_command_start execute function fence.tenant()",
    "create trigger loot before insert on tenantry.jobs execute function suppress_redundant_updates_trigger()",
    "create rule loot as on select to tenantry.jobs do instead nothing",
    "create policy loot on tenantry.jobs using (true)",
    "drop policy tenant_read on tenantry.jobs",
    "alter table tenantry.jobs disable row level security",
    "alter table tenantry.jobs no force row level security",
    "alter table tenantry.jobs owner to tenantry_app",
    "alter table tenantry.jobs add column loot int",
    "alter role tenantry_app superuser",
    "alter role tenantry_app bypassrls",
    "alter role tenantry_app set track_activities = on",
    "alter function fence.tenant() owner to tenantry_app",
    "drop table tenantry.jobs",
    "truncate tenantry.jobs",
    "truncate tenantry.outbox cascade",
    "reindex table tenantry.jobs",
    "cluster tenantry.jobs using jobs_pkey",
    "lock table tenantry.audit_events in access exclusive mode",
    "grant tenantry_owner to tenantry_app",
    "comment on table tenantry.jobs is 'x'",
    "copy tenantry.jobs to program 'cat'",
    "copy tenantry.jobs from program 'id'",
    "copy tenantry.jobs to '/tmp/loot'",
    "copy tenantry.outbox from '/etc/passwd'",
    "select pg_read_file('/etc/passwd')",
    "select pg_read_binary_file('PG_VERSION')",
    "select pg_ls_dir('.')",
    "select pg_stat_file('PG_VERSION')",
    "select lo_import('/etc/passwd')",
    "select lo_create(0)",
    "select lo_from_bytea(0, 'x')",
    "select pg_reload_conf()",
    "select pg_rotate_logfile()",
    "select pg_switch_wal()",
    "select pg_create_logical_replication_slot('loot', 'pgoutput')",
    "select pg_export_snapshot() from pg_read_file('x')",
    "select name from pg_prepared_statements",
    "select rolpassword from pg_authid",
    "select usename, passwd from pg_shadow",
    "select inner_pad from fence.context_keys",
    "select mode from fence.tenant_state",
    "update fence.tenant_state set mode = 'active'",
    "insert into fence.tenant_state (tenant_id, mode) values (gen_random_uuid(), 'active')",
    "delete from fence.tenant_state",
    "select epoch from fence.sealer_gate",
    *(
        f"select count(*) from fence.{name}"
        for name in ("region_log", "region_tiles", "region_head", "region_roots", "seen_roots")
    ),
    "select version_num from fence.alembic_version",
    "select parent from queue.nodes",
    "select worker from queue.workers",
    "select queue.claim(gen_random_uuid(), 1, 1, '{}', 10)",
    "update queue.entries set state = 'claimed'",
    "update queue.entries set attempt = 9",
    "delete from queue.entries",
    "select lease_until from queue.entries",
    "delete from queue.shares",
    "update queue.shares set tenant_id = gen_random_uuid()",
    "update audit_events set action = 'x'",
    "delete from audit_events",
    "insert into audit_sequence (tenant_id, sequence, event_id) values (gen_random_uuid(), 1, gen_random_uuid())",
    "update audit_sequence set sequence = 9",
    "delete from audit_sequence",
    "update audit_heads set size = 0",
    "delete from audit_unsealed",
    "update outbox set topic = 'x'",
    "delete from outbox",
    "update evidence_envelopes set sealed = 'x'",
    "update evidence_envelopes set size_bytes = 1",
    "delete from evidence_holds",
]

# These run outside of a transaction only.
FORBIDDEN_ALONE = [
    "create database loot",
    "drop database tenantry_eu",
    "create subscription loot connection '' publication p",
    "alter system set fsync = off",
    "create tablespace loot location '/tmp'",
]


@pytest.fixture(scope="module")
async def tenant(database: Database) -> UUID:
    return await database.make_tenant()


async def test_the_application_may_do_nothing_but_its_work(ground: Ground, database: Database, tenant: UUID) -> None:
    """With a valid context of its own, and of the lifecycle kind."""
    done = []
    async with database.connected() as connection:
        for purpose in "np":
            for statement in FORBIDDEN:
                transaction = connection.transaction()
                try:
                    await transaction.start()
                    await connection.execute(
                        f"set local app.ctx = '{ground.sign(context_body(tenant, purpose=purpose))}'"
                    )
                    await connection.execute(statement)
                    done.append(statement)
                except asyncpg.InsufficientPrivilegeError:
                    pass
                except asyncpg.PostgresError as error:
                    # What the server lacks is not there to be forbidden.
                    if error.sqlstate not in ("0A000", "55000", "42704"):
                        raise AssertionError(f"{statement}: {error!r}") from error
                finally:
                    await transaction.rollback()
    assert done == []


async def test_outside_of_a_transaction_neither(database: Database) -> None:
    async with database.connected() as connection:
        for statement in FORBIDDEN_ALONE:
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
                await connection.execute(statement)


@pytest.mark.parametrize("role", ["tenantry_app", "tenantry_dispatcher", "tenantry_sealer", "tenantry_mover"])
async def test_no_role_of_the_product_has_power_over_the_server(database: Database, role: str) -> None:
    async with database.connected(role) as connection:
        row = await connection.fetchrow(
            """select rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication as power,
                      exists (select from pg_auth_members where member = r.oid or roleid = r.oid) as member,
                      current_setting('track_activities') as tracked,
                      has_database_privilege(current_database(), 'TEMPORARY, CREATE') as makes
               from pg_roles r where rolname = current_user"""
        )
        assert row is not None
        assert dict(row) == {"power": False, "member": False, "tracked": "off", "makes": False}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("create temporary table loot (id int)")


async def test_each_role_is_let_into_its_own_databases_only(ground: Ground) -> None:
    for role, name in (
        ("tenantry_directory", "tenantry_us"),
        ("tenantry_app", "tenantry_directory"),
        ("tenantry_app", "postgres"),
        ("tenantry_owner", "template1"),
        ("tenantry_sealer", "tenantry_directory"),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="CONNECT"):
            await asyncpg.connect(ground.dsn(role, name))


async def test_a_temporary_table_would_shadow_the_real_one(ground: Ground) -> None:
    """Why there are none: the control grants them, and the next borrower of a connection writes into the thief's."""
    async with ground.clone() as database:
        mine, theirs = await database.make_tenant(), await database.make_tenant()
        attack = "create temporary table outbox (tenant_id uuid, event_id uuid, topic text, payload jsonb)"
        for allowed in (False, True):
            if allowed:
                await database.alter(f"grant temporary on database {database.name} to tenantry_app")
            connection = await asyncpg.connect(database.dsn(), server_settings={"search_path": "tenantry"})
            try:
                await connection.execute(f"BEGIN; SET LOCAL app.ctx = '{ground.sign(context_body(theirs))}'")
                if allowed:
                    await connection.execute(attack)
                else:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(attack)
                await connection.execute("COMMIT; RESET ALL")
                await connection.execute(f"BEGIN; SET LOCAL app.ctx = '{ground.sign(context_body(mine))}'")
                await connection.execute(
                    "insert into outbox (tenant_id, event_id, topic, payload) values ($1, $1, 'secret', '{}')", mine
                )
                await connection.execute(f"COMMIT; BEGIN; SET LOCAL app.ctx = '{ground.sign(context_body(theirs))}'")
                stolen = await connection.fetchval("select count(*) from outbox where topic = 'secret'")
                assert stolen == (1 if allowed else 0)
            finally:
                await connection.close()
        # What the product adds: with pg_temp last a temporary table shadows nothing.
        async with database.cell(pool_size=1) as cell:
            async with cell.session(scope_of(theirs)) as session:
                await session.execute(attack)
            async with cell.session(scope_of(mine)) as session:
                await session.execute(
                    "insert into outbox (tenant_id, event_id, topic, payload) values ($1, $2, 'safe', '{}')",
                    mine,
                    theirs,
                )
        async with database.connected("superuser") as connection:
            assert await connection.fetchval("select count(*) from tenantry.outbox where topic = 'safe'") == 1


async def test_the_dispatcher_and_the_sealer_see_what_their_policies_open(database: Database, tenant: UUID) -> None:
    """All tenants' rows of a few tables of ids and numbers; no content, no names, no secrets."""
    opened = {}
    async with database.connected("superuser") as connection:
        tables = [
            row["name"]
            for row in await connection.fetch(
                """select n.nspname || '.' || c.relname as name from pg_class c
                   join pg_namespace n on n.oid = c.relnamespace
                   where c.relkind = 'r' and n.nspname in ('tenantry', 'queue', 'fence')"""
            )
        ]
    for role in ("tenantry_dispatcher", "tenantry_sealer"):
        seen = set()
        async with database.connected(role) as connection:
            for table in tables:
                try:
                    await connection.fetchval(f"select count(*) from {table}")
                    seen.add(table)
                except asyncpg.InsufficientPrivilegeError:
                    pass
        opened[role] = seen
    assert opened == {
        "tenantry_dispatcher": {
            "tenantry.outbox",
            "tenantry.idempotency_records",
            "tenantry.notification_deliveries",
            "tenantry.approvals",
            "tenantry.grants",
            "tenantry.evidence",
            "tenantry.quota_counters",
            "tenantry.metering_events",
            "tenantry.metering_marks",
            "tenantry.audit_heads",
            "tenantry.audit_index",
            "tenantry.audit_days",
            "tenantry.audit_streams",
            "queue.entries",
            "queue.shares",
            "queue.gate",
            "queue.lanes",
            "queue.nodes",
            "queue.fronts",
            "queue.workers",
            "queue.purges",
        },
        "tenantry_sealer": {
            "tenantry.audit_events",
            "tenantry.audit_unsealed",
            "tenantry.audit_sequence",
            "tenantry.audit_heads",
            "tenantry.audit_tiles",
            "tenantry.audit_unsigned",
            "tenantry.audit_checkpoints",
            "tenantry.audit_forgettings",
            "tenantry.audit_days",
            "fence.sealer_gate",
            *(f"fence.{name}" for name in ("region_log", "region_tiles", "region_head", "region_roots", "seen_roots")),
        },
    }


@pytest.mark.parametrize(
    ("role", "statements"),
    [
        (
            "tenantry_sealer",
            (
                "update audit_events set action = 'x'",
                "insert into audit_events select * from audit_events",
                "update audit_sequence set sequence = sequence + 1",
                "delete from audit_sequence",
                "delete from audit_heads",
                "insert into audit_unsealed select tenant_id, event_id from audit_sequence",
                "truncate audit_events",
                "update audit_events set sealed = 'x'",
                "update audit_forgettings set principal = 'x'",
                "insert into audit_forgettings select * from audit_forgettings",
                "delete from audit_forgettings",
                "select sha256 from audit_days",
                "update audit_days set size_bytes = 0",
                "select job_id from jobs",
                "select fence.tenant()",
            ),
        ),
        (
            "tenantry_dispatcher",
            (
                "insert into outbox select tenant_id, tenant_id, topic, payload, created_at from outbox",
                "update outbox set payload = '{}'",
                "update outbox set tenant_id = gen_random_uuid()",
                "insert into queue.entries (tenant_id, job_id) values (gen_random_uuid(), gen_random_uuid())",
                "insert into queue.shares (tenant_id) values (gen_random_uuid())",
                "insert into queue.purges select tenant_id, kind, tenant_id, due_at, holder from queue.purges",
                "delete from queue.purges",
                "select canonical from audit_events",
                "select sealed from audit_streams",
                "select sha256 from audit_days",
                "select word from audit_words",
                "select frontier from audit_heads",
                "update audit_streams set position = 0",
                "select command from jobs",
                "select digest from approvals",
                "select principal_id from grants",
                "select judged from evidence",
                "select sealed from evidence_envelopes",
                "update evidence set due_at = null",
                "update grants set due_at = null",
                "select comment from approval_decisions",
                "select fence.tenant()",
            ),
        ),
    ],
)
async def test_a_role_across_tenants_changes_only_what_is_its_own(
    database: Database, tenant: UUID, role: str, statements: tuple[str, ...]
) -> None:
    done = []
    async with database.connected(role) as connection:
        for statement in statements:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(statement)
                done.append(statement)
            except asyncpg.InsufficientPrivilegeError:
                pass
            finally:
                await transaction.rollback()
    assert done == []


async def test_what_no_privilege_can_close_carries_no_content(database: Database, tenant: UUID) -> None:
    """PostgreSQL lets everybody notify, listen and lock; the product believes none of it.

    A notification only wakes, its payload is a tenant's id at most; leadership is a row, never an advisory lock.
    """
    heard: list[str] = []
    async with database.connected() as spy, database.cell() as cell:
        await spy.add_listener("tenantry_revocations", lambda *parts: heard.append(parts[3]))
        await spy.add_listener("tenantry_outbox", lambda *parts: heard.append(parts[3]))
        assert await spy.fetchval("select pg_try_advisory_lock(n) from generate_series(1, 100) n limit 1")
        async with cell.session(scope_of(tenant), lifecycle=True) as session:
            from tenantry.capabilities.tenants.service import announce_revocation
            from tenantry.foundation import outbox

            await announce_revocation(session)
            await outbox.publish(session, topic="t", payload={"secret": "of a tenant"})
        for _ in range(200):
            if len(heard) == 2:
                break
            await asyncio.sleep(0.01)
    assert sorted(heard) == ["", tenant.hex]


async def test_the_mover_sees_the_one_tenant_it_has_signed_for_in_every_table(
    ground: Ground, database: Database, tenant: UUID
) -> None:
    """Whatever has a tenant_id: a later table joins moves, exports and erasures by itself."""
    async with database.connected("superuser") as connection:
        tables = [
            row["name"]
            for row in await connection.fetch(
                """select n.nspname || '.' || c.relname as name from pg_class c
                   join pg_namespace n on n.oid = c.relnamespace
                   join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
                   where c.relkind = 'r' and n.nspname in ('tenantry', 'queue')"""
            )
        ]
        all_rows = {table: await connection.fetchval(f"select count(*) from {table}") for table in tables}
    assert len(tables) > 15
    contexts = {
        "none": None,
        "work": ground.sign(context_body(tenant)),
        "lifecycle": ground.sign(context_body(tenant, purpose="p")),
    }
    async with database.connected("tenantry_mover") as connection:
        for name, context in contexts.items():
            for table in tables:
                transaction = connection.transaction()
                await transaction.start()
                if context:
                    await connection.execute(f"set local app.ctx = '{context}'")
                try:
                    if name == "work":
                        with pytest.raises(asyncpg.PostgresError, match="lifecycle"):
                            await connection.fetch(f"select tenant_id from {table}")
                        continue
                    seen = {row["tenant_id"] for row in await connection.fetch(f"select tenant_id from {table}")}
                    assert seen == ({tenant} if name == "lifecycle" and all_rows[table] else set()), (name, table)
                finally:
                    await transaction.rollback()
