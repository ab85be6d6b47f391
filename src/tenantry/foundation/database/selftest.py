"""The boot self-test: a server whose fence has a hole refuses to start, and says every hole at once.

Each finding names the fault and its remedy. The probes run as the very role that serves requests.
"""

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.pool import database_errors

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

MINIMUM_VERSION: Final = 150014
CANARY_TENANTS: Final = (UUID(int=0xCA), UUID(int=0xCB))


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    detail: str
    remedy: str


_ROLE_FAULTS: Final = """
    select r.rolsuper, r.rolbypassrls, r.rolreplication, r.rolcreaterole, r.rolcreatedb,
           exists (select from pg_auth_members m where m.member = r.oid) as member,
           exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where c.relowner = r.oid and n.nspname not like 'pg\\_%') as owner,
           has_database_privilege(current_user, current_database(), 'TEMPORARY') as temporary,
           has_database_privilege(current_user, current_database(), 'CREATE')
             or exists (select from pg_namespace n where n.nspname not like 'pg\\_%'
                        and has_schema_privilege(current_user, n.oid, 'CREATE')) as creates,
           current_setting('track_activities') = 'on' as tracked,
           split_part(current_setting('search_path'), ',', -1) !~ 'pg_temp' as temp_first
    from pg_roles r where r.rolname = current_user
"""
_ROLE_REMEDIES: Final = {
    "rolsuper": ("is a superuser", "alter role {role} nosuperuser"),
    "rolbypassrls": ("bypasses row level security", "alter role {role} nobypassrls"),
    "rolreplication": ("may copy the whole server", "alter role {role} noreplication"),
    "rolcreaterole": ("may create roles", "alter role {role} nocreaterole"),
    "rolcreatedb": ("may create databases", "alter role {role} nocreatedb"),
    "member": ("is a member of another role", "revoke that membership"),
    "owner": ("owns relations", "alter their owner to tenantry_owner"),
    "temporary": ("may make temporary tables", "revoke temporary on this database from public and from {role}"),
    "creates": ("may create schemas or tables", "revoke create on the database and its schemas from public and {role}"),
    "tracked": ("shows its query text to siblings", "alter role {role} set track_activities = off"),
    "temp_first": ("has temporary tables first in its search_path", "let the product set search_path"),
}

# Tables that the application role can reach, with what the fence demands of each. Clauses are compared as PostgreSQL
# prints them: one that only contains the right words may have an `or` behind them.
_TABLE_FAULTS: Final = """
    with reachable as (
        select c.oid, n.nspname || '.' || c.relname as name, n.nspname::text as place,
               c.relrowsecurity, c.relforcerowsecurity,
               c.relkind in ('r', 'p') as holds_rows, c.relkind, c.reloptions
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
          and has_schema_privilege('tenantry_app', n.oid, 'USAGE')
          and (has_table_privilege('tenantry_app', c.oid,
                                   'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
               or has_any_column_privilege('tenantry_app', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
    ), demanded as (
        select r.oid as of, 'tenant' as what, 'tenant_id' as column_name, w.command, format(case r.place
                when 'tenantry' then '(tenant_id = ( SELECT fence.%1$stenant() AS %1$stenant))'
                when 'queue' then '(tenant_id = ( SELECT fence.%1$stenant_here() AS %1$stenant_here))'
                else '(tenant_id = ( SELECT fence.%1$stenant_in(%2$L::text) AS %1$stenant_in))' end,
            w.writable, r.place) as clause
        from reachable r, (values ('r', ''), ('a', 'writable_'), ('w', 'writable_'), ('d', 'writable_'))
            as w (command, writable)
        union all
        select r.oid, 'workspace', 'workspace_id', '*', format(
            -- The share of a whole tenant is a row of no workspace, written wherever its jobs are.
            case r.name when 'queue.shares'
                then '((workspace_id = ''00000000-0000-0000-0000-000000000000''::uuid) OR %s)' else '%s' end,
            '(NOT (workspace_id IS DISTINCT FROM COALESCE(( SELECT fence.workspace() AS workspace), workspace_id)))')
        from reachable r
    ), unguarded as (
        select distinct r.oid, d.what from reachable r join demanded d on d.of = r.oid
        where exists (select from pg_attribute a where a.attrelid = r.oid and a.attname = d.column_name)
          and not exists (
            select from pg_policy p where p.polrelid = r.oid and not p.polpermissive and p.polcmd::text = d.command
              and p.polroles && array[0, 'tenantry_app'::regrole]::oid[]
              and coalesce(pg_get_expr(p.polqual, p.polrelid), d.clause) = d.clause
              and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), d.clause) = d.clause)
    )
    select name, fault from reachable r, lateral (values
        ('has no tenant_id', r.holds_rows and not exists (
            select from pg_attribute a where a.attrelid = r.oid and a.attname = 'tenant_id' and a.attnotnull)),
        ('has no forced row level security', r.holds_rows and not (r.relrowsecurity and r.relforcerowsecurity)),
        ('lacks a restrictive tenant policy', r.holds_rows and (r.oid, 'tenant') in (select oid, what from unguarded)),
        ('lacks a restrictive workspace policy',
            r.holds_rows and (r.oid, 'workspace') in (select oid, what from unguarded)),
        ('lets the application truncate or reference it, or put triggers on it',
            has_table_privilege('tenantry_app', r.oid, 'TRUNCATE, REFERENCES, TRIGGER')
            or has_any_column_privilege('tenantry_app', r.oid, 'REFERENCES')),
        ('is a view that does not run as its invoker', r.relkind = 'v'
            and not coalesce('security_invoker=true' = any (r.reloptions), false)),
        ('is a materialised view or foreign table', r.relkind in ('m', 'f')),
        ('has a key that does not start with tenant_id', exists (
            select from pg_index i left join pg_attribute a on a.attrelid = r.oid and a.attnum = i.indkey[0]
            where i.indrelid = r.oid and (i.indisunique or i.indisexclusion)
              and a.attname is distinct from 'tenant_id')),
        ('has a foreign key that does not start with tenant_id', exists (
            select from pg_constraint k
                join pg_attribute a on a.attrelid = r.oid and a.attnum = k.conkey[1]
                join pg_attribute f on f.attrelid = k.confrelid and f.attnum = k.confkey[1]
            where k.conrelid = r.oid and k.contype = 'f' and (a.attname <> 'tenant_id' or f.attname <> 'tenant_id')))
    ) as checks (fault, broken)
    where broken
"""
_FENCE_FUNCTIONS: Final = (
    "tenant()",
    "writable_tenant()",
    "tenant_here()",
    "writable_tenant_here()",
    "tenant_in(text)",
    "writable_tenant_in(text)",
    "workspace()",
    "set_tenant_state(text,text)",
)


async def examine_cell(dsn: str, *, signer: ContextSigner) -> list[Finding]:
    """Examine one cell's database as the role of `dsn`; an empty list means the fence stands."""
    with database_errors():
        connection = await asyncpg.connect(
            dsn, server_settings={"search_path": "tenantry, pg_temp", "timezone": "UTC"}, timeout=10
        )
        try:
            findings = await _version(connection)
            findings += await _role(connection)
            findings += await _tables(connection)
            findings += await _definers(connection)
            findings += await _functions(connection)
            findings += await _siblings(connection, dsn)
            findings += await _canary(connection, signer)
        finally:
            await connection.close()
    return findings


async def _version(connection: "Connection") -> list[Finding]:
    number = int(await connection.fetchval("select current_setting('server_version_num')"))
    if number >= MINIMUM_VERSION:
        return []
    text = await connection.fetchval("select current_setting('server_version')")
    return [Finding("postgres_too_old", f"PostgreSQL {text} is older than 15.14", "upgrade PostgreSQL")]


async def _role(connection: "Connection") -> list[Finding]:
    row = await connection.fetchrow(_ROLE_FAULTS)
    role = await connection.fetchval("select current_user")
    return [
        Finding(f"role_{column}", f"the application role {role} {fault}", remedy.format(role=role))
        for column, (fault, remedy) in _ROLE_REMEDIES.items()
        if row is None or row[column]
    ]


async def _tables(connection: "Connection") -> list[Finding]:
    rows = await connection.fetch(_TABLE_FAULTS)
    remedy = "put it behind the fence with migrations.fencing.fence()"
    return [Finding("table_unfenced", f"{row['name']} {row['fault']}", remedy) for row in rows]


async def _definers(connection: "Connection") -> list[Finding]:
    """Only the fence's own definer functions may be callable: any other runs with its owner's eyes."""
    rows = await connection.fetch(
        """select p.oid::regprocedure::text as name from pg_proc p
           where p.prosecdef and has_function_privilege(p.oid, 'EXECUTE')
             and p.oid::regprocedure::text <> all ($1)""",
        [f"fence.{function}" for function in _FENCE_FUNCTIONS],
    )
    remedy = "revoke execute on it from public and tenantry_app"
    return [Finding("definer_callable", f"{row['name']} is a callable definer function", remedy) for row in rows]


async def _functions(connection: "Connection") -> list[Finding]:
    """Look for what PostgreSQL lets everybody do and no policy fences: large objects, others' statements."""
    rows = await connection.fetch(
        """select p.oid::regprocedure::text as name from pg_proc p
           where p.pronamespace = 'pg_catalog'::regnamespace and has_function_privilege(p.oid, 'EXECUTE')
             and (p.proname = 'pg_prepared_statement' or p.proname ^@ 'lo_' or p.proname in ('loread', 'lowrite'))
           order by 1"""
    )
    if not rows:
        return []
    names = ", ".join(row["name"] for row in rows)
    remedy = "revoke execute on these functions from public (docs/how-to/configure-a-region.md)"
    return [Finding("function_open", f"the application role may call {names}", remedy)]


async def _siblings(connection: "Connection", dsn: str) -> list[Finding]:
    """Try the theft itself: read a marker from the query text of another session of the same role."""
    marker = secrets.token_hex(8)
    sibling = await asyncpg.connect(dsn, timeout=10)
    try:
        # A session shows its last statement until the next one.
        await sibling.execute(f"select 1 /* {marker} */")
        seen = await connection.fetchval(
            "select count(*) from pg_stat_activity where query like '%' || $1 || '%' and pid <> pg_backend_pid()",
            marker,
        )
    finally:
        await sibling.close()
    if not seen:
        return []
    return [
        Finding(
            "sibling_query_visible",
            "a session can read the query text, and so the signed context, of another",
            "alter role tenantry_app set track_activities = off (and reload)",
        )
    ]


async def _canary(connection: "Connection", signer: ContextSigner) -> list[Finding]:
    """Write a row as one tenant, look for it as another and as nobody; all of it is rolled back."""
    try:
        kept, leaked, unbound = await _look_for_canary(connection, signer)
    except asyncpg.PostgresError as error:
        detail = f"a canary row could be neither written nor sought: {type(error).__name__}, {error}"
        return [Finding("canary_failed", detail, "run `tenantry migrate` with this installation's secrets.json")]
    if (kept, leaked, unbound) == (1, 0, 0):
        return []
    detail = f"a canary row was seen {kept} times by its tenant, {leaked} by another, {unbound} without context"
    return [Finding("canary_leaked", detail, "run `tenantry migrate`; if it stays, do not serve and report it")]


async def _look_for_canary(connection: "Connection", signer: ContextSigner) -> tuple[int, int, int]:
    mine, other = CANARY_TENANTS
    transaction = connection.transaction()
    await transaction.start()
    try:
        await _bind(connection, signer, mine)
        await connection.execute("select fence.set_tenant_state('active', 'tenantry')")
        await connection.execute(
            "insert into tenantry.outbox (tenant_id, event_id, topic, payload) values ($1, $1, 'canary', '{}')", mine
        )
        count = "select count(*) from tenantry.outbox where topic = 'canary'"
        kept = await connection.fetchval(count)
        await _bind(connection, signer, other)
        leaked = await connection.fetchval(count)
        await connection.execute("set local app.ctx = ''")
        return kept, leaked, await connection.fetchval(count)
    finally:
        await transaction.rollback()


async def _bind(connection: "Connection", signer: ContextSigner, tenant_id: UUID) -> None:
    context = signer.sign(tenant_id=tenant_id, workspace_id=None, lifecycle=True)
    await connection.execute(f"set local app.ctx = '{context}'")
