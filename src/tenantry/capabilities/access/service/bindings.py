"""Bindings of one tenant, and how the owner of a new tenant gets in."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.errors import (
    binding_exists,
    binding_not_found,
    denies_the_mightier,
    last_admin,
    principal_not_found,
)
from tenantry.capabilities.access.service.decide import (
    Grantor,
    RoleBook,
    compile_access,
    held_in,
    permissions_of,
    spelled_out,
)
from tenantry.capabilities.access.service.owners import OWNER_ROLE, is_owners, owner_left
from tenantry.capabilities.access.service.principals import principal_type_of
from tenantry.capabilities.access.service.rights import in_workspace
from tenantry.capabilities.access.types import Access, Binding, Bound, Condition, Effect, Group, Source
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import AccountService, IdentityService, KeyHasher
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
PRINCIPAL_GROUP: Final = "group"


class AccessService:
    """Roles are bound to principals and groups in a workspace or in the whole tenant, to allow or to deny."""

    def __init__(
        self,
        *,
        session: TenantSession,
        identity: AccountService,
        audit: AuditService,
        clock: Clock,
        whole_tenant: Callable[[], TenantSession] | None = None,
    ) -> None:
        """`whole_tenant` opens a session that is not narrowed to a workspace, for one that is."""
        self._session = session
        self._whole_tenant = whole_tenant
        self._identity = identity
        self._audit = audit
        self._clock = clock

    async def create_binding(
        self,
        *,
        principal: str,
        role: str,
        workspace_id: UUID | None,
        grantor: "KeyGrantor",
        effect: Effect = Effect.ALLOW,
        condition: Condition = Condition(),  # noqa: B008 - it is frozen
    ) -> Binding:
        """Bind; raises NotFound for an unknown principal, Conflict `binding_exists`, Denied `grant_exceeds_own`.

        Who denies holds what is denied, and everything that the principal holds there (Denied `denies_the_mightier`).
        """
        grantor.require_grantable(roles=(role,), permissions=(), workspace_id=workspace_id)
        principal_type = await self._principal_type(principal, workspace_id)
        if effect is Effect.DENY:
            await grantor.require_mightier(principal, workspace_id=workspace_id)
        binding = Binding(
            binding_id=new_id(),
            workspace_id=workspace_id,
            principal_type=principal_type,
            principal_id=principal,
            role=role,
            created_at=self._clock.now(),
            created_by=self._session.scope.actor.id,
            effect=effect,
            condition=condition,
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

    async def list_bound(self, *, workspace_id: UUID, after: str | None = None, limit: int = 50) -> list[Bound]:
        """List who is bound in one workspace, by id."""
        return await repository.list_bound(self._session, workspace_id=workspace_id, after=after, limit=limit)

    async def delete_binding(self, binding_id: UUID, *, workspace_id: UUID | None, grantor: "KeyGrantor") -> None:
        """Take a role away, or lift a denial, everywhere within a second.

        To lift a denial is to give, so who does it must hold what it denies: nobody lifts their own. Raises Conflict
        `last_admin` for the last user who is `tenant-admin`.
        """
        binding = await self.get_binding(binding_id, workspace_id=workspace_id)
        if binding.effect is Effect.DENY:
            grantor.require_held(permissions_of((binding.role,), grantor.book), workspace_id)
        elif is_owners(binding) and binding.principal_type == PrincipalType.USER:
            await self._require_owner(without=lambda owner: owner.binding_id == binding_id)
        await repository.delete_binding(self._session, binding_id)
        await announce_revocation(self._session)
        await self._record("binding.deleted", binding)

    async def require_principal(self, principal: str, *, workspace_id: UUID | None) -> None:
        """Raise NotFound for who is no user, nor a service account of that place."""
        await principal_type_of(self._identity, principal, workspace_id=workspace_id)

    async def require_another_owner(self, principal_id: str) -> None:
        """Raise Conflict `last_admin` for the one active user who is `tenant-admin` of the whole tenant."""
        owners = await repository.list_bindings_of(self._session, [principal_id])
        if any(is_owners(binding) and binding.effect is Effect.ALLOW for binding in owners):
            await self._require_owner(without=lambda binding: binding.principal_id == principal_id)

    async def _require_owner(self, *, without: Callable[[Binding], bool]) -> None:
        if not await owner_left(self._session, self._identity, without=without):
            raise last_admin()

    async def _principal_type(self, principal: str, workspace_id: UUID | None) -> str:
        if not principal.startswith(f"{Prefix.GROUP}_"):
            return await principal_type_of(self._identity, principal, workspace_id=workspace_id)
        group = await self._find_group(principal)
        if group is None or group.workspace_id not in (None, workspace_id):
            raise principal_not_found()
        return PRINCIPAL_GROUP

    async def _find_group(self, principal: str) -> Group | None:
        try:
            group_id = parse_id(Prefix.GROUP, principal)
        except Invalid:
            return None
        if self._whole_tenant is None:
            return await repository.find_group(self._session, group_id)
        async with self._whole_tenant() as session:
            return await repository.find_group(session, group_id)

    async def _record(self, action: str, binding: Binding) -> None:
        denies = {"effect": binding.effect.value} if binding.effect is Effect.DENY else {}
        await self._audit.record(
            action,
            resource_type="binding",
            resource_id=format_id(Prefix.BINDING, binding.binding_id),
            details={"principal": binding.principal_id, "role": binding.role, **denies},
        )


class KeyGrantor(Grantor):
    """Judges what touches others' rights as well: it reads those, from the whole tenant."""

    def __init__(
        self, access: Access, book: RoleBook, *, sources_of: Callable[[str], Awaitable[Iterable[Source]]]
    ) -> None:
        super().__init__(access, book)
        self._sources_of = sources_of

    async def require_bound_grantable(self, *, principal_id: str, workspace_id: UUID | None) -> None:
        """Raise Denied `grant_exceeds_own`: a key without roles does what its principal may, so its maker must too."""
        for source in in_workspace(await self._sources_of(principal_id), workspace_id):
            if source.effect is Effect.ALLOW:
                wanted = spelled_out(source.permissions)
                self.require_held(wanted, source.place, lasting=source.grant_id is None)

    async def require_mightier(self, principal_id: str, *, workspace_id: UUID | None) -> None:
        """Raise Denied `denies_the_mightier` for who holds there, with None anywhere, what the caller does not."""
        theirs = compile_access(await self._sources_of(principal_id))
        places = {workspace_id} if workspace_id is not None else {None, *theirs.named_workspaces}
        missing = {p for place in places for p in held_in(theirs, place) if not self.holds(p, place)}
        if missing:
            raise denies_the_mightier(missing)


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
            if binding.role == OWNER_ROLE and binding.principal_type == PrincipalType.USER
        ]
        if owners:
            user_id = owners[0].principal_id
        else:
            user = await identity.create_user(email=owner.email, name=owner.name, subject=owner.user_id)
            user_id = format_id(Prefix.USER, user.user_id)
            await access.store_binding(
                Binding(new_id(), None, PrincipalType.USER.value, user_id, OWNER_ROLE, created_at=now, created_by=by)
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
            roles=(OWNER_ROLE,),
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
