"""All SQL of grants. No statement deletes one: the history stays."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.access.types.grants import (
    Grant,
    GrantStatus,
)
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_GRANT: Final = (
    "grant_id, workspace_id, principal_type, principal_id, role_asked, role, provider, reason, minutes, status, "
    "requested_by, requested_at, approval_id, extension_minutes, extension_approval_id, granted_minutes, granted_by, "
    "active_at, expires_at, notice_at, due_at, ended_at, ended_by, end_reason, version"
)
_STATUS_AT: Final = "case when status = 'active' and expires_at <= $5 then 'expired' else status end"


async def insert_grant(session: TenantSession, grant: Grant) -> None:
    """Insert one that is asked for; what becomes of it is an update."""
    await session.execute(
        """insert into grants (tenant_id, grant_id, workspace_id, principal_type, principal_id, role_asked, role,
               provider, reason, minutes, status, requested_by, requested_at, granted_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '{}')""",
        session.scope.tenant_id,
        grant.grant_id,
        grant.workspace_id,
        grant.principal_type,
        grant.principal_id,
        grant.role_asked,
        grant.role,
        grant.provider,
        grant.reason,
        grant.minutes,
        grant.status.value,
        grant.requested_by,
        grant.requested_at,
    )


async def find_grant(session: TenantSession, grant_id: UUID, *, lock: str = "") -> Grant | None:
    """Find it; `lock` is a locking clause of PostgreSQL, as `for update skip locked`."""
    row = await session.fetchrow(
        f"select {_GRANT} from grants where tenant_id = $1 and grant_id = $2 {lock}",
        session.scope.tenant_id,
        grant_id,
    )
    return _grant(row) if row else None


async def list_grants(
    session: TenantSession,
    *,
    workspace_id: UUID,
    status: GrantStatus | None,
    principal: str | None,
    now: datetime,
    before: UUID | None,
    limit: int,
) -> list[Grant]:
    """Newest first; `status` is that by the clock."""
    rows = await session.fetch(
        f"""select {_GRANT} from grants
            where tenant_id = $1 and workspace_id = $2 and ($3::uuid is null or grant_id < $3)
              and ($4::text is null or principal_id = $4) and ($6::text is null or {_STATUS_AT} = $6)
            order by grant_id desc limit $7""",
        session.scope.tenant_id,
        workspace_id,
        before,
        principal,
        now,
        status.value if status else None,
        limit,
    )
    return [_grant(row) for row in rows]


async def list_open_grants(session: TenantSession, principal_id: str, *, workspace_id: UUID | None) -> list[Grant]:
    """Those of a principal that have not ended, in one workspace, or with None in all that the session sees."""
    rows = await session.fetch(
        f"""select {_GRANT} from grants
            where tenant_id = $1 and principal_id = $2 and ended_at is null and ($3::uuid is null or workspace_id = $3)
            order by grant_id""",
        session.scope.tenant_id,
        principal_id,
        workspace_id,
    )
    return [_grant(row) for row in rows]


async def list_active_grants(session: TenantSession, principal_id: str, *, now: datetime) -> list[Grant]:
    """Those that count at this moment, whether or not what is over has been swept."""
    rows = await session.fetch(
        f"""select {_GRANT} from grants
            where tenant_id = $1 and principal_id = $2 and ended_at is null and status = 'active' and expires_at > $3
            order by grant_id""",
        session.scope.tenant_id,
        principal_id,
        now,
    )
    return [_grant(row) for row in rows]


async def update_grant(session: TenantSession, grant_id: UUID, changes: dict[str, Any]) -> Grant:
    """Set columns of a row that is locked, or was made in this transaction; gives the next version."""
    names = ", ".join(f"{name} = ${place}" for place, name in enumerate(changes, 3))
    row = await session.fetchrow(
        f"""update grants set {names}, version = version + 1 where tenant_id = $1 and grant_id = $2
            returning {_GRANT}""",
        session.scope.tenant_id,
        grant_id,
        *changes.values(),
    )
    if row is None:
        raise LookupError("a grant that was locked is gone")
    return _grant(row)


def _grant(row: "asyncpg.Record") -> Grant:
    values: dict[str, Any] = dict(row)
    values["status"] = GrantStatus(values["status"])
    values["granted_by"] = tuple(values["granted_by"])
    return Grant(**values)
