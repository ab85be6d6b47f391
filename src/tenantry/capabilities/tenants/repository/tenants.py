"""All SQL of tenants' records, their keysets and counters."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.tenants.repository.assignments import assignments
from tenantry.capabilities.tenants.types import (
    Isolation,
    Tenant,
    TenantStatus,
)
from tenantry.foundation.changes import EVERYTHING, name_of
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Directory = PoolConnectionProxy[asyncpg.Record]

_TENANT: Final = (
    "tenant_id, slug, name, status, status_reason, plan, region, isolation, owner, settings, quotas, limits, billing, "
    "contacts, metadata, compliance, slo_overlay, label_overlay, clock_skew_ms, version, created_at, updated_at, "
    "suspended_at, deleted_at, erase_after"
)


async def set_tenant_state(session: TenantSession, mode: str, *, home: str | None = None) -> None:
    """Change what the fence itself lets through; needs a lifecycle session. Raises Unavailable during a move.

    `home` is where the tenant's rows lie as this database sees it; None: in the session's own schema.
    """
    session.changes(EVERYTHING)
    await session.fetchval("select fence.set_tenant_state($1, coalesce($2, current_schema()))", mode, home)


async def insert_tenant(session: TenantSession, tenant: Tenant) -> None:
    await session.execute(
        f"""insert into tenants ({_TENANT}) values
            ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
             $23, $24, $25)""",
        tenant.tenant_id,
        tenant.slug,
        tenant.name,
        tenant.status.value,
        tenant.status_reason,
        tenant.plan,
        tenant.region,
        tenant.isolation.value,
        tenant.owner,
        tenant.settings,
        tenant.quotas,
        tenant.limits,
        tenant.billing,
        tenant.contacts,
        tenant.metadata,
        tenant.compliance,
        tenant.slo_overlay,
        tenant.label_overlay,
        tenant.clock_skew_ms,
        tenant.version,
        tenant.created_at,
        tenant.updated_at,
        tenant.suspended_at,
        tenant.deleted_at,
        tenant.erase_after,
    )


async def find_tenant(session: TenantSession, *, lock: bool = False) -> Tenant | None:
    """Read the session's own tenant; `lock` holds it against concurrent changes until the transaction ends."""
    row = await session.fetchrow(
        f"select {_TENANT} from tenants where tenant_id = $1 {'for update' if lock else ''}", session.scope.tenant_id
    )
    return _tenant(row) if row else None


async def update_tenant(session: TenantSession, changes: dict[str, Any], *, now: datetime) -> Tenant:
    """Set the named columns (names are the caller's constants, never input) and count the version up."""
    session.changes(name_of("tenants", session.scope.tenant_id))
    row = await session.fetchrow(
        f"update tenants set {assignments(changes)} where tenant_id = $1 returning {_TENANT}",
        session.scope.tenant_id,
        now,
        *changes.values(),
    )
    assert row is not None, "the row was read and locked in this transaction"  # noqa: S101 - an invariant, not input
    return _tenant(row)


async def insert_keyset(session: TenantSession, *, keyset_id: UUID, wrapped: bytes, now: datetime) -> None:
    await session.execute(
        "insert into keysets (tenant_id, keyset_id, wrapped, created_at) values ($1, $2, $3, $4)",
        session.scope.tenant_id,
        keyset_id,
        wrapped,
        now,
    )


async def find_keyset(session: TenantSession) -> tuple[UUID, bytes] | None:
    row = await session.fetchrow(
        "select keyset_id, wrapped from keysets where tenant_id = $1 order by keyset_id desc limit 1",
        session.scope.tenant_id,
    )
    return (row["keyset_id"], row["wrapped"]) if row else None


async def read_counters(session: TenantSession, windows: Mapping[str, datetime]) -> dict[str, int]:
    """Read counters by name, each in its window; one that nobody has counted yet is left out."""
    rows = await session.fetch(
        """select c.name, c.amount from usage_counters c
           join unnest($2::text[], $3::timestamptz[]) as w (name, window_start) using (name, window_start)
           where c.tenant_id = $1""",
        session.scope.tenant_id,
        list(windows),
        list(windows.values()),
    )
    return {row["name"]: row["amount"] for row in rows}


async def add_to_counter(
    session: TenantSession, *, name: str, window_start: datetime, amount: int, maximum: int
) -> int | None:
    """Add in one statement and give the sum; None, and nothing changed, when it would leave 0 to `maximum`."""
    # A check of the table would refuse the row of a negative amount before it could meet the one that is there.
    statement = (
        """insert into usage_counters as c (tenant_id, name, window_start, amount) values ($1, $2, $3, $4)
           on conflict (tenant_id, name, window_start) do update set amount = c.amount + excluded.amount
           where c.amount + excluded.amount <= $5 returning amount"""
        if amount >= 0
        else """update usage_counters set amount = amount + $4
                where tenant_id = $1 and name = $2 and window_start = $3 and amount + $4 between 0 and $5
                returning amount"""
    )
    total: int | None = await session.fetchval(statement, session.scope.tenant_id, name, window_start, amount, maximum)
    return total


def _tenant(row: "asyncpg.Record") -> Tenant:
    values = dict(row)
    values["status"] = TenantStatus(values["status"])
    values["isolation"] = Isolation(values["isolation"])
    return Tenant(**values)
