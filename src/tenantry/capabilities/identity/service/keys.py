"""API keys of one tenant."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity import repository
from tenantry.capabilities.identity.errors import (
    delegated_for_another,
    key_not_active,
    key_not_found,
    network_too_wide,
    rotation_beyond_delegation,
)
from tenantry.capabilities.identity.ports import KeyScopes
from tenantry.capabilities.identity.repository.logins import touch_logins
from tenantry.capabilities.identity.service.accounts import AccountService
from tenantry.capabilities.identity.service.certificates import CertificateService
from tenantry.capabilities.identity.service.hashing import KeyHasher
from tenantry.capabilities.identity.service.lifetimes import end_of_credential
from tenantry.capabilities.identity.service.logins import LoginService
from tenantry.capabilities.identity.service.signing_keys import SigningKeyService
from tenantry.capabilities.identity.types import (
    ApiKey,
    Credential,
    KeyStatus,
    PrincipalType,
    ScopeKind,
    ServiceAccount,
    make_credential,
)
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id
from tenantry.foundation.scope import Actor, ActorType
from tenantry.foundation.settings import IdentitySettings

_SCHEME: Final = "hmac-sha256"
_DEFAULTS: Final = IdentitySettings()


@dataclass(frozen=True, slots=True)
class NewKey:
    """`service_account_id` None: the key acts for whoever creates it. `expires_at` None: as long as keys usually do.

    `delegated`: for an agent, which may never do more than whoever creates the key.
    """

    name: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...] = ()
    workspace_id: UUID | None = None
    service_account_id: UUID | None = None
    expires_at: datetime | None = None
    allowed_networks: tuple[str, ...] = ()
    delegated: bool = False


class IdentityService(AccountService):
    """Users, service accounts and keys, in the session's tenant."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        hasher: KeyHasher,
        clock: Clock,
        settings: IdentitySettings = _DEFAULTS,
    ) -> None:
        super().__init__(session=session, audit=audit, clock=clock)
        self._hasher = hasher
        self._settings = settings

    @property
    def certificates(self) -> CertificateService:
        return CertificateService(
            session=self._session, audit=self._audit, accounts=self, registrable=self._registrable, clock=self._clock
        )

    @property
    def signing_keys(self) -> SigningKeyService:
        return SigningKeyService(
            session=self._session,
            audit=self._audit,
            accounts=self,
            registrable=self._registrable,
            clock=self._clock,
            settings=self._settings,
        )

    @property
    def logins(self) -> LoginService:
        return LoginService(session=self._session, audit=self._audit, hasher=self._hasher, clock=self._clock)

    async def create_key(self, new: NewKey, *, scopes: KeyScopes) -> tuple[ApiKey, str]:
        """Make a key; gives it and its secret text, which nobody can read again.

        Without roles and permissions it may do what its principal is bound to, now and later. What a delegated key
        makes is delegated too, as a part of it, and ends with it at the latest.
        Raises Invalid `expiry_past`, `expiry_too_far`, `role_unknown`; Denied `grant_exceeds_own`; NotFound for a
        service account of another workspace.
        """
        now = self._clock.now()
        expires_at = end_of_credential(new.expires_at, now=now, settings=self._settings)
        scopes.require_grantable(roles=new.roles, permissions=new.permissions, workspace_id=new.workspace_id)
        actor = self._session.scope.actor
        principal_type, principal_id = _principal_of(actor.chain[-1] if actor.chain else actor.id)
        if new.service_account_id is not None:
            account = await self.get_service_account(new.service_account_id, workspace_id=new.workspace_id)
            principal_type = PrincipalType.SERVICE_ACCOUNT
            principal_id = format_id(Prefix.SERVICE_ACCOUNT, account.service_account_id)
        if not new.roles and not new.permissions:
            await scopes.require_bound_grantable(principal_id=principal_id, workspace_id=new.workspace_id)
        parent = await self._maker(actor)
        delegated = new.delegated or (parent is not None and parent.delegated)
        if delegated and new.service_account_id is not None:
            raise delegated_for_another()
        key = ApiKey(
            key_id=new_id(),
            workspace_id=new.workspace_id,
            principal_type=principal_type,
            principal_id=principal_id,
            name=new.name,
            roles=new.roles,
            permissions=new.permissions,
            allowed_networks=_narrowed(new.allowed_networks, parent) if delegated and parent else new.allowed_networks,
            status=KeyStatus.ACTIVE,
            created_at=now,
            created_by=actor.id,
            expires_at=_soonest(expires_at, parent.ends_at if delegated and parent else None),
            last_used_at=None,
            revoked_at=None,
            delegated=delegated,
            parent_id=parent.key_id if delegated and parent else None,
        )
        return key, await self._issue(key)

    async def rotate_key(
        self, key_id: UUID, *, workspace_id: UUID | None, grace: timedelta, scopes: KeyScopes
    ) -> tuple[ApiKey, str]:
        """Replace a key by one that may do the same, for as long again; gives the new one and its secret text.

        The old one goes on for the grace, or until it expires, and is refused then. Raises Conflict `key_not_active`
        for one that was replaced already, has expired or was revoked; Denied `grant_exceeds_own`,
        `rotation_beyond_delegation`.
        """
        now = self._clock.now()
        old = await self.get_key(key_id, workspace_id=workspace_id)
        scopes.require_grantable(roles=old.roles, permissions=old.permissions, workspace_id=workspace_id)
        if not old.roles and not old.permissions:
            await scopes.require_bound_grantable(principal_id=old.principal_id, workspace_id=workspace_id)
        maker = await self._maker(self._session.scope.actor)
        if maker is not None and maker.delegated and maker.key_id not in (old.key_id, old.parent_id):
            raise rotation_beyond_delegation()
        if old.expires_at is not None and old.expires_at <= now:
            raise key_not_active("expired")
        if not await repository.begin_grace(self._session, key_id, until=now + grace):
            raise key_not_active((await self.get_key(key_id, workspace_id=workspace_id)).status)
        lifetime = old.expires_at - old.created_at if old.expires_at else timedelta(days=self._settings.key_days)
        parent = await self.find_key(old.parent_id) if old.parent_id else None
        ends_at = now + min(lifetime, timedelta(days=self._settings.max_key_days))
        new = replace(
            old,
            key_id=new_id(),
            created_at=now,
            created_by=self._session.scope.actor.id,
            expires_at=_soonest(ends_at, parent.ends_at if parent else None),
            last_used_at=None,
            rotated_from=key_id,
        )
        secret = await self._issue(new)
        # What was cached of the old one knows no end of it.
        await announce_revocation(self._session)
        await self._audit.record(
            "key.rotated",
            resource_type="key",
            resource_id=format_id(Prefix.KEY, key_id),
            details={
                "successor": format_id(Prefix.KEY, new.key_id),
                "grace_until": (now + grace).isoformat(timespec="seconds"),
            },
        )
        return new, secret

    async def _issue(self, key: ApiKey) -> str:
        """Draw a secret for a key, store the key, give the text."""
        kind = ScopeKind.WORKSPACE if key.workspace_id else ScopeKind.TENANT
        credential = make_credential(
            region=self._session.scope.region, kind=kind, scope_id=key.workspace_id or self._session.scope.tenant_id
        )
        await self.store_key(key, credential)
        return credential.text

    async def _registrable(self, account_id: UUID, /, *, workspace_id: UUID, scopes: KeyScopes) -> ServiceAccount:
        """Give a service account whose rights the caller holds: whoever proves to be it has all of them."""
        account = await self.get_service_account(account_id, workspace_id=workspace_id)
        maker = await self._maker(self._session.scope.actor)
        if maker is not None and maker.delegated:
            raise delegated_for_another()
        name = format_id(Prefix.SERVICE_ACCOUNT, account.service_account_id)
        await scopes.require_bound_grantable(principal_id=name, workspace_id=workspace_id)
        return account

    async def _maker(self, actor: Actor) -> ApiKey | None:
        """Find the key that the actor comes with, if it is one."""
        if actor.type is not ActorType.API_KEY:
            return None
        return await repository.find_key_anywhere(self._session, parse_id(Prefix.KEY, actor.id))

    async def find_key(self, key_id: UUID) -> ApiKey | None:
        """Find a key of whichever workspace, in whatever state."""
        key = await repository.find_key_anywhere(self._session, key_id)
        return key.as_of(self._clock.now()) if key else None

    async def store_key(self, key: ApiKey, credential: Credential) -> None:
        """Store a key whose text was drawn by the caller: `create_key`, the bootstrap of a tenant, the first start."""
        await repository.insert_key(
            self._session,
            key,
            lookup=self._hasher.lookup(credential.text),
            scheme=_SCHEME,
            verifier=self._hasher.verifier(credential.text),
        )
        await self._audit.record(
            "key.created",
            resource_type="key",
            resource_id=format_id(Prefix.KEY, key.key_id),
            details={"roles": list(key.roles), "principal": key.principal_id},
        )

    async def get_key(self, key_id: UUID, *, workspace_id: UUID | None) -> ApiKey:
        key = await repository.find_key(self._session, key_id, workspace_id=workspace_id)
        if key is None:
            raise key_not_found()
        return key.as_of(self._clock.now())

    async def list_keys(self, *, workspace_id: UUID | None, after: UUID | None = None, limit: int = 50) -> list[ApiKey]:
        """List the keys of one workspace, or with None those of the tenant itself."""
        found = await repository.list_keys(self._session, workspace_id=workspace_id, after=after, limit=limit)
        return [key.as_of(self._clock.now()) for key in found]

    async def revoke_key(self, key_id: UUID, *, workspace_id: UUID | None) -> ApiKey:
        """Revoke for good, everywhere within a second. Revoking twice changes nothing."""
        await self.get_key(key_id, workspace_id=workspace_id)
        await repository.revoke_key(self._session, key_id, now=self._clock.now())
        await announce_revocation(self._session)
        await self._audit.record("key.revoked", resource_type="key", resource_id=format_id(Prefix.KEY, key_id))
        return await self.get_key(key_id, workspace_id=workspace_id)

    async def find_key_of(self, credential: Credential) -> ApiKey | None:
        """Find the key of a text, in whatever state; None when there is none or its secret is wrong."""
        found = await repository.find_key_by_lookup(self._session, self._hasher.lookup(credential.text))
        if found is None:
            return None
        key, verifier = found
        return key.as_of(self._clock.now()) if self._hasher.matches(credential.text, verifier) else None

    async def note_uses(self, used: dict[str, datetime]) -> None:
        """Note when credentials were last used, by their ids: one statement for each kind."""
        kinds = (
            (Prefix.KEY, repository.touch_keys),
            (Prefix.CERTIFICATE, repository.touch_certificates),
            (Prefix.SIGNING_KEY, repository.touch_signing_keys),
            (Prefix.LOGIN, touch_logins),
        )
        for prefix, touch in kinds:
            of_kind = {parse_id(prefix, name): at for name, at in used.items() if name.startswith(f"{prefix.value}_")}
            if of_kind:
                await touch(self._session, of_kind)


def _principal_of(principal_id: str) -> tuple[PrincipalType, str]:
    prefix = principal_id.partition("_")[0]
    known = {Prefix.USER: PrincipalType.USER, Prefix.SERVICE_ACCOUNT: PrincipalType.SERVICE_ACCOUNT}
    return known.get(Prefix(prefix) if prefix in set(Prefix) else Prefix.KEY, PrincipalType.SYSTEM), principal_id


def _narrowed(networks: tuple[str, ...], parent: ApiKey) -> tuple[str, ...]:
    """Keep a delegated key inside its parent's networks; raises Invalid `network_too_wide`."""
    if not parent.allowed_networks:
        return networks
    allowed = [ip_network(network) for network in parent.allowed_networks]
    for network in map(ip_network, networks):
        if not any(one.version == network.version and network.subnet_of(one) for one in allowed):  # type: ignore[arg-type]
            raise network_too_wide(str(network))
    return networks or parent.allowed_networks


def _soonest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
