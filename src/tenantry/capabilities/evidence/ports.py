"""What evidence needs of higher rooms, handed in by `entrypoints`."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from tenantry.capabilities.evidence.types import Description
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix


class SubjectKind(Protocol):
    """Knows one kind of work; each capability whose work is to be proved registers one."""

    @property
    def kind(self) -> str:
        """The noun by which evidence knows it."""
        ...

    @property
    def prefix(self) -> Prefix:
        """What its ids begin with."""
        ...

    async def describe(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Description]:
        """Say what each was that has ended; of what is gone, or goes on, nothing is told.

        The same work is described the same each time, but for its `authority`.
        """
        ...
