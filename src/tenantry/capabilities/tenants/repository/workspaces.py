"""All SQL of workspaces and their environments."""

from dataclasses import astuple
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.tenants.repository.assignments import assignments
from tenantry.capabilities.tenants.types import (
    Environment,
    EnvironmentKind,
    Workspace,
    WorkspaceSettings,
    WorkspaceStatus,
)
from tenantry.foundation.changes import name_of
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Directory = PoolConnectionProxy[asyncpg.Record]

_WORKSPACE: Final = (
    "workspace_id, name, path, region, owner_type, owner_id, settings, slo_overlay, label_overlay, status, "
    "status_reason, version, created_at, updated_at, archived_at"
)
_ENVIRONMENT: Final = "slug, kind, description, version, created_at, updated_at"


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
    session.changes(name_of("workspaces", workspace_id))
    try:
        row = await session.fetchrow(
            f"""update workspaces set {assignments(changes, first=4)}
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


async def count_open_workspaces(session: TenantSession) -> int:
    count: int = await session.fetchval(
        "select count(*) from workspaces where tenant_id = $1 and status <> 'archived'", session.scope.tenant_id
    )
    return count


async def insert_environment(session: TenantSession, workspace_id: UUID, new: Environment) -> bool:
    """Insert, or tell False when the workspace has one of this slug."""
    row = await session.fetchrow(
        f"""insert into environments (tenant_id, workspace_id, {_ENVIRONMENT}) values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict do nothing returning slug""",
        session.scope.tenant_id,
        workspace_id,
        *astuple(new),
    )
    return row is not None


async def find_environment(
    session: TenantSession, workspace_id: UUID, slug: str, *, lock: bool = False
) -> Environment | None:
    row = await session.fetchrow(
        f"""select {_ENVIRONMENT} from environments where tenant_id = $1 and workspace_id = $2 and slug = $3
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        workspace_id,
        slug,
    )
    return _environment(row) if row else None


async def list_environments(
    session: TenantSession, workspace_id: UUID, *, after: str | None, limit: int
) -> list[Environment]:
    rows = await session.fetch(
        f"""select {_ENVIRONMENT} from environments
            where tenant_id = $1 and workspace_id = $2 and ($3::text is null or slug > $3) order by slug limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [_environment(row) for row in rows]


async def update_environment(session: TenantSession, workspace_id: UUID, changed: Environment) -> None:
    await session.execute(
        """update environments set kind = $4, description = $5, version = $6, updated_at = $7
           where tenant_id = $1 and workspace_id = $2 and slug = $3""",
        session.scope.tenant_id,
        workspace_id,
        changed.slug,
        changed.kind,
        changed.description,
        changed.version,
        changed.updated_at,
    )


async def delete_environment(session: TenantSession, workspace_id: UUID, slug: str) -> None:
    await session.execute(
        "delete from environments where tenant_id = $1 and workspace_id = $2 and slug = $3",
        session.scope.tenant_id,
        workspace_id,
        slug,
    )


def _workspace(row: "asyncpg.Record") -> Workspace:
    values = dict(row)
    values["status"] = WorkspaceStatus(values["status"])
    values["settings"] = WorkspaceSettings.model_validate(values["settings"])
    return Workspace(**values)


def _environment(row: "asyncpg.Record") -> Environment:
    return Environment(**{**row, "kind": EnvironmentKind(row["kind"])})
