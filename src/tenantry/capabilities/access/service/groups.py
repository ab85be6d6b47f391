"""Groups: principals that share bindings, in the whole tenant or in one workspace."""

from uuid import UUID

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.errors import (
    group_name_taken,
    group_not_found,
    member_exists,
    member_not_found,
    version_mismatch,
)
from tenantry.capabilities.access.service.decide import Grantor, permissions_of
from tenantry.capabilities.access.service.principals import principal_type_of
from tenantry.capabilities.access.types import Effect, Group, GroupMember
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import AccountService
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id


class GroupService:
    """Make groups, and change who is in them. Who lets somebody in gives what the group is bound to, so must hold it.

    A workspace's group is bound in that workspace alone, so a session narrowed to it sees all it is bound to.
    """

    def __init__(self, *, session: TenantSession, accounts: AccountService, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._accounts = accounts
        self._audit = audit
        self._clock = clock

    async def create(self, *, name: str, description: str, workspace_id: UUID | None) -> Group:
        """Make an empty group; raises Conflict `name_taken`."""
        group = Group(
            group_id=new_id(),
            workspace_id=workspace_id,
            name=name,
            description=description,
            version=1,
            created_at=self._clock.now(),
            created_by=self._session.scope.actor.id,
        )
        if not await repository.insert_group(self._session, group):
            raise group_name_taken(name)
        await self._record("group.created", group.group_id, details={"name": name})
        return group

    async def get(self, group_id: UUID, *, workspace_id: UUID | None, lock: bool = False) -> Group:
        group = await repository.find_group(self._session, group_id, lock=lock)
        if group is None or group.workspace_id != workspace_id:
            raise group_not_found()
        return group

    async def list_groups(
        self, *, workspace_id: UUID | None, after: UUID | None = None, limit: int = 50
    ) -> list[Group]:
        return await repository.list_groups(self._session, workspace_id=workspace_id, after=after, limit=limit)

    async def update(
        self,
        group_id: UUID,
        *,
        workspace_id: UUID | None,
        name: str | None,
        description: str | None,
        if_version: int | None,
    ) -> Group:
        """Rename or describe; raises Precondition `version_mismatch`."""
        group = await self.get(group_id, workspace_id=workspace_id, lock=True)
        if if_version is not None and if_version != group.version:
            raise version_mismatch(group.version)
        same = name in (None, group.name)
        await repository.update_group(
            self._session,
            group_id,
            name=group.name if same else str(name),
            description=group.description if description is None else description,
        )
        await self._record("group.updated", group_id)
        return await self.get(group_id, workspace_id=workspace_id)

    async def delete(self, group_id: UUID, *, workspace_id: UUID | None, grantor: Grantor) -> None:
        """Delete a group with its bindings. One that denies is deleted by who holds what it denies."""
        await self.get(group_id, workspace_id=workspace_id, lock=True)
        await self._require_held(group_id, Effect.DENY, grantor)
        await repository.delete_bindings_of(self._session, format_id(Prefix.GROUP, group_id))
        await repository.delete_group(self._session, group_id)
        await announce_revocation(self._session)
        await self._record("group.deleted", group_id)

    async def add_member(
        self, group_id: UUID, principal: str, *, workspace_id: UUID | None, grantor: Grantor
    ) -> GroupMember:
        """Let a principal in; raises Denied `grant_exceeds_own`, NotFound, Conflict `member_exists`."""
        await self.get(group_id, workspace_id=workspace_id, lock=True)
        await self._require_held(group_id, Effect.ALLOW, grantor)
        member = GroupMember(
            principal_type=await principal_type_of(self._accounts, principal, workspace_id=workspace_id),
            principal_id=principal,
            added_at=self._clock.now(),
            added_by=self._session.scope.actor.id,
        )
        if not await repository.insert_member(self._session, group_id, member):
            raise member_exists()
        await announce_revocation(self._session)
        await self._record("group.member_added", group_id, details={"principal": principal})
        return member

    async def remove_member(
        self, group_id: UUID, principal: str, *, workspace_id: UUID | None, grantor: Grantor
    ) -> None:
        """Take a principal out, which takes away and lifts what the group is bound to, everywhere within a second."""
        await self.get(group_id, workspace_id=workspace_id, lock=True)
        await self._require_held(group_id, Effect.DENY, grantor)
        if not await repository.delete_member(self._session, group_id, principal):
            raise member_not_found()
        await announce_revocation(self._session)
        await self._record("group.member_removed", group_id, details={"principal": principal})

    async def list_group_members(
        self, group_id: UUID, *, workspace_id: UUID | None, after: str | None = None, limit: int = 50
    ) -> list[GroupMember]:
        await self.get(group_id, workspace_id=workspace_id)
        return await repository.list_group_members(self._session, group_id, after=after, limit=limit)

    async def get_member(self, group_id: UUID, principal: str, *, workspace_id: UUID | None) -> GroupMember:
        await self.get(group_id, workspace_id=workspace_id)
        member = await repository.find_member(self._session, group_id, principal)
        if member is None:
            raise member_not_found()
        return member

    async def _require_held(self, group_id: UUID, effect: Effect, grantor: Grantor) -> None:
        for binding in await repository.list_bindings_of(self._session, [format_id(Prefix.GROUP, group_id)]):
            if binding.effect is effect:
                grantor.require_held(permissions_of((binding.role,), grantor.book), binding.workspace_id)

    async def _record(self, action: str, group_id: UUID, *, details: dict[str, str] | None = None) -> None:
        await self._audit.record(
            action, resource_type="group", resource_id=format_id(Prefix.GROUP, group_id), details=details
        )
