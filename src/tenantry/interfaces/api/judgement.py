"""What the guard has decided of a request, for whoever goes on with it."""

from dataclasses import dataclass, field
from uuid import UUID

from tenantry.capabilities.access.types import Circumstances, Decision, Permission


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the guard asked, what was answered, and what it knew of the thing. Without a permission: nothing was asked.

    `lists`: the route shows only what is allowed one by one.
    """

    permission: Permission | None = None
    decision: Decision | None = None
    about: Circumstances = field(default_factory=Circumstances)
    lists: bool = False

    @property
    def grant_id(self) -> UUID | None:
        """The just-in-time grant that alone allows it."""
        return self.decision.grant_id if self.decision is not None else None

    @property
    def settled(self) -> bool:
        return self.decision is None or self.decision.allowed or self.lists
