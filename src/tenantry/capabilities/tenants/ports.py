"""What tenants need of higher rooms, handed in by `entrypoints`."""

from typing import Protocol

from tenantry.capabilities.tenants.types import BootstrapKey, Owner
from tenantry.foundation.database.session import TenantSession


class OwnerAdmission(Protocol):
    """Lets the owner of a new tenant in, inside the transaction that makes the tenant."""

    async def admit(self, session: TenantSession, *, owner: Owner) -> BootstrapKey:
        """Make the owner's user, its binding and its first key; give the key, whose secret is shown once."""
        ...
