"""What identity needs of a higher room, handed in by whoever builds the service."""

from typing import Protocol
from uuid import UUID


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
