"""What is asked for, and has come of it, where one person is to be forgotten (ADR 0045)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from tenantry.foundation.ids import Prefix

NAMEABLE: Final = (Prefix.USER, Prefix.SERVICE_ACCOUNT, Prefix.KEY)
"""What an event can name a person by."""
MOST_OPEN: Final = 20
"""Requests of a tenant that are not done."""


class ForgettingState(StrEnum):
    OPEN = "open"
    HELD = "held"
    """A legal hold keeps what it would forget; it goes on when there is none."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One request. `position` events have been looked at in their order, and of `forgotten` something was forgotten.

    Its id is the moment up to which events are meant: those whose id is before it.
    """

    forgetting_id: UUID
    principal: str
    state: ForgettingState
    requested_at: datetime
    requested_by: str
    position: int
    forgotten: int
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueForgetting:
    """A request that the sealer has to look at."""

    tenant_id: UUID
    forgetting_id: UUID
