"""What notifications need of others, handed in by `entrypoints`."""

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from tenantry.capabilities.notifications.types import Address, Message
from tenantry.foundation.database.session import TenantSession


class Describe(Protocol):
    """Reads back what an event is about; the capability that publishes a topic may register one for its noun."""

    async def describe(self, session: TenantSession, *, topic: str, payload: Mapping[str, Any]) -> Mapping[str, str]:
        """Give further facts by name, of what is there now: short texts, none of them secret. May be empty."""
        ...


class Surroundings(Protocol):
    """What rooms below know of those whom an event names, in the session's tenant."""

    async def workspace_name(self, session: TenantSession, workspace_id: UUID) -> str | None:
        """Tell what a workspace is called; None when it is none of the tenant's."""
        ...

    async def email_of(self, session: TenantSession, user_id: UUID) -> str | None:
        """Tell the e-mail address of a user who may come in; None for anybody else."""
        ...


class Sender(Protocol):
    """Sends by one kind of channel."""

    async def send(self, address: Address, message: Message) -> None:
        """Send once; raises NotSentError. What was sent before under the same delivery may be sent again."""
        ...
