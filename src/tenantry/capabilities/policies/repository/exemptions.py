"""SQL of exemptions."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.policies.types import Exemption
from tenantry.engines.rules.types import Kind
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_EXEMPTION: Final = (
    "exemption_id, workspace_id, kind, rule, owner, reason, expires_at, created_at, created_by, revoked_at"
)


async def list_open(session: TenantSession, *, now: datetime) -> list[Exemption]:
    """List those of the tenant and its workspaces that hold."""
    rows = await session.fetch(
        f"select {_EXEMPTION} from exemptions where tenant_id = $1 and revoked_at is null and expires_at > $2",
        session.scope.tenant_id,
        now,
    )
    return [_exemption(row) for row in rows]


async def list_exemptions(
    session: TenantSession, workspace_id: UUID | None, *, before: UUID | None, limit: int
) -> list[Exemption]:
    """Newest first, ended and revoked ones too."""
    rows = await session.fetch(
        f"""select {_EXEMPTION} from exemptions
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or exemption_id < $3)
            order by exemption_id desc limit $4""",
        session.scope.tenant_id,
        workspace_id,
        before,
        limit,
    )
    return [_exemption(row) for row in rows]


async def find_exemption(session: TenantSession, workspace_id: UUID | None, exemption_id: UUID) -> Exemption | None:
    row = await session.fetchrow(
        f"""select {_EXEMPTION} from exemptions
            where tenant_id = $1 and workspace_id is not distinct from $2 and exemption_id = $3""",
        session.scope.tenant_id,
        workspace_id,
        exemption_id,
    )
    return _exemption(row) if row is not None else None


async def insert_exemption(session: TenantSession, exemption: Exemption) -> None:
    await session.execute(
        """insert into exemptions (tenant_id, exemption_id, workspace_id, kind, rule, owner, reason, expires_at,
               created_at, created_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
        session.scope.tenant_id,
        exemption.exemption_id,
        exemption.workspace_id,
        exemption.kind.value,
        exemption.rule,
        exemption.owner,
        exemption.reason,
        exemption.expires_at,
        exemption.created_at,
        exemption.created_by,
    )


async def revoke_exemption(
    session: TenantSession, workspace_id: UUID | None, exemption_id: UUID, *, now: datetime
) -> Exemption | None:
    """Revoke one that is not; None when there is none such."""
    row = await session.fetchrow(
        f"""update exemptions set revoked_at = $4
            where tenant_id = $1 and workspace_id is not distinct from $2 and exemption_id = $3 and revoked_at is null
            returning {_EXEMPTION}""",
        session.scope.tenant_id,
        workspace_id,
        exemption_id,
        now,
    )
    return _exemption(row) if row is not None else None


def _exemption(row: "asyncpg.Record") -> Exemption:
    values: dict[str, Any] = dict(row)
    values["kind"] = Kind(values["kind"])
    return Exemption(**values)
