"""The cluster's roles and databases, prepared by a superuser once and again at every start (idempotent).

FORCE ROW LEVEL SECURITY binds the owner too. The application role owns nothing, is a member of nothing, may create
nothing: not a table, not a schema, not a temporary table (one made by a borrower of a pooled connection would shadow
the real one for the next). `track_activities` is off for every role that sends signed contexts, or a neighbour could
read one from `pg_stat_activity` and replay it.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

OWNER: Final = "tenantry_owner"
CELL_ROLES: Final = ("tenantry_app", "tenantry_dispatcher", "tenantry_sealer", "tenantry_mover")
DIRECTORY_ROLE: Final = "tenantry_directory"
ROLES: Final = (OWNER, *CELL_ROLES, DIRECTORY_ROLE)

_ROLE_SETTINGS: Final = (
    "track_activities = off",
    "idle_in_transaction_session_timeout = '30s'",
    "statement_timeout = '30s'",
)
# What PostgreSQL lets everybody do and no policy fences: see the names of a session's prepared statements, which on a
# pooled connection are the former borrower's, and make large objects, which every tenant could then read.
_CLOSED_FUNCTIONS: Final = """
    select p.oid::regprocedure::text as name from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace and has_function_privilege('public', p.oid, 'execute')
      and (p.proname = 'pg_prepared_statement' or p.proname ^@ 'lo_' or p.proname in ('loread', 'lowrite'))
"""


async def prepare_cluster(connection: "Connection", *, passwords: Mapping[str, str]) -> None:
    """Create or correct every role. `passwords` has one a role; SQL sees only their SCRAM verifiers (RFC 5803)."""
    for role in ROLES:
        if not await connection.fetchval("select true from pg_roles where rolname = $1", role):
            await connection.execute(f"create role {role} login")
        verifier = scram_verifier(passwords[role])
        await connection.execute(
            f"alter role {role} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls "
            f"password '{verifier}'"
        )
        if role != OWNER:
            for setting in _ROLE_SETTINGS:
                await connection.execute(f"alter role {role} set {setting}")
    # Where everybody may connect and make temporary tables by default; no role of ours has business there.
    await connection.execute("revoke all on database postgres, template1 from public")


async def prepare_database(
    connection: "Connection", dsn: str, *, name: str, schemas: tuple[str, ...], roles: tuple[str, ...]
) -> None:
    """Create one database with its schemas owned by the owner role; nobody else may create or make temporary tables.

    `connection` is a superuser's on any database, `dsn` the same superuser's on the new one.
    """
    if not await connection.fetchval("select true from pg_database where datname = $1", name):
        await connection.execute(f"create database {name} owner {OWNER} template template0 encoding 'UTF8'")
    await connection.execute(f"revoke all on database {name} from public")
    for role in roles:
        await connection.execute(f"grant connect on database {name} to {role}")
    inside = await asyncpg.connect(dsn)
    try:
        await inside.execute("revoke all on schema public from public")
        for schema in schemas:
            await inside.execute(f"create schema if not exists {schema} authorization {OWNER}")
        for function in await inside.fetch(_CLOSED_FUNCTIONS):
            await inside.execute(f"revoke execute on function {function['name']} from public")
    finally:
        await inside.close()


def scram_verifier(password: str, *, iterations: int = 4096) -> str:
    """Compute what PostgreSQL stores, so that no password travels in a statement."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.new(salted, b"Server Key", hashlib.sha256).digest()

    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    return f"SCRAM-SHA-256${iterations}:{text(salt)}${text(stored_key)}:{text(server_key)}"
