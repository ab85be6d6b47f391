"""Bindings: which principal has which role where, or is denied it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.access.types import Binding, Bound, Condition, Effect
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_BINDING: Final = (
    "binding_id, workspace_id, principal_type, principal_id, role, created_at, created_by, effect, condition, kept_by"
)


async def insert_binding(session: TenantSession, binding: Binding) -> bool:
    """Insert, or tell False when there is the same already."""
    row = await session.fetchrow(
        f"""insert into bindings (tenant_id, {_BINDING}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            on conflict (tenant_id, workspace_id, principal_id, role, effect, condition, kept_by) do nothing
            returning binding_id""",
        session.scope.tenant_id,
        binding.binding_id,
        binding.workspace_id,
        binding.principal_type,
        binding.principal_id,
        binding.role,
        binding.created_at,
        binding.created_by,
        binding.effect.value,
        binding.condition.as_json(),
        binding.kept_by,
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
    return [_binding(row) for row in rows]


async def list_bindings_of(session: TenantSession, principal_ids: Sequence[str]) -> list[Binding]:
    """List those of some principals, oldest first: a user and the groups it is in."""
    rows = await session.fetch(
        f"select {_BINDING} from bindings where tenant_id = $1 and principal_id = any($2) order by binding_id",
        session.scope.tenant_id,
        list(principal_ids),
    )
    return [_binding(row) for row in rows]


async def list_bindings_kept_by(session: TenantSession, kept_by: str, *, principal_id: str | None) -> list[Binding]:
    """List what one provider or invitation keeps, of one principal or of all."""
    rows = await session.fetch(
        f"""select {_BINDING} from bindings
            where tenant_id = $1 and kept_by = $2 and ($3::text is null or principal_id = $3)""",
        session.scope.tenant_id,
        kept_by,
        principal_id,
    )
    return [_binding(row) for row in rows]


async def list_bound(session: TenantSession, *, workspace_id: UUID, after: str | None, limit: int) -> list[Bound]:
    """List principals by id, each with the roles that are bound and denied to it in a workspace."""
    rows = await session.fetch(
        """select principal_type, principal_id,
               array_agg(distinct role order by role) filter (where effect = 'allow') as roles,
               array_agg(distinct role order by role) filter (where effect = 'deny') as denied
           from bindings where tenant_id = $1 and workspace_id = $2 and ($3::text is null or principal_id > $3)
           group by principal_id, principal_type order by principal_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [
        Bound(row["principal_type"], row["principal_id"], tuple(row["roles"] or ()), tuple(row["denied"] or ()))
        for row in rows
    ]


async def find_binding(session: TenantSession, binding_id: UUID, *, workspace_id: UUID | None) -> Binding | None:
    row = await session.fetchrow(
        f"""select {_BINDING} from bindings
            where tenant_id = $1 and binding_id = $2 and workspace_id is not distinct from $3""",
        session.scope.tenant_id,
        binding_id,
        workspace_id,
    )
    return _binding(row) if row else None


async def delete_binding(session: TenantSession, binding_id: UUID) -> None:
    await session.execute(
        "delete from bindings where tenant_id = $1 and binding_id = $2", session.scope.tenant_id, binding_id
    )


async def delete_bindings_of(session: TenantSession, principal_id: str) -> None:
    await session.execute(
        "delete from bindings where tenant_id = $1 and principal_id = $2", session.scope.tenant_id, principal_id
    )


async def lock_owner_bindings(session: TenantSession, role: str) -> list[Binding]:
    """Lock who has a role in the whole tenant, so that the last of them is taken away by nobody."""
    rows = await session.fetch(
        f"""select {_BINDING} from bindings
            where tenant_id = $1 and workspace_id is null and role = $2 and effect = 'allow' and condition = '{{}}'
            order by binding_id for update""",
        session.scope.tenant_id,
        role,
    )
    return [_binding(row) for row in rows]


def _binding(row: "asyncpg.Record") -> Binding:
    values = dict(row)
    values["effect"] = Effect(values["effect"])
    values["condition"] = read_condition(values["condition"])
    return Binding(**values)


def read_condition(stored: dict[str, object]) -> Condition:
    environments, labels, paths = (stored.get(name) for name in ("environments", "labels", "paths"))
    return Condition(
        environments=tuple(environments) if isinstance(environments, list) else (),
        labels={name: tuple(values) for name, values in labels.items()} if isinstance(labels, dict) else {},
        paths=tuple(paths) if isinstance(paths, list) else (),
    )
