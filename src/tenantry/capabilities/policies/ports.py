"""What policies needs of higher rooms, handed in by whoever wires them."""

from typing import Protocol
from uuid import UUID

from tenantry.capabilities.policies.types import Judge
from tenantry.engines.rules.types import Kind
from tenantry.foundation.database.session import TenantSession


class WaitingWork(Protocol):
    """What has been accepted and has not begun."""

    async def recheck(self, session: TenantSession, *, workspace_id: UUID | None, kind: Kind, judge: Judge) -> int:
        """End what is denied now, in the session's transaction; tells how many. None: of the whole tenant."""
        ...
