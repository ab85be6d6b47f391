"""The port through which lower rooms get the keys of an owner they know only by id."""

from typing import Protocol
from uuid import UUID

from tenantry.engines.envelope.keyset import Keyset


class Keyring(Protocol):
    """Gives an owner's keyset, opened. What is sealed with it binds its place in the associated data."""

    async def keyset(self, owner: UUID) -> Keyset:
        """Open it; raises Gone `key_destroyed` when the keys are no more, Unavailable when the KMS does not answer."""
        ...
