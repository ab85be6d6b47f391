"""What goes into the queue and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import UUID

Levels: TypeAlias = tuple[UUID, UUID, UUID]


class Connection(Protocol):
    """The part of an asyncpg connection that the queue uses."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Any]: ...

    async def fetchrow(self, query: str, /, *args: Any) -> Any: ...

    async def fetchval(self, query: str, /, *args: Any) -> Any: ...


class Ticket(NamedTuple):
    """The right to one attempt: `attempt` is the fencing token, one higher at each claim."""

    first: UUID
    entry: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry leased to a worker. `charged` is in slot-seconds."""

    ticket: Ticket
    levels: Levels
    slots: int
    labels: tuple[str, ...]
    estimate_seconds: float
    charged: float


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A claim whose lease has ended without a finish; still the worker's until requeued or dropped."""

    ticket: Ticket
    levels: Levels
    worker: UUID
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """`extended` run for the new lease, `unchanged` (their rows are locked) keep the old end, all others are lost."""

    extended: frozenset[Ticket]
    unchanged: frozenset[Ticket]


class Cancellation(StrEnum):
    REMOVED = "removed"  # it was still waiting and will not be claimed
    REQUESTED = "requested"  # a worker has it and will see the wish
    ABSENT = "absent"  # unknown, finished or removed before


@dataclass(frozen=True, slots=True)
class Standing:
    """Why an entry waits. `ahead` and `ahead_own` (of the same first-level key) are estimates, None unless queued.

    `workers` counts the live ones that serve its labels and have its slots at all, `slots` theirs, `slots_in_use` those
    that have something to do, of whatever kind; no workers means it waits for one.

    `held_level` is the level that is at its cap (1 before 2), with its `most_running` and how many are `running`.

    `starts_in_seconds` is 0 where there is room for it and all before it. Else it divides what goes first by those
    slots, adds, where there is no room now, the mean of what those running have left of their estimates, and is not
    less than the same by the cap of a level that holds it back. It is as good as the estimates are, and knows nothing
    of what comes later, of entries of other labels or widths that share the workers, nor of who leaves. None unless
    queued, where nobody serves, and at a cap of 0.
    """

    state: str
    ahead: int | None
    ahead_own: int | None
    workers: int
    slots: int
    slots_in_use: int
    held_level: int | None
    most_running: int | None
    running: int | None
    starts_in_seconds: float | None
