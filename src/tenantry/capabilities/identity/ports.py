"""What identity needs of a higher room, handed in by whoever builds the service."""

from typing import Protocol
from uuid import UUID

from tenantry.capabilities.identity.types import ServiceAccount


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
