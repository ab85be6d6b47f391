"""Identity providers of one tenant, and who may configure them: whoever holds what they give."""

import re
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.errors import (
    issuer_invalid,
    provider_not_found,
    provider_taken,
    redirect_refused,
    version_mismatch,
)
from tenantry.capabilities.identity.ports import KeyScopes, Memberships
from tenantry.capabilities.identity.repository import providers as rows
from tenantry.capabilities.identity.service.logins import LoginService
from tenantry.capabilities.identity.types import ClaimRule, IdentityProvider, ProviderStatus
from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id

_ALL_INVITED: Final = "tenant-admin"
"""What an invitation may give at most: whose word counts for addresses can be given it."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
# A private scheme is a domain in reverse (RFC 8252 §7.1), so it holds a dot; `javascript:` and its like do not.
_REDIRECT: Final = re.compile(r"(https://[a-z0-9.-]+(:\d{1,5})?/|[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+:/)[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class NewProvider:
    slug: str
    name: str
    issuer: str
    client_id: str
    client_secret: str | None
    scopes: tuple[str, ...]
    rules: tuple[ClaimRule, ...]
    redirects: tuple[str, ...]
    accepts_invitations: bool


class ProviderService:
    """Identity providers in the session's tenant. `keyset` is the tenant's, for client secrets."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        logins: LoginService,
        memberships: Memberships,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._logins = logins
        self._memberships = memberships
        self._clock = clock

    async def create(self, new: NewProvider, *, scopes: KeyScopes, keyset: Keyset) -> IdentityProvider:
        """Make a provider; raises Conflict `provider_taken`, Denied `grant_exceeds_own`, Invalid."""
        _require_grantable(new.rules, scopes, accepts_invitations=new.accepts_invitations)
        _require_redirects(new.redirects)
        provider_id = new_id()
        provider = IdentityProvider(
            provider_id=provider_id,
            slug=new.slug,
            name=new.name,
            issuer=new.issuer,
            client_id=new.client_id,
            sealed_secret=self._sealed(new.client_secret, provider_id, keyset),
            scopes=new.scopes,
            rules=new.rules,
            redirects=new.redirects,
            accepts_invitations=new.accepts_invitations,
            status=ProviderStatus.ACTIVE,
            version=1,
            created_at=self._clock.now(),
            created_by=self._session.scope.actor.id,
        )
        if not await rows.insert_provider(self._session, provider):
            raise provider_taken(new.slug)
        await self._record("identity_provider.created", provider, {"issuer": provider.issuer})
        return provider

    async def update(
        self,
        provider_id: UUID,
        changes: dict[str, Any],
        *,
        if_version: int | None,
        scopes: KeyScopes,
        keyset: Keyset,
    ) -> IdentityProvider:
        """Change the named fields; disabling it ends all logins that came by it.

        Who changes anything of a provider must hold all that it gives, before and after.
        """
        provider = await rows.lock_provider(self._session, provider_id)
        if provider is None:
            raise provider_not_found()
        if if_version not in (None, provider.version):
            raise version_mismatch(provider.version)
        fields = dict(changes)
        if "client_secret" in fields:
            fields["sealed_secret"] = self._sealed(fields.pop("client_secret"), provider_id, keyset)
        changed = replace(provider, **fields)
        for each in (provider, changed):
            _require_grantable(each.rules, scopes, accepts_invitations=each.accepts_invitations)
        _require_redirects(changed.redirects)
        await rows.update_provider(self._session, changed)
        if changed.status is ProviderStatus.DISABLED:
            await self._logins.end_all_by(provider_id, reason="provider_disabled")
        await self._record("identity_provider.updated", provider, {"fields": sorted(changes)})
        return await self.get(provider_id)

    async def delete(self, provider_id: UUID) -> None:
        """Remove a provider, end its logins and take away all that its rules gave."""
        provider = await self.get(provider_id)
        await self._logins.end_all_by(provider_id, reason="provider_deleted")
        await self._memberships.withdraw(source=format_id(Prefix.PROVIDER, provider_id))
        await rows.delete_provider(self._session, provider_id)
        await self._record("identity_provider.deleted", provider, {})

    async def get(self, provider_id: UUID) -> IdentityProvider:
        provider = await rows.find_provider(self._session, provider_id)
        if provider is None:
            raise provider_not_found()
        return provider

    async def list_providers(self, *, after: UUID | None = None, limit: int = 50) -> list[IdentityProvider]:
        return await rows.list_providers(self._session, after=after, limit=limit)

    def _sealed(self, secret: str | None, provider_id: UUID, keyset: Keyset) -> bytes | None:
        if secret is None:
            return None
        return keyset.seal(secret.encode(), secret_place(self._session.scope.tenant_id, provider_id))

    async def _record(self, action: str, provider: IdentityProvider, details: dict[str, Any]) -> None:
        await self._audit.record(
            action,
            resource_type="identity_provider",
            resource_id=format_id(Prefix.PROVIDER, provider.provider_id),
            details={"slug": provider.slug, **details},
        )


def secret_place(tenant_id: UUID, provider_id: UUID) -> bytes:
    """Name what a client secret is sealed for: put beside another provider, it does not open."""
    return b"identity-provider/" + tenant_id.bytes + provider_id.bytes


def checked_issuer(text: str, *, allow_private: bool) -> str:
    """Check how an issuer is written (OpenID Connect Discovery 1.0 §3); raises Invalid `issuer_invalid`."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise issuer_invalid("is not a URL") from None
    on_loopback = parts.scheme == "http" and host in _LOOPBACK and allow_private
    if parts.scheme != "https" and not on_loopback:
        raise issuer_invalid("must begin with https://")
    if not host or "@" in parts.netloc or "?" in text or "#" in text or port == 0:
        raise issuer_invalid("must be a URL without user, query or fragment")
    if not re.fullmatch(r"[\x21-\x7e]{1,400}", text) or "\\" in text:
        raise issuer_invalid("must be printable ASCII, 400 characters at most")
    return text


def _require_grantable(rules: tuple[ClaimRule, ...], scopes: KeyScopes, *, accepts_invitations: bool) -> None:
    for rule in rules:
        scopes.require_grantable(roles=(rule.role,), permissions=(), workspace_id=rule.workspace_id)
    if accepts_invitations:
        # Whoever runs the issuer decides whose address is verified, and so who takes up what others have offered.
        scopes.require_grantable(roles=(_ALL_INVITED,), permissions=(), workspace_id=None)


def _require_redirects(redirects: tuple[str, ...]) -> None:
    if not all(_REDIRECT.fullmatch(each) and "#" not in each and "\\" not in each for each in redirects):
        raise redirect_refused()
