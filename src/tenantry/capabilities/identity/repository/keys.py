"""SQL of API keys."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.identity.types import ApiKey, KeyStatus, PrincipalType
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_KEY: Final = (
    "key_id, workspace_id, principal_type, principal_id, name, roles, permissions, allowed_networks, status, "
    "created_at, created_by, expires_at, last_used_at, revoked_at, delegated, parent_id, rotated_from, grace_until"
)


async def insert_key(session: TenantSession, key: ApiKey, *, lookup: bytes, scheme: str, verifier: bytes) -> None:
    await session.execute(
        """insert into api_keys (tenant_id, key_id, workspace_id, principal_type, principal_id, name, lookup, scheme,
               verifier, roles, permissions, allowed_networks, status, created_at, created_by, expires_at, delegated,
               parent_id, rotated_from)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)""",
        session.scope.tenant_id,
        key.key_id,
        key.workspace_id,
        key.principal_type.value,
        key.principal_id,
        key.name,
        lookup,
        scheme,
        verifier,
        list(key.roles),
        list(key.permissions),
        list(key.allowed_networks),
        key.status.value,
        key.created_at,
        key.created_by,
        key.expires_at,
        key.delegated,
        key.parent_id,
        key.rotated_from,
    )


async def find_key_by_lookup(session: TenantSession, lookup: bytes) -> tuple[ApiKey, bytes] | None:
    """Find a key and its verifier."""
    row = await session.fetchrow(
        f"select {_KEY}, verifier from api_keys where tenant_id = $1 and lookup = $2", session.scope.tenant_id, lookup
    )
    return (_key(row), row["verifier"]) if row else None


async def find_key(session: TenantSession, key_id: UUID, *, workspace_id: UUID | None) -> ApiKey | None:
    row = await session.fetchrow(
        f"""select {_KEY} from api_keys
            where tenant_id = $1 and key_id = $2 and workspace_id is not distinct from $3""",
        session.scope.tenant_id,
        key_id,
        workspace_id,
    )
    return _key(row) if row else None


async def find_key_anywhere(session: TenantSession, key_id: UUID) -> ApiKey | None:
    """Find a key of whichever workspace."""
    row = await session.fetchrow(
        f"select {_KEY} from api_keys where tenant_id = $1 and key_id = $2", session.scope.tenant_id, key_id
    )
    return _key(row) if row else None


async def list_keys(
    session: TenantSession, *, workspace_id: UUID | None, after: UUID | None, limit: int
) -> list[ApiKey]:
    rows = await session.fetch(
        f"""select {_KEY} from api_keys
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or key_id > $3)
            order by key_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [_key(row) for row in rows]


async def begin_grace(session: TenantSession, key_id: UUID, *, until: datetime) -> bool:
    """Let an active key end then; tells False when it is not active any more."""
    row = await session.fetchrow(
        """update api_keys set status = 'grace', grace_until = $3
           where tenant_id = $1 and key_id = $2 and status = 'active' returning key_id""",
        session.scope.tenant_id,
        key_id,
        until,
    )
    return row is not None


async def revoke_key(session: TenantSession, key_id: UUID, *, now: datetime) -> None:
    await session.execute(
        """update api_keys set status = 'revoked', revoked_at = $3
           where tenant_id = $1 and key_id = $2 and status <> 'revoked'""",
        session.scope.tenant_id,
        key_id,
        now,
    )


async def touch_keys(session: TenantSession, used: dict[UUID, datetime]) -> None:
    """Note when keys were last used; never moves backwards."""
    await session.execute(
        """update api_keys k set last_used_at = u.used_at
           from unnest($2::uuid[], $3::timestamptz[]) as u (key_id, used_at)
           where k.tenant_id = $1 and k.key_id = u.key_id
             and (k.last_used_at is null or k.last_used_at < u.used_at)""",
        session.scope.tenant_id,
        list(used),
        list(used.values()),
    )


def _key(row: "asyncpg.Record") -> ApiKey:
    values = dict(row)
    values.pop("verifier", None)
    values["principal_type"] = PrincipalType(values["principal_type"])
    values["status"] = KeyStatus(values["status"])
    for name in ("roles", "permissions", "allowed_networks"):
        values[name] = tuple(values[name])
    return ApiKey(**values)
