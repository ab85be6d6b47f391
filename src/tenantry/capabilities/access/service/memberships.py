"""What identity providers and invitations give, written as bindings that name their source."""

from collections.abc import Sequence
from uuid import UUID

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.service.owners import is_owners, owner_left
from tenantry.capabilities.access.service.rights import bindable_roles
from tenantry.capabilities.access.types import TENANT_WIDE_ROLES, Binding, Effect
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import AccountService
from tenantry.capabilities.identity.types import GivenRole, PrincipalType
from tenantry.capabilities.tenants.service import WorkspaceService, announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id


class BoundMemberships:
    """The `Memberships` port of identity. A binding that somebody made by hand is nobody else's to take away."""

    def __init__(
        self, *, session: TenantSession, audit: AuditService, workspaces: WorkspaceService, clock: Clock
    ) -> None:
        self._session = session
        self._audit = audit
        self._workspaces = workspaces
        self._clock = clock

    async def replace(self, *, user_id: UUID, source: str, roles: Sequence[GivenRole]) -> None:
        principal = format_id(Prefix.USER, user_id)
        held = {
            GivenRole(binding.role, binding.workspace_id): binding
            for binding in await repository.list_bindings_kept_by(self._session, source, principal_id=principal)
        }
        wanted = [given for given in roles if await self._still_given(given)]
        for given, binding in held.items():
            if given not in wanted:
                await self._delete(binding)
        for given in wanted:
            if given not in held:
                await self._add(given, principal=principal, source=source)

    async def withdraw(self, *, source: str) -> None:
        for binding in await repository.list_bindings_kept_by(self._session, source, principal_id=None):
            await self._delete(binding)

    async def holds_any(self, *, user_id: UUID) -> bool:
        principal = format_id(Prefix.USER, user_id)
        groups = await repository.list_groups_of(self._session, principal)
        names = [principal, *(format_id(Prefix.GROUP, group) for group in groups)]
        found = await repository.list_bindings_of(self._session, names)
        return any(binding.effect is Effect.ALLOW for binding in found)

    async def _still_given(self, given: GivenRole) -> bool:
        if given.role not in await bindable_roles(self._session, given.workspace_id):
            return False
        if given.workspace_id is None:
            return True
        found = await self._workspaces.find(given.workspace_id)
        return found is not None and given.role not in TENANT_WIDE_ROLES

    async def _add(self, given: GivenRole, *, principal: str, source: str) -> None:
        binding = Binding(
            binding_id=new_id(),
            workspace_id=given.workspace_id,
            principal_type=PrincipalType.USER.value,
            principal_id=principal,
            role=given.role,
            created_at=self._clock.now(),
            created_by=source,
            kept_by=source,
        )
        if await repository.insert_binding(self._session, binding):
            await announce_revocation(self._session)
            await self._record("binding.created", binding)

    async def _delete(self, binding: Binding) -> None:
        """Take a binding away, but not the last administrator's: no claim may leave a tenant to nobody."""
        if is_owners(binding):
            accounts = AccountService(session=self._session, audit=self._audit, clock=self._clock)
            without = binding.binding_id
            if not await owner_left(self._session, accounts, without=lambda owner: owner.binding_id == without):
                await self._record("binding.kept", binding, reason="last_admin")
                return
        await repository.delete_binding(self._session, binding.binding_id)
        await announce_revocation(self._session)
        await self._record("binding.deleted", binding)

    async def _record(self, action: str, binding: Binding, *, reason: str | None = None) -> None:
        await self._audit.record(
            action,
            resource_type="binding",
            resource_id=format_id(Prefix.BINDING, binding.binding_id),
            reason=reason,
            details={"principal": binding.principal_id, "role": binding.role},
        )
