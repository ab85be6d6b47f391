"""Roles of the tenant's own."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.access.types import Role
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_ROLE: Final = "slug, workspace_id, description, permissions, version, created_at, created_by, updated_at"


async def insert_role(session: TenantSession, role: Role) -> bool:
    """Insert, or tell False when the tenant has one of that name, in whatever place."""
    row = await session.fetchrow(
        f"""insert into roles (tenant_id, {_ROLE}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (tenant_id, slug) do nothing returning slug""",
        session.scope.tenant_id,
        role.slug,
        role.workspace_id,
        role.description,
        list(role.permissions),
        role.version,
        role.created_at,
        role.created_by,
        role.updated_at,
    )
    return row is not None


async def list_roles(session: TenantSession, *, workspace_id: UUID | None) -> list[Role]:
    """List those that can be bound in a place: the whole tenant's, and the workspace's own."""
    rows = await session.fetch(
        f"""select {_ROLE} from roles where tenant_id = $1 and (workspace_id is null or workspace_id = $2)
            order by slug""",
        session.scope.tenant_id,
        workspace_id,
    )
    return [_role(row) for row in rows]


async def list_all_roles(session: TenantSession) -> list[Role]:
    rows = await session.fetch(f"select {_ROLE} from roles where tenant_id = $1 order by slug", session.scope.tenant_id)
    return [_role(row) for row in rows]


async def count_roles(session: TenantSession) -> int:
    count: int = await session.fetchval("select count(*) from roles where tenant_id = $1", session.scope.tenant_id)
    return count


async def find_role(session: TenantSession, slug: str, *, workspace_id: UUID | None, lock: bool = False) -> Role | None:
    row = await session.fetchrow(
        f"""select {_ROLE} from roles where tenant_id = $1 and slug = $2 and workspace_id is not distinct from $3
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        slug,
        workspace_id,
    )
    return _role(row) if row else None


async def update_role(
    session: TenantSession, slug: str, *, description: str, permissions: tuple[str, ...], now: datetime
) -> None:
    await session.execute(
        """update roles set description = $3, permissions = $4, updated_at = $5, version = version + 1
           where tenant_id = $1 and slug = $2""",
        session.scope.tenant_id,
        slug,
        description,
        list(permissions),
        now,
    )


async def delete_role(session: TenantSession, slug: str) -> None:
    await session.execute("delete from roles where tenant_id = $1 and slug = $2", session.scope.tenant_id, slug)


async def role_is_used(session: TenantSession, slug: str) -> bool:
    """Say whether a binding or a key names the role."""
    used: bool = await session.fetchval(
        """select exists (select from bindings where tenant_id = $1 and role = $2)
               or exists (select from api_keys where tenant_id = $1 and $2 = any(roles) and status <> 'revoked')""",
        session.scope.tenant_id,
        slug,
    )
    return used


def _role(row: "asyncpg.Record") -> Role:
    return Role(**{**dict(row), "permissions": tuple(row["permissions"])})
