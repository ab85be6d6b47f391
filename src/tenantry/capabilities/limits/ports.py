"""What limits needs of higher rooms, handed in by `entrypoints`."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.foundation.database.session import TenantSession


class Subject(Protocol):
    """Knows what reservations of one kind stand for; each capability that reserves registers one."""

    @property
    def kind(self) -> str: ...

    async def takes(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[Quota, int] | None]:
        """Tell what each still takes, None while it is under way; of what is gone nothing is told."""
        ...
