"""The boot self-test: each of its findings, on a database broken that way, and a server that then does not start."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from uuid import UUID

import asyncpg
import pytest
from tests.integration.database.ground import Database, Ground, make_home

from tenantry.entrypoints.addresses import embedded_dsn
from tenantry.entrypoints.prepare import prepare
from tenantry.entrypoints.runtime import require_fence
from tenantry.foundation.database import selftest
from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.selftest import examine_cell
from tenantry.foundation.errors import Fault
from tenantry.foundation.settings import load_settings

pytestmark = pytest.mark.xdist_group("database")

PARENT = "create role selftest_parent nologin"
# What is broken of the role, by which the finding is known, and what mends it. Roles belong to the whole server.
ROLES = [
    ("rolsuper", "alter role tenantry_app superuser", "alter role tenantry_app nosuperuser"),
    ("rolbypassrls", "alter role tenantry_app bypassrls", "alter role tenantry_app nobypassrls"),
    ("rolreplication", "alter role tenantry_app replication", "alter role tenantry_app noreplication"),
    ("rolcreaterole", "alter role tenantry_app createrole", "alter role tenantry_app nocreaterole"),
    ("rolcreatedb", "alter role tenantry_app createdb", "alter role tenantry_app nocreatedb"),
    ("member", f"{PARENT}; grant selftest_parent to tenantry_app", "drop role selftest_parent"),
    ("member", "grant pg_read_all_data to tenantry_app", "revoke pg_read_all_data from tenantry_app"),
    ("member", "grant tenantry_owner to tenantry_app", "revoke tenantry_owner from tenantry_app"),
    (
        "tracked",
        "alter role tenantry_app reset track_activities",
        "alter role tenantry_app set track_activities = off",
    ),
]
# What is broken of a database: code, statement, and a word of the detail.
FENCED = "create table tenantry.loot (tenant_id uuid not null, id uuid not null, workspace_id uuid, {})"
OPEN = "grant select, insert on tenantry.loot to tenantry_app"
DATABASES = [
    ("role_owner", "alter table tenantry.bindings owner to tenantry_app", "owns"),
    ("role_temporary", "grant temporary on database {name} to tenantry_app", "temporary"),
    ("role_temporary", "grant temporary on database {name} to public", "temporary"),
    ("role_creates", "grant create on schema tenantry to tenantry_app", "create"),
    ("role_creates", "grant create on schema public to public", "create"),
    ("role_creates", "grant create on database {name} to tenantry_app", "create"),
    ("table_unfenced", "alter table tenantry.jobs no force row level security", "jobs has no forced"),
    ("table_unfenced", "alter table tenantry.jobs disable row level security", "jobs has no forced"),
    ("table_unfenced", f"create table tenantry.loot (id int); {OPEN}", "loot has no tenant_id"),
    (
        "table_unfenced",
        (
            "create table public.loot (id int); grant select on public.loot to public;"
            "grant usage on schema public to public"
        ),
        "public.loot has no tenant_id",
    ),
    ("table_unfenced", f"create table tenantry.loot (tenant_id uuid); {OPEN}", "loot has no tenant_id"),
    ("table_unfenced", f"{FENCED.format('primary key (tenant_id, id)')}; {OPEN}", "loot has no forced"),
    ("table_unfenced", "grant select (id) on queue.nodes to tenantry_app", "nodes has no tenant_id"),
    ("table_unfenced", "drop policy tenant_update on queue.shares", "shares lacks a restrictive tenant policy"),
    ("table_unfenced", "alter policy workspace on queue.shares using (true)", "shares lacks a restrictive workspace"),
    (
        "table_unfenced",
        (
            f"alter policy workspace on queue.entries using (workspace_id = '{UUID(int=0)}'"
            " or workspace_id is not distinct from coalesce((select fence.workspace()), workspace_id))"
        ),
        "entries lacks a restrictive workspace policy",
    ),
    ("table_unfenced", "drop policy tenant_read on tenantry.users", "users lacks a restrictive tenant policy"),
    ("table_unfenced", "drop policy tenant_insert on tenantry.users", "users lacks a restrictive tenant policy"),
    ("table_unfenced", "drop policy tenant_update on tenantry.users", "users lacks a restrictive tenant policy"),
    ("table_unfenced", "drop policy tenant_delete on tenantry.users", "users lacks a restrictive tenant policy"),
    (
        "table_unfenced",
        "alter policy tenant_read on tenantry.users using (tenant_id = (select fence.tenant()) or email = 'x')",
        "users lacks a restrictive tenant policy",
    ),
    (
        "table_unfenced",
        "alter policy tenant_update on tenantry.users with check (true)",
        "users lacks a restrictive tenant policy",
    ),
    (
        "table_unfenced",
        "alter policy tenant_insert on tenantry.users with check (tenant_id = (select fence.tenant()))",
        "users lacks a restrictive tenant policy",
    ),
    ("table_unfenced", "alter policy tenant_read on tenantry.users to tenantry_mover", "restrictive tenant policy"),
    ("table_unfenced", "drop policy workspace on tenantry.jobs", "jobs lacks a restrictive workspace policy"),
    ("table_unfenced", "alter policy workspace on tenantry.jobs using (true)", "restrictive workspace policy"),
    ("table_unfenced", "grant truncate on tenantry.jobs to tenantry_app", "lets the application truncate"),
    ("table_unfenced", "grant references on tenantry.jobs to tenantry_app", "reference it"),
    ("table_unfenced", "grant references (job_id) on tenantry.jobs to tenantry_app", "reference it"),
    ("table_unfenced", "grant trigger on tenantry.jobs to tenantry_app", "triggers"),
    ("table_unfenced", "create unique index loot on tenantry.users (email)", "users has a key that does not start"),
    ("table_unfenced", "create unique index loot on tenantry.users (lower(email))", "users has a key that does not"),
    ("table_unfenced", "alter table tenantry.users add exclude (email with =)", "users has a key that does not"),
    (
        "table_unfenced",
        (
            "create unique index loot on tenantry.users (user_id); alter table tenantry.keysets "
            "add foreign key (keyset_id) references tenantry.users (user_id) not valid"
        ),
        "keysets has a foreign key that does not",
    ),
    (
        "table_unfenced",
        (
            "create unique index loot on tenantry.users (user_id, tenant_id); alter table tenantry.keysets "
            "add foreign key (tenant_id, keyset_id) references tenantry.users (user_id, tenant_id) not valid"
        ),
        "keysets has a foreign key that does not",
    ),
    (
        "table_unfenced",
        "create view tenantry.loot as select job_id from tenantry.jobs; grant select on tenantry.loot to tenantry_app",
        "loot is a view that does not run as its invoker",
    ),
    (
        "table_unfenced",
        (
            "create materialized view tenantry.loot as select job_id from tenantry.jobs; "
            "grant select on tenantry.loot to tenantry_app"
        ),
        "loot is a materialised view",
    ),
    (
        "definer_callable",
        "create function tenantry.loot() returns int language sql security definer as 'select 1'",
        "loot",
    ),
    (
        "definer_callable",
        "create function fence.loot() returns int language sql security definer as 'select 1'",
        "fence.loot",
    ),
    ("function_open", "grant execute on function pg_catalog.lo_creat(integer) to public", "lo_creat"),
    ("function_open", "grant execute on function pg_catalog.pg_prepared_statement() to tenantry_app", "prepared"),
    (
        "canary_leaked",
        "create policy loot on tenantry.outbox using (true); drop policy tenant_read on tenantry.outbox",
        "seen 1 times by its tenant, 1 by another, 1 without",
    ),
    (
        "canary_leaked",
        (
            "create or replace function fence.tenant() returns uuid language sql stable as "
            "'select substr(current_setting(''app.ctx'', true), 77, 32)::uuid'; alter table tenantry.outbox "
            "disable row level security"
        ),
        "seen 1 times by its tenant, 1 by another",
    ),
    ("canary_failed", "delete from fence.context_keys", "not signed"),
    ("canary_failed", "revoke insert on tenantry.outbox from tenantry_app", "permission denied"),
]


async def codes_of(database: Database) -> dict[str, str]:
    """Findings of a database, by code; all details of a code together."""
    found: dict[str, str] = {}
    for finding in await examine_cell(database.dsn(), signer=database.signer):
        assert finding.remedy
        found[finding.code] = f"{found.get(finding.code, '')}{finding.detail}; "
    return found


async def test_a_prepared_cell_has_no_finding(ground: Ground) -> None:
    for region in ("us", "eu"):
        assert await codes_of(ground.database(region)) == {}
    async with ground.clone() as database:
        assert await codes_of(database) == {}


@pytest.mark.parametrize(("code", "breakage", "remedy"), ROLES, ids=lambda value: str(value)[:40])
async def test_a_fault_of_the_role_is_found(ground: Ground, code: str, breakage: str, remedy: str) -> None:
    database = ground.database()
    await database.alter(breakage)
    try:
        found = await codes_of(database)
        assert f"role_{code}" in found
        assert found["role_" + code].startswith("the application role tenantry_app ")
        if code == "tracked":
            assert "sibling_query_visible" in found
        if code in ("rolsuper", "rolbypassrls"):
            assert "seen 1 times by its tenant, 1 by another, 1 without" in found["canary_leaked"]
    finally:
        await database.alter(remedy)
    assert await codes_of(database) == {}


async def test_every_fault_of_a_database_is_found(ground: Ground) -> None:
    """Each in a transaction of one clone that is rolled back: examined from inside, by the same queries."""
    async with ground.clone() as database:
        missed = []
        for code, breakage, word in DATABASES:
            found = await findings_after(database, breakage.format(name=database.name))
            if word not in found.get(code, ""):
                missed.append((code, breakage, found))
        assert missed == []
        assert await codes_of(database) == {}


async def findings_after(database: Database, breakage: str) -> dict[str, str]:
    """Break, examine as the application in the same transaction, and take it back."""
    found: dict[str, str] = {}
    async with database.connected("superuser") as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(breakage)
            await connection.execute("set local track_activities = off; set local role tenantry_app")
            probes = (selftest._role, selftest._tables, selftest._definers, selftest._functions)
            findings = [finding for probe in probes for finding in await probe(connection)]
            findings += await selftest._canary(connection, database.signer)
        finally:
            await transaction.rollback()
    for finding in findings:
        assert finding.remedy
        found[finding.code] = f"{found.get(finding.code, '')}{finding.detail}; "
    return found


async def test_temporary_tables_first_in_the_search_path_are_found(ground: Ground) -> None:
    """As behind a pooler that drops the setting which the product sends."""
    connection = await asyncpg.connect(ground.database().dsn())
    try:
        assert "role_temp_first" in {finding.code for finding in await selftest._role(connection)}
        await connection.execute("set search_path = tenantry, pg_temp")
        assert await selftest._role(connection) == []
    finally:
        await connection.close()


async def test_an_old_server_is_found(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "MINIMUM_VERSION", 990000)
    assert "older than" in (await codes_of(ground.database()))["postgres_too_old"]


async def test_another_installations_key_is_found_and_hides_nothing(ground: Ground) -> None:
    async with ground.clone() as database:
        await database.alter("alter table tenantry.jobs no force row level security")
        findings = await examine_cell(database.dsn(), signer=ContextSigner(key=secrets.token_bytes(32)))
        assert {finding.code for finding in findings} == {"table_unfenced", "canary_failed"}


async def test_all_findings_are_told_at_once(ground: Ground) -> None:
    async with ground.clone() as database, database.cell() as cell:
        await database.alter(
            "alter table tenantry.jobs no force row level security",
            f"grant temporary on database {database.name} to tenantry_app",
            "create function tenantry.loot() returns int language sql security definer as 'select 1'",
        )
        with pytest.raises(Fault) as refused:
            await require_fence(database.dsn(), cell)
    assert refused.value.code == "fence_broken"
    for word in ("role_temporary", "table_unfenced", "definer_callable", "no forced row level security"):
        assert word in refused.value.message
    faults = refused.value.fields["faults"]
    assert isinstance(faults, list)
    assert len(faults) == 3


async def test_a_server_with_a_broken_fence_does_not_start() -> None:
    """A whole installation: prepared, broken while it is down, started again: no port, all findings, no success."""
    home = make_home()
    postgres = EmbeddedPostgres(home)
    try:
        postgres.start()
        await prepare(load_settings(home=home))
        owner = postgres.superuser
        connection = await asyncpg.connect(
            embedded_dsn(home, user=owner.user, password=owner.password, database="tenantry_us")
        )
        await connection.execute(
            """alter table tenantry.jobs no force row level security;
               create table tenantry.loot (id int);
               grant select on tenantry.loot to tenantry_app;
               create function tenantry.loot() returns int language sql security definer as 'select 1'"""
        )
        await connection.close()
        postgres.stop()
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tenantry.entrypoints.server", str(home), "0"],
            capture_output=True,
            text=True,
            timeout=60,
            env={name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")},
            check=False,
        )
        assert done.returncode != 0
        assert "server.json" not in os.listdir(home)
        for word in (
            "fence_broken",
            "tenantry.jobs has no forced",
            "tenantry.loot has no tenant_id",
            "definer_callable",
        ):
            assert word in done.stderr, done.stderr
    finally:
        postgres.purge()
        shutil.rmtree(home)
