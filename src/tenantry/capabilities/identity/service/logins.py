"""Logins of one tenant: who is in, and how they end."""

from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.errors import login_not_found
from tenantry.capabilities.identity.repository import logins as rows
from tenantry.capabilities.identity.service.hashing import KeyHasher
from tenantry.capabilities.identity.types import Login, LoginSecret
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


class LoginService:
    """Logins in the session's tenant."""

    def __init__(self, *, session: TenantSession, audit: AuditService, hasher: KeyHasher, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._hasher = hasher
        self._clock = clock

    async def find(self, login_id: UUID) -> Login | None:
        """Find a login in whatever state."""
        return await rows.find_login(self._session, login_id)

    async def find_of_cookie(self, cookie: LoginSecret) -> Login | None:
        """Find the login of a cookie, in whatever state; None when there is none or its secret is wrong."""
        found = await rows.find_login_by_lookup(self._session, self._hasher.lookup(cookie.text))
        if found is None:
            return None
        login, verifier = found
        return login if self._hasher.matches(cookie.text, verifier) else None

    async def list_of(self, user_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[Login]:
        """List those of a user that still hold."""
        return await rows.list_logins(self._session, user_id=user_id, now=self._clock.now(), after=after, limit=limit)

    async def get_of(self, user_id: UUID, login_id: UUID) -> Login:
        login = await rows.find_login(self._session, login_id)
        if login is None or login.user_id != user_id:
            raise login_not_found()
        return login

    async def end(self, login_id: UUID, *, reason: str) -> None:
        """End a login everywhere within a second; ending it twice changes nothing."""
        await self._ended(
            await rows.revoke_logins(self._session, now=self._clock.now(), reason=reason, login_id=login_id), reason
        )

    async def end_all_of(self, user_id: UUID, *, reason: str) -> int:
        """End all logins of a user; tells how many there were."""
        ended = await rows.revoke_logins(self._session, now=self._clock.now(), reason=reason, user_id=user_id)
        await self._ended(ended, reason)
        return len(ended)

    async def end_all_by(self, provider_id: UUID, *, reason: str) -> None:
        """End all logins that came by a provider."""
        ended = await rows.revoke_logins(self._session, now=self._clock.now(), reason=reason, provider_id=provider_id)
        await self._ended(ended, reason)

    async def _ended(self, ended: list[UUID], reason: str) -> None:
        if not ended:
            return
        await announce_revocation(self._session)
        for login_id in ended:
            await self._audit.record(
                "login.revoked", resource_type="login", resource_id=format_id(Prefix.LOGIN, login_id), reason=reason
            )
