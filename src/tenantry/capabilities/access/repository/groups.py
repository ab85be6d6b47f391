"""Groups and who is in them."""

from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.access.types import Group, GroupMember
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_GROUP: Final = "group_id, workspace_id, name, description, version, created_at, created_by"
_MEMBER: Final = "principal_type, principal_id, added_at, added_by"


async def insert_group(session: TenantSession, group: Group) -> bool:
    """Insert, or tell False when the name is taken in that place."""
    row = await session.fetchrow(
        f"""insert into groups (tenant_id, {_GROUP}) values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (tenant_id, workspace_id, name) do nothing returning group_id""",
        session.scope.tenant_id,
        group.group_id,
        group.workspace_id,
        group.name,
        group.description,
        group.version,
        group.created_at,
        group.created_by,
    )
    return row is not None


async def list_groups(
    session: TenantSession, *, workspace_id: UUID | None, after: UUID | None, limit: int
) -> list[Group]:
    rows = await session.fetch(
        f"""select {_GROUP} from groups
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or group_id > $3)
            order by group_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [_group(row) for row in rows]


async def find_group(session: TenantSession, group_id: UUID, *, lock: bool = False) -> Group | None:
    row = await session.fetchrow(
        f"select {_GROUP} from groups where tenant_id = $1 and group_id = $2 {'for update' if lock else ''}",
        session.scope.tenant_id,
        group_id,
    )
    return _group(row) if row else None


async def update_group(session: TenantSession, group_id: UUID, *, name: str, description: str) -> None:
    await session.execute(
        """update groups set name = $3, description = $4, version = version + 1
           where tenant_id = $1 and group_id = $2""",
        session.scope.tenant_id,
        group_id,
        name,
        description,
    )


async def delete_group(session: TenantSession, group_id: UUID) -> None:
    await session.execute(
        "delete from groups where tenant_id = $1 and group_id = $2", session.scope.tenant_id, group_id
    )


async def insert_member(session: TenantSession, group_id: UUID, member: GroupMember) -> bool:
    """Insert, or tell False when it is in already."""
    row = await session.fetchrow(
        f"""insert into group_members (tenant_id, group_id, {_MEMBER}) values ($1, $2, $3, $4, $5, $6)
            on conflict (tenant_id, group_id, principal_id) do nothing returning principal_id""",
        session.scope.tenant_id,
        group_id,
        member.principal_type,
        member.principal_id,
        member.added_at,
        member.added_by,
    )
    return row is not None


async def delete_member(session: TenantSession, group_id: UUID, principal_id: str) -> bool:
    row = await session.fetchrow(
        """delete from group_members where tenant_id = $1 and group_id = $2 and principal_id = $3
           returning principal_id""",
        session.scope.tenant_id,
        group_id,
        principal_id,
    )
    return row is not None


async def list_group_members(
    session: TenantSession, group_id: UUID, *, after: str | None, limit: int
) -> list[GroupMember]:
    rows = await session.fetch(
        f"""select {_MEMBER} from group_members
            where tenant_id = $1 and group_id = $2 and ($3::text is null or principal_id > $3)
            order by principal_id limit $4""",
        session.scope.tenant_id,
        group_id,
        after,
        limit,
    )
    return [GroupMember(**row) for row in rows]


async def find_member(session: TenantSession, group_id: UUID, principal_id: str) -> GroupMember | None:
    row = await session.fetchrow(
        f"select {_MEMBER} from group_members where tenant_id = $1 and group_id = $2 and principal_id = $3",
        session.scope.tenant_id,
        group_id,
        principal_id,
    )
    return GroupMember(**row) if row else None


async def list_groups_of(session: TenantSession, principal_id: str) -> list[UUID]:
    rows = await session.fetch(
        "select group_id from group_members where tenant_id = $1 and principal_id = $2",
        session.scope.tenant_id,
        principal_id,
    )
    return [row["group_id"] for row in rows]


def _group(row: "asyncpg.Record") -> Group:
    return Group(**row)
