"""SQL of keys that sign requests."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.identity.types import ProofStatus, SigningKey
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_KEY: Final = (
    "signing_key_id, workspace_id, service_account_id, public_key, status, created_at, created_by, expires_at, "
    "last_used_at, revoked_at"
)


async def insert_signing_key(session: TenantSession, key: SigningKey) -> bool:
    """Insert, or tell False when the workspace knows it already."""
    row = await session.fetchrow(
        """insert into signing_keys (tenant_id, signing_key_id, workspace_id, service_account_id, public_key, status,
               created_at, created_by, expires_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
           on conflict (tenant_id, workspace_id, public_key) do nothing returning signing_key_id""",
        session.scope.tenant_id,
        key.signing_key_id,
        key.workspace_id,
        key.service_account_id,
        key.public_key,
        key.status.value,
        key.created_at,
        key.created_by,
        key.expires_at,
    )
    return row is not None


async def find_signing_key(
    session: TenantSession, signing_key_id: UUID, *, workspace_id: UUID, account_id: UUID | None = None
) -> SigningKey | None:
    row = await session.fetchrow(
        f"""select {_KEY} from signing_keys where tenant_id = $1 and workspace_id = $2 and signing_key_id = $3
            and ($4::uuid is null or service_account_id = $4)""",
        session.scope.tenant_id,
        workspace_id,
        signing_key_id,
        account_id,
    )
    return _key(row) if row else None


async def list_signing_keys(
    session: TenantSession, *, account_id: UUID, after: UUID | None, limit: int
) -> list[SigningKey]:
    rows = await session.fetch(
        f"""select {_KEY} from signing_keys
            where tenant_id = $1 and service_account_id = $2 and ($3::uuid is null or signing_key_id > $3)
            order by signing_key_id limit $4""",
        session.scope.tenant_id,
        account_id,
        after,
        limit,
    )
    return [_key(row) for row in rows]


async def revoke_signing_key(session: TenantSession, signing_key_id: UUID, *, now: datetime) -> None:
    await session.execute(
        """update signing_keys set status = 'revoked', revoked_at = $3
           where tenant_id = $1 and signing_key_id = $2 and status <> 'revoked'""",
        session.scope.tenant_id,
        signing_key_id,
        now,
    )


async def touch_signing_keys(session: TenantSession, used: dict[UUID, datetime]) -> None:
    """Note when keys last signed; never moves backwards."""
    await session.execute(
        """update signing_keys k set last_used_at = u.used_at
           from unnest($2::uuid[], $3::timestamptz[]) as u (signing_key_id, used_at)
           where k.tenant_id = $1 and k.signing_key_id = u.signing_key_id
             and (k.last_used_at is null or k.last_used_at < u.used_at)""",
        session.scope.tenant_id,
        list(used),
        list(used.values()),
    )


def _key(row: "asyncpg.Record") -> SigningKey:
    values = dict(row)
    values["status"] = ProofStatus(values["status"])
    return SigningKey(**values)
