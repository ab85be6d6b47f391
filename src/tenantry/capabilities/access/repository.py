"""All SQL of access."""

from typing import Final
from uuid import UUID

from tenantry.capabilities.access.types import Binding
from tenantry.foundation.database.session import TenantSession

_BINDING: Final = "binding_id, workspace_id, principal_type, principal_id, role, created_at, created_by"


async def insert_binding(session: TenantSession, binding: Binding) -> bool:
    """Insert, or tell False when the principal has the role there already."""
    row = await session.fetchrow(
        f"""insert into bindings (tenant_id, {_BINDING}) values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (tenant_id, workspace_id, principal_id, role) do nothing returning binding_id""",
        session.scope.tenant_id,
        binding.binding_id,
        binding.workspace_id,
        binding.principal_type,
        binding.principal_id,
        binding.role,
        binding.created_at,
        binding.created_by,
    )
    return row is not None


async def list_bindings(
    session: TenantSession, *, workspace_id: UUID | None, after: UUID | None, limit: int
) -> list[Binding]:
    rows = await session.fetch(
        f"""select {_BINDING} from bindings
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or binding_id > $3)
            order by binding_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [Binding(**row) for row in rows]


async def list_bindings_of(session: TenantSession, principal_id: str) -> list[Binding]:
    rows = await session.fetch(
        f"select {_BINDING} from bindings where tenant_id = $1 and principal_id = $2",
        session.scope.tenant_id,
        principal_id,
    )
    return [Binding(**row) for row in rows]


async def find_binding(session: TenantSession, binding_id: UUID, *, workspace_id: UUID | None) -> Binding | None:
    row = await session.fetchrow(
        f"""select {_BINDING} from bindings
            where tenant_id = $1 and binding_id = $2 and workspace_id is not distinct from $3""",
        session.scope.tenant_id,
        binding_id,
        workspace_id,
    )
    return Binding(**row) if row else None


async def delete_binding(session: TenantSession, binding_id: UUID) -> None:
    await session.execute(
        "delete from bindings where tenant_id = $1 and binding_id = $2", session.scope.tenant_id, binding_id
    )
