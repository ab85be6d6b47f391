"""Users, service accounts, API keys and the text of a key."""

import secrets
import zlib
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, parse_suffix, suffix_of

LOCAL_ISSUER: Final = "tenantry"
"""Issuer of users that no identity provider vouches for: a tenant's owner, until one is configured."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH: Final = 32
_CHECKSUM_LENGTH: Final = 6
_MAX_KEY_LENGTH: Final = 128


class PrincipalStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class PrincipalType(StrEnum):
    USER = "user"
    SERVICE_ACCOUNT = "service_account"
    SYSTEM = "system"
    """The installation itself, for the platform key of the first start."""


class KeyStatus(StrEnum):
    ACTIVE = "active"
    GRACE = "grace"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class User:
    user_id: UUID
    issuer: str
    subject: str
    email: str
    name: str
    status: PrincipalStatus
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    service_account_id: UUID
    workspace_id: UUID
    name: str
    status: PrincipalStatus
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. `workspace_id` None: a key of the whole tenant.

    `delegated`: it was made for an agent, and is a part of `parent_id`, the key it was made with, or with None of its
    principal: it may do what both may, at any moment.
    """

    key_id: UUID
    workspace_id: UUID | None
    principal_type: PrincipalType
    principal_id: str
    name: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    allowed_networks: tuple[str, ...]
    status: KeyStatus
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    delegated: bool = False
    parent_id: UUID | None = None
    rotated_from: UUID | None = None
    """The key this one replaces."""
    grace_until: datetime | None = None
    """Of a key that was replaced: when it ends, unless it expires before."""

    @property
    def ends_at(self) -> datetime | None:
        """The moment from which the key is refused, None while only a revocation would end it."""
        return min((at for at in (self.expires_at, self.grace_until) if at is not None), default=None)

    def as_of(self, now: datetime) -> "ApiKey":
        """Tell its state by the clock: a grace that is over needs nobody to end it."""
        over = self.status is KeyStatus.GRACE and self.grace_until is not None and self.grace_until <= now
        return replace(self, status=KeyStatus.RETIRED) if over else self


class ProofStatus(StrEnum):
    """Of what a service account proves itself by, besides keys."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`fingerprint` is the SHA-256 of the certificate, DER."""

    certificate_id: UUID
    workspace_id: UUID
    service_account_id: UUID
    fingerprint: bytes
    subject: str
    not_before: datetime
    not_after: datetime
    status: ProofStatus
    created_at: datetime
    created_by: str
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The public half of a key that signs requests; 32 bytes."""

    signing_key_id: UUID
    workspace_id: UUID
    service_account_id: UUID
    public_key: bytes
    status: ProofStatus
    created_at: datetime
    created_by: str
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def keyid(self, region: str) -> str:
        """Write how a signature names it: region and scope stand in it, as in an API key."""
        scope = f"{ScopeKind.WORKSPACE.value}{suffix_of(self.workspace_id)}"
        return f"tenantry_{region}_{scope}_{Prefix.SIGNING_KEY.value}{suffix_of(self.signing_key_id)}"


class ScopeKind(StrEnum):
    WORKSPACE = "ws"
    TENANT = "ten"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """The text of a key, read: `tenantry_<region>_<scope>_<32 base62>_<6 checksum>`."""

    text: str
    region: str
    kind: ScopeKind
    scope_id: UUID | None


def read_keyid(text: str) -> tuple[Credential, UUID] | None:
    """Read how a signature names its key: the candidate and the key's id, or None for what is no such name."""
    parts = text.split("_")
    if len(parts) != 4 or parts[0] != "tenantry" or len(text) > _MAX_KEY_LENGTH:  # noqa: PLR2004 - the format above
        return None
    _, region, scope, name = parts
    if not scope.startswith(ScopeKind.WORKSPACE.value) or not name.startswith(Prefix.SIGNING_KEY.value):
        return None
    try:
        scope_id = parse_suffix(scope.removeprefix(ScopeKind.WORKSPACE.value))
        signing_key_id = parse_suffix(name.removeprefix(Prefix.SIGNING_KEY.value))
    except Invalid:
        return None
    return Credential(text=text, region=region, kind=ScopeKind.WORKSPACE, scope_id=scope_id), signing_key_id


def draw_text(*, region: str, scope: str) -> str:
    """Draw a new secret in the form of a key: 32 base62 characters, 190 bits."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    body = f"tenantry_{region}_{scope}_{secret}"
    return f"{body}_{checksum(body)}"


def split_text(text: str) -> tuple[str, str] | None:
    """Read region and scope of a secret in the form of a key, or None when it has another form."""
    if len(text) > _MAX_KEY_LENGTH or not text.isascii():
        return None
    body, _, check = text.rpartition("_")
    parts = body.split("_")
    if len(parts) != 4 or parts[0] != "tenantry" or check != checksum(body):  # noqa: PLR2004 - the format above
        return None
    return parts[1], parts[2]


def make_credential(*, region: str, kind: ScopeKind, scope_id: UUID | None) -> Credential:
    """Draw a new key."""
    scope = kind.value + (suffix_of(scope_id) if scope_id else "")
    return Credential(text=draw_text(region=region, scope=scope), region=region, kind=kind, scope_id=scope_id)


def read_credential(text: str) -> Credential | None:
    """Read a key, or None when it is not one; the checksum spares a look-up for a typo, it protects nothing."""
    if (parts := split_text(text)) is None:
        return None
    region, scope = parts
    try:
        if scope == ScopeKind.PLATFORM:
            return Credential(text=text, region=region, kind=ScopeKind.PLATFORM, scope_id=None)
        for kind in (ScopeKind.TENANT, ScopeKind.WORKSPACE):
            if scope.startswith(kind.value):
                scope_id = parse_suffix(scope.removeprefix(kind.value))
                return Credential(text=text, region=region, kind=kind, scope_id=scope_id)
    except Invalid:
        return None
    return None


def checksum(body: str) -> str:
    """CRC-32 in six base62 characters."""
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
