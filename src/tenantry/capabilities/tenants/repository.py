"""All SQL of tenants: the cell's tables by a bound session, the directory's by a platform session."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.tenants.types import (
    Isolation,
    Placement,
    Tenant,
    TenantStatus,
    Workspace,
    WorkspaceSettings,
    WorkspaceStatus,
)
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Directory = PoolConnectionProxy[asyncpg.Record]

_TENANT: Final = (
    "tenant_id, slug, name, status, status_reason, plan, region, isolation, owner, settings, quotas, limits, billing, "
    "contacts, metadata, compliance, slo_overlay, label_overlay, clock_skew_ms, version, created_at, updated_at, "
    "suspended_at, deleted_at, erase_after"
)
_WORKSPACE: Final = (
    "workspace_id, name, path, region, owner_type, owner_id, settings, slo_overlay, label_overlay, status, "
    "status_reason, version, created_at, updated_at, archived_at"
)
_PLACEMENT: Final = "tenant_id, slug, region, isolation, placement, status, created_at"


# --- the directory ---------------------------------------------------------------------------------------------------


async def insert_placement(directory: "Directory", placement: Placement) -> Placement | None:
    """Reserve a slug; None when it is held. What stayed `pending` for 30 s is given again: a crash left it."""
    row = await directory.fetchrow(
        f"""insert into directory.tenants as t (tenant_id, slug, region, isolation, placement, status, created_at)
            values ($1, $2, $3, $4, $5, 'pending', $6)
            on conflict (slug) do update set created_at = excluded.created_at
            where t.status = 'pending' and t.region = excluded.region
              and t.created_at < excluded.created_at - interval '30 seconds'
            returning {_PLACEMENT}""",
        placement.tenant_id,
        placement.slug,
        placement.region,
        placement.isolation.value,
        placement.placement,
        placement.created_at,
    )
    return _placement(row) if row else None


async def update_placement_status(directory: "Directory", tenant_id: UUID, status: TenantStatus) -> None:
    await directory.execute("update directory.tenants set status = $2 where tenant_id = $1", tenant_id, status.value)


async def find_placement(directory: "Directory", *, tenant_id: UUID | None, slug: str | None) -> Placement | None:
    row = await directory.fetchrow(
        f"select {_PLACEMENT} from directory.tenants where tenant_id = $1 or slug = $2", tenant_id, slug
    )
    return _placement(row) if row else None


async def find_placement_of_workspace(directory: "Directory", workspace_id: UUID) -> Placement | None:
    row = await directory.fetchrow(
        f"""select {", ".join("t." + column.strip() for column in _PLACEMENT.split(","))}
            from directory.workspaces w join directory.tenants t on t.tenant_id = w.tenant_id
            where w.workspace_id = $1""",
        workspace_id,
    )
    return _placement(row) if row else None


async def list_placements(directory: "Directory", *, after: UUID | None, limit: int) -> list[Placement]:
    rows = await directory.fetch(
        f"""select {_PLACEMENT} from directory.tenants where ($1::uuid is null or tenant_id > $1)
            order by tenant_id limit $2""",
        after,
        limit,
    )
    return [_placement(row) for row in rows]


async def insert_workspace_placement(
    directory: "Directory", *, workspace_id: UUID, tenant_id: UUID, region: str
) -> None:
    await directory.execute(
        "insert into directory.workspaces (workspace_id, tenant_id, region) values ($1, $2, $3) on conflict do nothing",
        workspace_id,
        tenant_id,
        region,
    )


# --- the cell --------------------------------------------------------------------------------------------------------


async def set_tenant_state(session: TenantSession, mode: str) -> None:
    """Change what the fence itself lets through; needs a lifecycle session. Raises Unavailable during a move."""
    await session.fetchval("select fence.set_tenant_state($1, current_schema())", mode)


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
    row = await session.fetchrow(
        f"update tenants set {_assignments(changes)} where tenant_id = $1 returning {_TENANT}",
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


async def insert_workspace(session: TenantSession, workspace: Workspace) -> bool:
    """Insert, or tell False when the path is taken."""
    row = await session.fetchrow(
        f"""insert into workspaces (tenant_id, {_WORKSPACE})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
            on conflict (tenant_id, path) where status <> 'archived' do nothing returning workspace_id""",
        session.scope.tenant_id,
        workspace.workspace_id,
        workspace.name,
        workspace.path,
        workspace.region,
        workspace.owner_type,
        workspace.owner_id,
        workspace.settings.model_dump(),
        workspace.slo_overlay,
        workspace.label_overlay,
        workspace.status.value,
        workspace.status_reason,
        workspace.version,
        workspace.created_at,
        workspace.updated_at,
        workspace.archived_at,
    )
    return row is not None


async def find_workspace(session: TenantSession, workspace_id: UUID, *, lock: bool = False) -> Workspace | None:
    row = await session.fetchrow(
        f"""select {_WORKSPACE} from workspaces where tenant_id = $1 and workspace_id = $2
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        workspace_id,
    )
    return _workspace(row) if row else None


async def list_workspaces(
    session: TenantSession, *, after: UUID | None, limit: int, only: list[UUID] | None
) -> list[Workspace]:
    rows = await session.fetch(
        f"""select {_WORKSPACE} from workspaces
            where tenant_id = $1 and ($2::uuid is null or workspace_id > $2)
              and ($3::uuid[] is null or workspace_id = any($3))
            order by workspace_id limit $4""",
        session.scope.tenant_id,
        after,
        only,
        limit,
    )
    return [_workspace(row) for row in rows]


async def update_workspace(
    session: TenantSession, workspace_id: UUID, changes: dict[str, Any], *, now: datetime
) -> Workspace | None:
    """Set the named columns; None when another workspace holds the wanted path."""
    try:
        row = await session.fetchrow(
            f"""update workspaces set {_assignments(changes, first=4)}
                where tenant_id = $1 and workspace_id = $3 returning {_WORKSPACE}""",
            session.scope.tenant_id,
            now,
            workspace_id,
            *changes.values(),
        )
    except asyncpg.UniqueViolationError:
        return None
    assert row is not None, "the row was read and locked in this transaction"  # noqa: S101 - an invariant, not input
    return _workspace(row)


def _assignments(changes: dict[str, Any], *, first: int = 3) -> str:
    columns = [f"{column} = ${number}" for number, column in enumerate(changes, start=first)]
    return ", ".join([*columns, "updated_at = $2", "version = version + 1"])


def _placement(row: "asyncpg.Record") -> Placement:
    return Placement(
        row["tenant_id"],
        row["slug"],
        row["region"],
        Isolation(row["isolation"]),
        row["placement"],
        TenantStatus(row["status"]),
        row["created_at"],
    )


def _tenant(row: "asyncpg.Record") -> Tenant:
    values = dict(row)
    values["status"] = TenantStatus(values["status"])
    values["isolation"] = Isolation(values["isolation"])
    return Tenant(**values)


def _workspace(row: "asyncpg.Record") -> Workspace:
    values = dict(row)
    values["status"] = WorkspaceStatus(values["status"])
    values["settings"] = WorkspaceSettings.model_validate(values["settings"])
    return Workspace(**values)
