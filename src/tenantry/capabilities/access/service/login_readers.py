"""Reads what logins are held by: access tokens of programs, cookies of the console."""

from datetime import datetime

from tenantry.capabilities.access.service.identification import Identified, Presented
from tenantry.capabilities.identity.errors import credential_refused
from tenantry.capabilities.identity.service import AccessTokens, IdentityService, looks_like_token
from tenantry.capabilities.identity.types import (
    Credential,
    Login,
    LoginKind,
    PrincipalType,
    ScopeKind,
    Secret,
    read_secret,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor, ActorType

COOKIE = "cookie"


class LoginReader:
    """A token is verified before anything is asked; then, as for a cookie, the login's row says whether it holds."""

    def __init__(self, *, tokens: AccessTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def read(self, presented: Presented) -> Credential | None:
        if presented.kind == COOKIE:
            cookie = read_secret(presented.text, Secret.COOKIE)
            if cookie is None:
                raise credential_refused()
            return Credential(cookie.text, cookie.region, ScopeKind.TENANT, cookie.tenant_id)
        if presented.kind != "bearer" or not looks_like_token(presented.text):
            return None
        token = self._tokens.read(presented.text, now=self._clock.now())
        if token is None:
            raise credential_refused()
        return Credential(presented.text, token.region, ScopeKind.TENANT, token.tenant_id)

    async def identify(self, identity: IdentityService, credential: Credential) -> Identified:
        if looks_like_token(credential.text):
            token = self._tokens.read(credential.text, now=self._clock.now())
            login = await identity.logins.find(token.login_id) if token else None
            if token is None or login is None or login.user_id != token.user_id or login.kind is not LoginKind.PROGRAM:
                raise credential_refused()
            return identified_login(login, expires_at=min(login.expires_at, token.expires_at))
        cookie = read_secret(credential.text, Secret.COOKIE)
        login = await identity.logins.find_of_cookie(cookie) if cookie else None
        if login is None or login.kind is not LoginKind.WEB:
            raise credential_refused()
        return identified_login(login, expires_at=login.expires_at)


def identified_login(login: Login, *, expires_at: datetime) -> Identified:
    """Tell of a login, whoever has found it and how."""
    user = format_id(Prefix.USER, login.user_id)
    return Identified(
        resource_type="login",
        credential_id=format_id(Prefix.LOGIN, login.login_id),
        actor=Actor(ActorType.USER, user),
        principal_type=PrincipalType.USER,
        principal_id=user,
        login=login,
        expires_at=expires_at,
        fault="login_revoked" if login.revoked_at is not None else None,
    )
