"""What was used: recorded once, in the transaction of the use; added up by hours, each event once."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.errors import metering_event_invalid, metering_span_invalid
from tenantry.capabilities.limits.types.metering import (
    MOST_QUANTITY,
    EventPosition,
    HourPosition,
    Meter,
    MeterEvent,
    MeterHour,
    MeterQuery,
    Used,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id

HOUR: Final = timedelta(hours=1)
GRACE: Final = timedelta(minutes=5)
"""How long after its end an hour is finished: the transactions of what was used in it have ended by then."""
KEEP: Final = timedelta(days=400)
MOST_HOURS_SPAN: Final = timedelta(days=366)
MOST_EVENTS_SPAN: Final = timedelta(days=31)
_BATCH: Final = 5000
_MOST_SUBJECT: Final = 200
_MOST_ATTRIBUTES: Final = 10


class MeteringService:
    """Events and hours of the session's tenant. `keep`: how long events are kept; hours are for ever."""

    def __init__(self, *, session: TenantSession, clock: Clock, keep: timedelta = KEEP) -> None:
        self._session = session
        self._clock = clock
        self._keep = keep

    async def record(self, used: Sequence[Used]) -> int:
        """Record in the session's transaction, all by one statement; tells how many are new.

        What was recorded before stays as it was. Raises Invalid `metering_event_invalid`, also for what is older than
        events are kept: nobody could tell any more whether it was recorded.
        """
        now = self._clock.now()
        for each in used:
            _require_sound(each, oldest=self._oldest(now))
        return await repository.insert_events(self._session, used, now=now) if used else 0

    async def record_storage(self, kept: Mapping[UUID, int], *, hour: datetime) -> int:
        """Record the bytes that each workspace keeps, for an hour; only the first sample of an hour counts."""
        window = hour.isoformat()
        return await self.record(
            [
                Used(
                    workspace_id=place,
                    meter=Meter.STORAGE_BYTE_HOURS,
                    quantity=min(size, MOST_QUANTITY),
                    subject=format_id(Prefix.WORKSPACE, place),
                    window=window,
                    occurred_at=hour,
                )
                for place, size in kept.items()
                if size > 0
            ]
        )

    async def roll_up(self) -> bool:
        """Add what no hour holds yet to the hours, in the session's transaction; tells whether there is more."""
        return await repository.add_to_hours(self._session, limit=_BATCH) == _BATCH

    async def begin(self, hour: datetime) -> bool:
        """Take it on to finish the hours before this one; False when another does, or did, in a transaction of its own.

        What is rolled back with the session is not finished.
        """
        return await repository.advance_mark(self._session, hour)

    async def forget(self) -> bool:
        """Delete events that are older than they are kept, their hours stay; tells whether there are more."""
        before = self._oldest(self._clock.now())
        return await repository.forget_events(self._session, before=before, limit=_BATCH) == _BATCH

    async def rolled_up_to(self) -> datetime | None:
        """Tell before when hours are finished: only what is recorded late adds to them."""
        return await repository.find_mark(self._session)

    async def list_hours(self, query: MeterQuery, *, after: HourPosition | None, limit: int) -> list[MeterHour]:
        """List hours that begin in the span, with all that is recorded, also what is not rolled up yet."""
        require_span(query, MOST_HOURS_SPAN)
        return await repository.list_hours(self._session, query, after=after, limit=limit)

    async def list_events(self, query: MeterQuery, *, after: EventPosition | None, limit: int) -> list[MeterEvent]:
        require_span(query, MOST_EVENTS_SPAN)
        return await repository.list_events(self._session, query, after=after, limit=limit)

    def _oldest(self, now: datetime) -> datetime:
        return now - self._keep


def hour_of(at: datetime) -> datetime:
    """Tell when the hour began, in UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def require_span(query: MeterQuery, most: timedelta) -> None:
    """Raise Invalid `metering_span_invalid` for a span that ends before it begins, or is too long."""
    if query.since >= query.until:
        raise metering_span_invalid("since must lie before until")
    if query.until - query.since > most:
        raise metering_span_invalid(f"since and until may lie {most.days} days apart at most: ask for parts")


def _require_sound(used: Used, *, oldest: datetime) -> None:
    if type(used.quantity) is not int or not 0 <= used.quantity <= MOST_QUANTITY:
        raise metering_event_invalid(f"quantity must be a whole number from 0 to {MOST_QUANTITY}")
    if not used.subject.isprintable() or not 0 < len(used.subject) <= _MOST_SUBJECT:
        raise metering_event_invalid(f"subject must have 1 to {_MOST_SUBJECT} printable characters")
    if len(used.attributes) > _MOST_ATTRIBUTES:
        raise metering_event_invalid(f"at most {_MOST_ATTRIBUTES} attributes")
    if used.occurred_at.tzinfo is None:
        raise metering_event_invalid("occurred_at must have an offset")
    if used.occurred_at < oldest:
        raise metering_event_invalid("occurred_at is older than events are kept")
