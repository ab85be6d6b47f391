"""What streams and erasures need of others, handed in by `entrypoints`."""

from datetime import datetime
from typing import Protocol

from tenantry.capabilities.audit.types.streams import AuditStream, Batch, Target
from tenantry.foundation.database.session import TenantSession


class Addresses(Protocol):
    """Says which addresses a webhook may have, by the installation's rules."""

    def require(self, url: str) -> None:
        """Raise Invalid for one that nothing is to be sent to."""
        ...

    def hint(self, url: str) -> str:
        """Show where it leads, without what may be a secret."""
        ...


class Sink(Protocol):
    """Takes batches of one kind of stream."""

    async def take(self, stream: AuditStream, target: Target | None, batch: Batch) -> None:
        """Keep a batch durably before returning; raises NotTakenError. What was taken before may come again.

        Batches of one stream come one after the other, in order. `target` is a webhook's.
        """
        ...


class Reserve(Protocol):
    """Says which events of a tenant others still need."""

    async def needed_from(self, session: TenantSession, *, before: datetime) -> datetime | None:
        """Give the moment from which on events are needed, at the latest `before`; None: all of them are.

        Until the session's transaction ends nobody comes to need earlier ones.
        """
        ...
