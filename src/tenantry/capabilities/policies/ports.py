"""What policies needs of higher rooms, handed in by whoever wires them."""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from tenantry.capabilities.policies.types import Outcome
from tenantry.engines.rules.types import JobFacts, Kind
from tenantry.foundation.database.session import TenantSession

Judge = Callable[[UUID, JobFacts], Outcome]
"""(workspace, facts) → what policies say now."""


class WaitingWork(Protocol):
    """What has been accepted and has not begun."""

    async def recheck(self, session: TenantSession, *, workspace_id: UUID | None, kind: Kind, judge: Judge) -> int:
        """End what is denied now, in the session's transaction; tells how many. None: of the whole tenant."""
        ...
