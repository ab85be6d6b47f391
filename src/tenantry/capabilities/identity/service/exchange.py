"""Tokens of programs: a one-time code for the first pair, and each refresh token for the next.

A code or refresh token that comes a second time was stolen from somebody, the thief or the owner: the login and with it
every token of its family ends. There is no grace: a client that loses an answer logs in again.
"""

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity import repository
from tenantry.capabilities.identity.errors import credential_refused
from tenantry.capabilities.identity.repository import logins as rows
from tenantry.capabilities.identity.service.access_tokens import AccessTokens
from tenantry.capabilities.identity.service.hashing import KeyHasher
from tenantry.capabilities.identity.service.logins import LoginService
from tenantry.capabilities.identity.types import (
    Login,
    LoginKind,
    LoginSecret,
    PrincipalStatus,
    RefreshToken,
    Secret,
    TokenPair,
    make_secret,
    read_secret,
)
from tenantry.capabilities.tenants.service import Directory, candidate_scope
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import Actor, ActorType, TenantScope
from tenantry.foundation.settings import IdentitySettings

LONGEST_LOGIN: Final = timedelta(days=30)
"""Of a program: then the person logs in again, and what the provider says of them counts anew."""


class TokenDesk:
    """Gives tokens; one for each process. Unknown, wrong, used and expired read the same."""

    def __init__(
        self,
        *,
        cells: Cells,
        directory: Directory,
        hasher: KeyHasher,
        tokens: AccessTokens,
        settings: IdentitySettings,
        clock: Clock,
    ) -> None:
        self._cells = cells
        self._directory = directory
        self._hasher = hasher
        self._tokens = tokens
        self._settings = settings
        self._clock = clock

    async def exchange(self, code: str, *, verifier: str, ip: str | None) -> TokenPair:
        """Give the first tokens of a login to the program that began it; raises Unauthenticated."""
        scope = await self._scope_of(read_secret(code, Secret.CODE), ip=ip)
        digest = self._hasher.verifier(code)
        # As a key does, it tells of a suspension to its holder alone.
        async with self._cells.session(scope, lifecycle=True) as session:
            login_id = await rows.find_login_of_code(session, code=digest)
            scope = await self._in_their_name(session, scope, login_id)
        async with self._cells.session(scope) as session:
            now = self._clock.now()
            used = await rows.use_code(session, code=digest, now=now)
            if used is None:
                raise credential_refused()
            flow, login_id, used_before = used
            login = await rows.lock_login(session, login_id)
            fault = "code_reused" if used_before else None
            if not hmac.compare_digest(challenge_of(verifier), flow.challenge or ""):
                fault = fault or "verifier_wrong"
            if login is None or fault is not None:
                raise await self._ended(session, login_id, fault or "code_unknown")
            if not _holds(login, now):
                raise credential_refused()
            return await self._next_pair(session, login, now=now)

    async def refresh(self, token: str, *, ip: str | None) -> TokenPair:
        """Give the next pair for a refresh token, which is used up; raises Unauthenticated."""
        scope = await self._scope_of(read_secret(token, Secret.REFRESH), ip=ip)
        lookup = self._hasher.lookup(token)
        async with self._cells.session(scope, lifecycle=True) as session:
            found = await rows.lock_refresh_token(session, lookup)
            scope = await self._in_their_name(session, scope, found[0].login_id if found else None)
        async with self._cells.session(scope) as session:
            now = self._clock.now()
            found = await rows.lock_refresh_token(session, lookup)
            if found is None or not self._hasher.matches(token, found[1]):
                raise credential_refused()
            present = found[0]
            login = await rows.lock_login(session, present.login_id)
            if login is None or not _holds(login, now) or present.expires_at <= now:
                raise credential_refused()
            if present.used_at is not None:
                raise await self._ended(session, present.login_id, "refresh_reused")
            await rows.use_refresh_token(session, present.token_id, now=now)
            return await self._next_pair(session, login, now=now)

    async def _scope_of(self, secret: LoginSecret | None, *, ip: str | None) -> TenantScope:
        if secret is None:
            raise credential_refused()
        return candidate_scope(await self._directory.find(secret.tenant_id), region=secret.region, ip=ip)

    async def _in_their_name(self, session: TenantSession, scope: TenantScope, login_id: UUID | None) -> TenantScope:
        login = await rows.find_login(session, login_id) if login_id else None
        user = await repository.find_user(session, login.user_id) if login else None
        if user is None or user.status is not PrincipalStatus.ACTIVE:
            raise credential_refused()
        return replace(scope, actor=Actor(ActorType.USER, format_id(Prefix.USER, user.user_id)))

    async def _ended(self, session: TenantSession, login_id: UUID, reason: str) -> Exception:
        """End the login in a commit of its own; gives what to raise."""
        audit = AuditService(session=session, clock=self._clock)
        logins = LoginService(session=session, audit=audit, hasher=self._hasher, clock=self._clock)
        await logins.end(login_id, reason=reason)
        await session.commit()
        return credential_refused()

    async def _next_pair(self, session: TenantSession, login: Login, *, now: datetime) -> TokenPair:
        scope = session.scope
        until = min(now + timedelta(days=self._settings.refresh_days), login.created_at + LONGEST_LOGIN)
        secret = make_secret(Secret.REFRESH, region=scope.region, tenant_id=scope.tenant_id).text
        token = RefreshToken(token_id=new_id(), login_id=login.login_id, created_at=now, expires_at=until, used_at=None)
        await rows.delete_old_refresh_tokens(session, login.login_id, now=now)
        await rows.insert_refresh_token(
            session, token, lookup=self._hasher.lookup(secret), verifier=self._hasher.verifier(secret)
        )
        await rows.extend_login(session, login.login_id, now=now, expires_at=until)
        await AuditService(session=session, clock=self._clock).record(
            "login.refreshed", resource_type="login", resource_id=format_id(Prefix.LOGIN, login.login_id)
        )
        access, seconds = self._tokens.issue(
            replace(login, expires_at=until), tenant_id=scope.tenant_id, region=scope.region, now=now
        )
        return TokenPair(access, seconds, secret, until)


def _holds(login: Login, now: datetime) -> bool:
    return login.kind is LoginKind.PROGRAM and login.revoked_at is None and now < login.expires_at


def challenge_of(verifier: str) -> str:
    """Make the S256 challenge of a verifier (RFC 7636 §4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
