"""What approvals need of higher rooms, handed in by whoever builds the service."""

from typing import Protocol

from tenantry.capabilities.approvals.types import Approval
from tenantry.foundation.database.session import TenantSession


class Subject(Protocol):
    """What approvals of one kind are about; whatever room asks for approvals registers one by its kind."""

    async def settled(self, session: TenantSession, approval: Approval, voters: tuple[str, ...]) -> bool:
        """Hear that it was approved (by `voters`), rejected, expired or made void, in the transaction of that.

        Say whether what was approved is done already, which uses the approval. What raises here undoes the vote.
        """
        ...
