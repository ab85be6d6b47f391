"""What follows the sealed events of a tenant inside the database: the index of their words, and the list of their days.

By a cursor over the sequence, in one transaction with what it is the cursor of: each event is taken once, whatever
dies, and two that race take turns. No request waits for it.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, date, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.repository.following import DaySpan
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter
from tenantry.capabilities.audit.types.words import BLOCK, entries_of
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_BATCH: Final = 128
"""Two blocks: some milliseconds, in which nothing else of the process runs."""
_EVERYTHING: Final = AuditFilter()


class IndexService:
    """Of the session's tenant. `day_seconds`: how long a day's file waits for more events before it is written."""

    def __init__(self, *, session: TenantSession, clock: Clock, day_seconds: float) -> None:
        self._session = session
        self._clock = clock
        self._day_seconds = day_seconds

    async def index(self) -> bool:
        """Take the next events, a batch at most; False when there are no more, or another is at it."""
        indexed = await repository.lock_index(self._session)
        if indexed is None:
            return False
        events = await repository.find_sealed(
            self._session, _EVERYTHING, first=indexed + 1, last=indexed + _BATCH, descending=False
        )
        if not events or events[0].sequence != indexed + 1:
            erased = (await repository.find_log_extent(self._session)).erased
            if indexed < erased:  # an index that is made anew has nothing to know of what has left
                await repository.advance_index(self._session, to=erased, entries=())
                return True
        if not events:
            return False
        due_at = self._clock.now() + timedelta(seconds=self._day_seconds)
        await repository.advance_index(self._session, to=events[-1].sequence or indexed, entries=_entries(events))
        await repository.extend_days(self._session, _spans(events), due_at=due_at)
        return len(events) == _BATCH


async def list_unindexed(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, limit: int, without: Collection[UUID]
) -> list[UUID]:
    """List tenants whose index is behind, as the dispatcher."""
    return await repository.list_unindexed(connection, limit=limit, without=without)


def _entries(events: Iterable[AuditEvent]) -> set[tuple[str, int]]:
    return {(entry, ((event.sequence or 1) - 1) // BLOCK) for event in events for entry in entries_of(event)}


def _spans(events: Iterable[AuditEvent]) -> dict[date, DaySpan]:
    spans: dict[date, DaySpan] = {}
    for event in events:
        day, place = event.occurred_at.astimezone(UTC).date(), event.sequence or 0
        known = spans.get(day, DaySpan(place, place, 0))
        spans[day] = DaySpan(known.first, place, known.events + 1)
    return spans
