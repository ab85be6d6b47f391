"""Bindings of one tenant, and how the owner of a new tenant gets in."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.errors import binding_exists, binding_not_found, principal_not_found
from tenantry.capabilities.access.service.decide import Grantor
from tenantry.capabilities.access.types import BUILT_IN_ROLES, Access, Binding
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import IdentityService, KeyHasher
from tenantry.capabilities.identity.types import (
    ApiKey,
    KeyStatus,
    PrincipalType,
    ScopeKind,
    make_credential,
    read_credential,
)
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.capabilities.tenants.types import BootstrapKey, Owner
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault, Invalid
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id

BOOTSTRAP_LIFETIME: Final = timedelta(hours=24)
_OWNER_ROLE: Final = "tenant-admin"


class AccessService:
    """Roles are bound to principals in a workspace or in the whole tenant."""

    def __init__(self, *, session: TenantSession, identity: IdentityService, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._identity = identity
        self._audit = audit
        self._clock = clock

    async def create_binding(
        self, *, principal: str, role: str, workspace_id: UUID | None, grantor: Grantor
    ) -> Binding:
        """Bind; raises NotFound for an unknown principal, Denied `grant_exceeds_own`, Conflict `binding_exists`."""
        grantor.require_grantable(roles=(role,), permissions=(), workspace_id=workspace_id)
        principal_type = await self._principal_type(principal, workspace_id)
        binding = Binding(
            binding_id=new_id(),
            workspace_id=workspace_id,
            principal_type=principal_type,
            principal_id=principal,
            role=role,
            created_at=self._clock.now(),
            created_by=self._session.scope.actor.id,
        )
        await self.store_binding(binding)
        return binding

    async def store_binding(self, binding: Binding) -> None:
        if not await repository.insert_binding(self._session, binding):
            raise binding_exists()
        await announce_revocation(self._session)
        await self._record("binding.created", binding)

    async def get_binding(self, binding_id: UUID, *, workspace_id: UUID | None) -> Binding:
        binding = await repository.find_binding(self._session, binding_id, workspace_id=workspace_id)
        if binding is None:
            raise binding_not_found()
        return binding

    async def list_bindings(
        self, *, workspace_id: UUID | None, after: UUID | None = None, limit: int = 50
    ) -> list[Binding]:
        """List those of one workspace, or with None those of the whole tenant."""
        return await repository.list_bindings(self._session, workspace_id=workspace_id, after=after, limit=limit)

    async def list_bindings_of(self, principal_id: str) -> list[Binding]:
        return await repository.list_bindings_of(self._session, principal_id)

    async def delete_binding(self, binding_id: UUID, *, workspace_id: UUID | None) -> None:
        """Take a role away, everywhere within a second."""
        binding = await self.get_binding(binding_id, workspace_id=workspace_id)
        await repository.delete_binding(self._session, binding_id)
        await announce_revocation(self._session)
        await self._record("binding.deleted", binding)

    async def _principal_type(self, principal: str, workspace_id: UUID | None) -> str:
        try:
            if principal.startswith(f"{Prefix.USER}_"):
                if await self._identity.find_user(parse_id(Prefix.USER, principal)) is None:
                    raise principal_not_found()
                return PrincipalType.USER.value
            account_id = parse_id(Prefix.SERVICE_ACCOUNT, principal)
        except Invalid:
            raise principal_not_found() from None
        await self._identity.get_service_account(account_id, workspace_id=workspace_id)
        return PrincipalType.SERVICE_ACCOUNT.value

    async def _record(self, action: str, binding: Binding) -> None:
        await self._audit.record(
            action,
            resource_type="binding",
            resource_id=format_id(Prefix.BINDING, binding.binding_id),
            details={"principal": binding.principal_id, "role": binding.role},
        )


class KeyGrantor(Grantor):
    """Judges new keys as well. A key without roles does what its principal is bound to, so its maker must hold that."""

    def __init__(self, access: Access, *, bindings_of: Callable[[str], Awaitable[Iterable[Binding]]]) -> None:
        super().__init__(access)
        self._bindings_of = bindings_of

    async def require_bound_grantable(self, *, principal_id: str, workspace_id: UUID | None) -> None:
        """Raise Denied `grant_exceeds_own`."""
        for binding in await self._bindings_of(principal_id):
            if workspace_id is None or binding.workspace_id in (None, workspace_id):
                held = BUILT_IN_ROLES.get(binding.role, frozenset())
                self.require_held(held, workspace_id or binding.workspace_id)


class OwnerAdmissionByKey:
    """Lets the owner of a new tenant in: a user, bound as `tenant-admin`, with a key for 24 hours.

    Repeated for a tenant that has an owner, it makes a fresh key for that one.
    """

    def __init__(self, *, hasher: KeyHasher, clock: Clock) -> None:
        self._hasher = hasher
        self._clock = clock

    def issue(self, *, tenant_id: UUID, region: str) -> BootstrapKey:
        """Draw a key that opens nothing until its owner is admitted with it."""
        credential = make_credential(region=region, kind=ScopeKind.TENANT, scope_id=tenant_id)
        expires_at = self._clock.now() + BOOTSTRAP_LIFETIME
        return BootstrapKey(format_id(Prefix.KEY, new_id()), credential.text, expires_at)

    async def admit(self, session: TenantSession, *, owner: Owner, key: BootstrapKey | None = None) -> BootstrapKey:
        audit = AuditService(session=session, clock=self._clock)
        identity = IdentityService(session=session, audit=audit, hasher=self._hasher, clock=self._clock)
        access = AccessService(session=session, identity=identity, audit=audit, clock=self._clock)
        now = self._clock.now()
        by = session.scope.actor.id
        owners = [
            binding
            for binding in await access.list_bindings(workspace_id=None)
            if binding.role == _OWNER_ROLE and binding.principal_type == PrincipalType.USER
        ]
        if owners:
            user_id = owners[0].principal_id
        else:
            user = await identity.create_user(email=owner.email, name=owner.name, subject=owner.user_id)
            user_id = format_id(Prefix.USER, user.user_id)
            await access.store_binding(
                Binding(new_id(), None, PrincipalType.USER.value, user_id, _OWNER_ROLE, created_at=now, created_by=by)
            )
        issued = key or self.issue(tenant_id=session.scope.tenant_id, region=session.scope.region)
        credential = read_credential(issued.secret)
        if credential is None:
            raise Fault("bootstrap_key_malformed", "the key of this owner is none", layer="access")
        stored = ApiKey(
            key_id=parse_id(Prefix.KEY, issued.id),
            workspace_id=None,
            principal_type=PrincipalType.USER,
            principal_id=user_id,
            name="bootstrap",
            roles=(_OWNER_ROLE,),
            permissions=(),
            allowed_networks=(),
            status=KeyStatus.ACTIVE,
            created_at=now,
            created_by=by,
            expires_at=issued.expires_at,
            last_used_at=None,
            revoked_at=None,
        )
        await identity.store_key(stored, credential)
        return issued
