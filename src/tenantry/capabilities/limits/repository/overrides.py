"""SQL of overrides."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tenantry.capabilities.limits.types import LimitOverride
from tenantry.capabilities.tenants.types.plans import RateLimitSpec
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    import asyncpg

_OVERRIDE = "rates, numbers, version, updated_at, updated_by"


async def list_overrides(session: TenantSession) -> dict[UUID | None, LimitOverride]:
    """List what workspaces, and the tenant itself under None, set; those that set nothing are left out."""
    rows = await session.fetch(
        f"select workspace_id, {_OVERRIDE} from limit_overrides where tenant_id = $1", session.scope.tenant_id
    )
    return {row["workspace_id"]: _override(row) for row in rows}


async def find_override(session: TenantSession, workspace_id: UUID | None) -> LimitOverride | None:
    row = await session.fetchrow(
        f"select {_OVERRIDE} from limit_overrides where tenant_id = $1 and workspace_id is not distinct from $2",
        session.scope.tenant_id,
        workspace_id,
    )
    return _override(row) if row is not None else None


async def put_override(
    session: TenantSession,
    *,
    workspace_id: UUID | None,
    rates: Mapping[str, RateLimitSpec],
    numbers: Mapping[str, float],
    if_version: int | None,
    now: datetime,
) -> LimitOverride | None:
    """Replace what a place sets; None when `if_version` (0: nothing set yet) is not the present one."""
    row = await session.fetchrow(
        f"""insert into limit_overrides (tenant_id, override_id, workspace_id, rates, updated_at, updated_by, numbers)
            select $1::uuid, $7::uuid, $2::uuid, $3::jsonb, $4::timestamptz, $5::text, $8::jsonb
            where $6::bigint is null or $6 = 0 or exists (
                select from limit_overrides where tenant_id = $1 and workspace_id is not distinct from $2)
            on conflict (tenant_id, workspace_id) do update
            set rates = excluded.rates, numbers = excluded.numbers, updated_at = excluded.updated_at,
                updated_by = excluded.updated_by, version = limit_overrides.version + 1
            where $6::bigint is null or limit_overrides.version = $6
            returning {_OVERRIDE}""",
        session.scope.tenant_id,
        workspace_id,
        {name: spec.model_dump(exclude_none=True) for name, spec in rates.items()},
        now,
        session.scope.actor.id,
        if_version,
        new_id(),
        dict(numbers),
    )
    return _override(row) if row is not None else None


def _override(row: "asyncpg.Record") -> LimitOverride:
    rates: dict[str, Any] = row["rates"]
    return LimitOverride(
        rates={name: RateLimitSpec.model_validate(spec) for name, spec in rates.items()},
        numbers=row["numbers"],
        version=row["version"],
        updated_at=row["updated_at"],
        updated_by=row["updated_by"],
    )
