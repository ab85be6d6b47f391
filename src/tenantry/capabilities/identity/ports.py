"""What identity needs of a higher room or of the world, handed in by whoever builds the service."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from tenantry.capabilities.identity.types import GivenRole, IssuerMetadata, Redemption, ServiceAccount
from tenantry.foundation.database.session import TenantSession


class KeyScopes(Protocol):
    """Judges what a new key may be allowed; `access` implements it."""

    def require_grantable(
        self, *, roles: tuple[str, ...], permissions: tuple[str, ...], workspace_id: UUID | None
    ) -> None:
        """Raise Invalid for an unknown role or permission, Denied for more than the creator may do itself."""
        ...

    async def require_bound_grantable(self, *, principal_id: str, workspace_id: UUID | None) -> None:
        """Raise Denied when the principal is bound to more than the creator may do: a key without roles gets it all."""
        ...


class RegistrableAccount(Protocol):
    """Gives a service account to which the caller may register what it proves itself by; `IdentityService` does it."""

    async def __call__(self, account_id: UUID, /, *, workspace_id: UUID, scopes: KeyScopes) -> ServiceAccount:
        """Raise NotFound, Invalid `delegated_for_another`, Denied `grant_exceeds_own`."""
        ...


class Memberships(Protocol):
    """Writes what claims and invitations give, in the session's transaction; `access` implements it."""

    async def replace(self, *, user_id: UUID, source: str, roles: Sequence[GivenRole]) -> None:
        """Make the roles that this source gives the user exactly these.

        A role or workspace that is no more is passed over; what others gave stays.
        """
        ...

    async def withdraw(self, *, source: str) -> None:
        """Take away what this source gave to anybody."""
        ...

    async def holds_any(self, *, user_id: UUID) -> bool:
        """Say whether the user has any role in this tenant, whoever gave it."""
        ...


class Issuers(Protocol):
    """Speaks with identity providers.

    Raises Unavailable `issuer_unreachable`, Denied `issuer_unusable` for an answer that cannot be trusted, and Denied
    `address_refused` for an address that is not to be asked.
    """

    async def metadata(self, issuer: str) -> IssuerMetadata:
        """Read the discovery document, kept for some minutes."""
        ...

    async def keys(self, metadata: IssuerMetadata, *, anew: bool = False) -> Sequence[Mapping[str, Any]]:
        """Read the issuer's public keys (JWKS), kept for some minutes; `anew` asks again, within bounds."""
        ...

    async def redeem(
        self,
        metadata: IssuerMetadata,
        *,
        client_id: str,
        secret: str | None,
        code: str,
        verifier: str,
        callback: str,
    ) -> Redemption:
        """Exchange an authorization code."""
        ...

    async def userinfo(self, metadata: IssuerMetadata, *, access_token: str) -> Mapping[str, Any]:
        """Read what the issuer says of the user beside the id token; empty where it has no such endpoint."""
        ...


class Room(Protocol):
    """How many active users there may be; `limits` implements it."""

    async def take(self, count: Callable[[TenantSession], Awaitable[int]], /) -> None:
        """Refuse one more than there may be, in the session's transaction, one after the other.

        `count` is given a session that sees the whole tenant. Raises Exhausted `quota_exceeded`.
        """
        ...
