"""Logins of people, the flows that lead to them, and the secrets they are held by."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from tenantry.capabilities.identity.types.keys import draw_text, split_text
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import parse_suffix, suffix_of


class LoginKind(StrEnum):
    WEB = "web"
    """Held by a cookie of the console."""
    PROGRAM = "program"
    """Held by refresh tokens, used by access tokens."""


class Secret(StrEnum):
    """What a secret is for; the first letters of its scope, so that none passes for another."""

    COOKIE = "lgn"
    REFRESH = "rft"
    STATE = "flw"
    CODE = "otc"


@dataclass(frozen=True, slots=True, repr=False)
class LoginSecret:
    """A secret in the form of a key, `tenantry_<region>_<what><tenant>_…`: scanners and masks know it."""

    text: str
    kind: Secret
    region: str
    tenant_id: UUID


def make_secret(kind: Secret, *, region: str, tenant_id: UUID) -> LoginSecret:
    text = draw_text(region=region, scope=kind.value + suffix_of(tenant_id))
    return LoginSecret(text, kind, region, tenant_id)


def read_secret(text: str, kind: Secret) -> LoginSecret | None:
    """Read a secret of this kind, or None when it is not one."""
    parts = split_text(text)
    if parts is None or not parts[1].startswith(kind.value):
        return None
    try:
        return LoginSecret(text, kind, parts[0], parse_suffix(parts[1].removeprefix(kind.value)))
    except Invalid:
        return None


@dataclass(frozen=True, slots=True)
class Login:
    """That a person came in: `auth_time` as the provider says, `expires_at` moves on with refreshing."""

    login_id: UUID
    user_id: UUID
    provider_id: UUID
    kind: LoginKind
    auth_time: datetime
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_reason: str | None


@dataclass(frozen=True, slots=True)
class LoginFlow:
    """A login under way. State, nonce and PKCE verifier are not in it: they follow from what the browser brings."""

    flow_id: UUID
    provider_id: UUID
    kind: LoginKind
    browser: bytes = field(repr=False)
    redirect: str
    challenge: str | None
    """The program's own PKCE challenge (S256)."""
    client_state: str | None
    ip: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class FlowStart:
    """Where to send the browser, and the secret that ties the flow to it."""

    url: str
    browser: str


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One of a login's: used once, then followed by the next."""

    token_id: UUID
    login_id: UUID
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class TokenPair:
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_at: datetime
