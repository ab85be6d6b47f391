"""Identity providers, what their claims give, and invitations."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class ProviderStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class Match(StrEnum):
    EQUALS = "equals"
    """The claim is this text, number or truth value."""
    CONTAINS = "contains"
    """The claim is a list, and this is one of its texts; never a part of a text."""
    MATCHES_DOMAIN = "matches_domain"
    """The claim is an address at this domain, or the domain itself; case does not count."""


@dataclass(frozen=True, slots=True)
class GivenRole:
    """A role that claims or an invitation give; `workspace_id` None: in the whole tenant."""

    role: str
    workspace_id: UUID | None


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """Whoever has this claim gets this role. `claim` is a name, or a path of names by dots."""

    claim: str
    match: Match
    value: str
    role: str
    workspace_id: UUID | None


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One OpenID Provider of a tenant. `redirects` are where programs may be sent besides loopback."""

    provider_id: UUID
    slug: str
    name: str
    issuer: str
    client_id: str
    sealed_secret: bytes | None = field(repr=False)
    """The client secret, sealed under the tenant's keys; None for a public client."""
    scopes: tuple[str, ...]
    rules: tuple[ClaimRule, ...]
    redirects: tuple[str, ...]
    accepts_invitations: bool
    """Whether an address that it says is verified may take up invitations."""
    status: ProviderStatus
    version: int
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class IssuerMetadata:
    """What of an issuer's discovery document is used (OpenID Connect Discovery 1.0 §3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    posts_secret: bool
    """Whether the token endpoint takes the client secret in the body only."""
    names_itself: bool
    """Whether its authorization responses carry `iss` (RFC 9207)."""


@dataclass(frozen=True, slots=True, repr=False)
class Redemption:
    """What an authorization code was exchanged for."""

    id_token: str
    access_token: str


class InvitationStatus(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REVOKED = "revoked"
    EXPIRED = "expired"
    """Of one whose time is over; nothing has to note it."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """Whoever logs in with this verified address gets the role, once. `workspace_id` None: in the whole tenant."""

    invitation_id: UUID
    workspace_id: UUID | None
    email: str
    role: str
    status: InvitationStatus
    created_at: datetime
    created_by: str
    expires_at: datetime
    accepted_at: datetime | None
    accepted_by: UUID | None
