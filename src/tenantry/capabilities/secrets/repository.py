"""All SQL of secrets."""

from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.secrets.types import KEPT_VERSIONS, Secret, SecretVersion
from tenantry.foundation.database.session import TenantSession

_COLUMNS: Final = "secret_id, workspace_id, name, version, created_at, created_by, updated_at"


async def upsert_secret(
    session: TenantSession, *, workspace_id: UUID, name: str, fresh_id: UUID, by: str, now: datetime
) -> Secret:
    """Make the secret, or raise the version of the one of this name; its row is locked until the commit."""
    [row] = await session.fetch(
        f"""insert into secrets (tenant_id, secret_id, workspace_id, name, version, created_at, created_by, updated_at)
            values ($1, $2, $3, $4, 1, $6, $5, $6)
            on conflict (tenant_id, workspace_id, name) do update
                set version = secrets.version + 1, updated_at = excluded.updated_at
            returning {_COLUMNS}""",
        session.scope.tenant_id,
        fresh_id,
        workspace_id,
        name,
        by,
        now,
    )
    return Secret(**row)


async def insert_version(session: TenantSession, secret: Secret, *, sealed: bytes, by: str) -> None:
    """Insert the secret's newest version, and let go the value of the one that is too old now."""
    await session.execute(
        """with old as (
               update secret_versions set sealed = null
               where tenant_id = $1 and secret_id = $2 and version <= $3 - $8::bigint and sealed is not null
           )
           insert into secret_versions (tenant_id, secret_id, version, workspace_id, sealed, created_at, created_by)
           values ($1, $2, $3, $4, $5, $6, $7)""",
        session.scope.tenant_id,
        secret.secret_id,
        secret.version,
        secret.workspace_id,
        sealed,
        secret.updated_at,
        by,
        KEPT_VERSIONS,
    )


async def count_others(session: TenantSession, *, workspace_id: UUID, name: str) -> int:
    """Count the workspace's secrets of other names."""
    count: int = await session.fetchval(
        "select count(*) from secrets where tenant_id = $1 and workspace_id = $2 and name <> $3",
        session.scope.tenant_id,
        workspace_id,
        name,
    )
    return count


async def find_secret(
    session: TenantSession, secret_id: UUID, *, workspace_id: UUID, lock: bool = False
) -> Secret | None:
    row = await session.fetchrow(
        f"""select {_COLUMNS} from secrets where tenant_id = $1 and secret_id = $2 and workspace_id = $3
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        secret_id,
        workspace_id,
    )
    return Secret(**row) if row else None


async def find_by_name(session: TenantSession, name: str, *, workspace_id: UUID) -> Secret | None:
    row = await session.fetchrow(
        f"select {_COLUMNS} from secrets where tenant_id = $1 and workspace_id = $2 and name = $3",
        session.scope.tenant_id,
        workspace_id,
        name,
    )
    return Secret(**row) if row else None


async def list_secrets(session: TenantSession, *, workspace_id: UUID, after: UUID | None, limit: int) -> list[Secret]:
    """Oldest first."""
    rows = await session.fetch(
        f"""select {_COLUMNS} from secrets
            where tenant_id = $1 and workspace_id = $2 and ($3::uuid is null or secret_id > $3)
            order by secret_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [Secret(**row) for row in rows]


async def list_versions(session: TenantSession, secret_id: UUID, *, limit: int) -> list[SecretVersion]:
    """Newest first."""
    rows = await session.fetch(
        """select version, created_at, created_by, sealed is not null as kept from secret_versions
           where tenant_id = $1 and secret_id = $2 order by version desc limit $3""",
        session.scope.tenant_id,
        secret_id,
        limit,
    )
    return [SecretVersion(**row) for row in rows]


async def find_sealed(session: TenantSession, secret_id: UUID, version: int, *, workspace_id: UUID) -> bytes | None:
    """Find a sealed value of this workspace; None where secret, version or value are gone."""
    sealed: bytes | None = await session.fetchval(
        """select sealed from secret_versions
           where tenant_id = $1 and secret_id = $2 and version = $3 and workspace_id = $4""",
        session.scope.tenant_id,
        secret_id,
        version,
        workspace_id,
    )
    return sealed


async def delete_secret(session: TenantSession, secret_id: UUID) -> None:
    """Delete a secret with all its versions."""
    await session.execute(
        "delete from secrets where tenant_id = $1 and secret_id = $2", session.scope.tenant_id, secret_id
    )
