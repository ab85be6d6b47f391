"""What policies needs of higher rooms, handed in by whoever wires them."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from tenantry.capabilities.policies.types import Judge, Past
from tenantry.engines.rules.types import Kind
from tenantry.foundation.database.session import TenantSession


class WaitingWork(Protocol):
    """What has been accepted and has not begun."""

    async def recheck(self, session: TenantSession, *, workspace_id: UUID | None, kind: Kind, judge: Judge) -> int:
        """End what is denied now, in the session's transaction; tells how many. None: of the whole tenant."""
        ...


class PastWork(Protocol):
    """What policies have been asked of, whether or not anything was remembered of that."""

    async def recent(self, session: TenantSession, workspace_id: UUID, *, limit: int) -> Sequence[Past]:
        """List at most so many of a workspace, newest first; of variables not even the names."""
        ...
