"""What was used: by hours or event by event, as a page, a table or CloudEvents."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.metering import EventPosition, HourPosition, Meter, MeterQuery
from tenantry.foundation.errors import Invalid
from tenantry.interfaces.api.guard import readmit
from tenantry.interfaces.api.metering_forms import (
    EVENT_COLUMNS,
    HOUR_COLUMNS,
    EventAnswer,
    HourAnswer,
    MeteringPage,
    cloud_event,
    csv_of,
    event_answer,
    hour_answer,
)
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import CursorText, Instant, Limit
from tenantry.interfaces.api.unit import Unit, unit_of
from tenantry.kit.spreadsheets import csv_lines

routes = RouteRegistry()

_DAY: Final = timedelta(days=1)
_BATCH: Final = 1000
_CLOUD_EVENTS: Final = "application/cloudevents-batch+json"


class Granularity(StrEnum):
    HOUR = "hour"
    EVENT = "event"


class Form(StrEnum):
    JSON = "json"
    CSV = "csv"
    CLOUDEVENTS = "cloudevents"


Since = Annotated[Instant | None, Query(description="a day before `until`, unless told")]
Until = Annotated[Instant | None, Query(description="now, unless told; itself not in the span")]
FormName = Annotated[Form, Query(alias="format", description="`csv` and `cloudevents` are whole, without pages")]
GranularityName = Annotated[Granularity | None, Query(description="`hour`; of `cloudevents` `event`")]


@dataclass(frozen=True, slots=True)
class _Asked:
    query: MeterQuery
    granularity: Granularity
    limit: int
    cursor: str | None
    filters: str


@routes.get("/workspaces/{ws}/metering", needs=Permission.USAGE_READ, answer=MeteringPage)
async def get_workspace_metering(
    request: Request,
    ws: str,
    since: Since = None,
    until: Until = None,
    meter: Meter | None = None,
    granularity: GranularityName = None,
    form: FormName = Form.JSON,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> MeteringPage | Response:
    """What was used in the workspace: hours of at most 366 days, or events of at most 31; oldest first."""
    unit = unit_of(request)
    asked = _asked(unit, since, until, meter, granularity, form, limit, cursor)
    return await _answer(unit, asked, form)


@routes.get("/tenants/{tenant}/metering", needs=Permission.USAGE_READ, platform=True, answer=MeteringPage)
async def get_tenant_metering(
    request: Request,
    tenant: str,
    since: Since = None,
    until: Until = None,
    meter: Meter | None = None,
    granularity: GranularityName = None,
    form: FormName = Form.JSON,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> MeteringPage | Response:
    """What was used in all workspaces of the tenant; numbers and ids only."""
    unit = unit_of(request)
    asked = _asked(unit, since, until, meter, granularity, form, limit, cursor)
    return await _answer(unit, asked, form)


def _asked(
    unit: Unit,
    since: datetime | None,
    until: datetime | None,
    meter: Meter | None,
    granularity: Granularity | None,
    form: Form,
    limit: int,
    cursor: str | None,
) -> _Asked:
    if form is Form.CLOUDEVENTS and granularity is Granularity.HOUR:
        raise Invalid("metering_format_invalid", "format: cloudevents are of events, an hour is none", layer="api")
    if form is not Form.JSON and cursor is not None:
        raise Invalid("metering_format_invalid", "cursor: only json comes in pages", layer="api")
    granularity = granularity or (Granularity.EVENT if form is Form.CLOUDEVENTS else Granularity.HOUR)
    # What is not told moves on with the clock, and the cursor of a page is one of the list all the same.
    filters = f"{since}/{until}/{meter}/{granularity}"
    until = until or unit.runtime.clock.now()
    try:
        since = since or until - _DAY
    except OverflowError:
        raise Invalid("metering_span_invalid", "until: lies at the begin of the calendar", layer="limits") from None
    query = MeterQuery(since, until, meter, unit.scope.workspace_id)
    return _Asked(query, granularity, limit, cursor, filters)


async def _answer(unit: Unit, asked: _Asked, form: Form) -> MeteringPage | Response:
    if form is Form.JSON:
        found = await _read(unit, asked, unit.read_cursor(asked.cursor, filters=asked.filters), limit=asked.limit)
        cursor = unit.make_cursor(found.position, filters=asked.filters) if found.position else None
        return MeteringPage(items=found.items, next_cursor=cursor, rolled_up_to=found.rolled_up_to)
    first = await _read(unit, asked, None, limit=_BATCH)
    if form is Form.CLOUDEVENTS:
        return StreamingResponse(_cloud_events(unit, asked, first), media_type=_CLOUD_EVENTS)
    headers = {"Content-Disposition": 'attachment; filename="metering.csv"'}
    return StreamingResponse(_lines(unit, asked, first), media_type="text/csv", headers=headers)


@dataclass(frozen=True, slots=True)
class _Batch:
    """`position`: after which the next begins; None where this is the last."""

    items: list[HourAnswer] | list[EventAnswer]
    position: str | None
    rolled_up_to: datetime | None


async def _read(unit: Unit, asked: _Asked, position: str | None, *, limit: int) -> _Batch:
    metering = unit.metering
    if asked.granularity is Granularity.HOUR:
        hours = await metering.list_hours(
            asked.query, after=_hour_position(position) if position else None, limit=limit + 1
        )
        rolled_up_to = await metering.rolled_up_to()
        shown = [hour_answer(each, rolled_up_to=rolled_up_to) for each in hours[:limit]]
        last = hours[limit - 1] if len(hours) > limit else None
        place = f"{last.hour.isoformat()}|{last.workspace_id.hex}|{last.meter}" if last else None
        return _Batch(shown, place, rolled_up_to)
    events = await metering.list_events(
        asked.query, after=_event_position(position) if position else None, limit=limit + 1
    )
    final = events[limit - 1] if len(events) > limit else None
    place = f"{final.occurred_at.isoformat()}|{final.event_id.hex}" if final else None
    return _Batch([event_answer(each) for each in events[:limit]], place, await metering.rolled_up_to())


async def _batches(unit: Unit, asked: _Asked, batch: _Batch) -> AsyncIterator[list[HourAnswer] | list[EventAnswer]]:
    """Read on to the end of the span. Each batch is admitted, decided and bound anew; in between nothing is held.

    What is refused then breaks the answer off, and whoever reads it sees that it is not whole.
    """
    yield batch.items
    while batch.position is not None:
        again = await readmit(unit, Permission.USAGE_READ)
        async with again.session:
            batch = await _read(again, asked, batch.position, limit=_BATCH)
        yield batch.items


async def _lines(unit: Unit, asked: _Asked, first: _Batch) -> AsyncIterator[str]:
    columns = HOUR_COLUMNS if asked.granularity is Granularity.HOUR else EVENT_COLUMNS
    yield csv_lines([columns])
    async for items in _batches(unit, asked, first):
        yield csv_of(items, columns)


async def _cloud_events(unit: Unit, asked: _Asked, first: _Batch) -> AsyncIterator[str]:
    opening = "["
    async for items in _batches(unit, asked, first):
        told = [
            json.dumps(cloud_event(each, tenant_id=unit.scope.tenant_id))
            for each in items
            if isinstance(each, EventAnswer)
        ]
        if told:
            yield opening + ",\n".join(told)
            opening = ",\n"
    yield "[]" if opening == "[" else "]"


def _hour_position(text: str) -> HourPosition:
    hour, place, meter = text.split("|")
    return datetime.fromisoformat(hour), UUID(hex=place), Meter(meter)


def _event_position(text: str) -> EventPosition:
    at, event = text.split("|")
    return datetime.fromisoformat(at), UUID(hex=event)
