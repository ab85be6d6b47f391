"""The days of a tenant's trail, each a file of lines."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import date
from typing import Final

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.errors import day_not_found
from tenantry.capabilities.audit.service import key_of, stands
from tenantry.capabilities.audit.types.streams import AuditDay
from tenantry.interfaces.api.guard import readmit
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, CursorText, Limit, Moment, Page
from tenantry.interfaces.api.streams import Held
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()
_LINES: Final = "application/x-ndjson"


class DayAnswer(Answer):
    day: str
    events: int
    first: int = Field(description="place of its first event in the sequence")
    last: int = Field(description="place of its last event so far")
    closed_at: Moment | None = Field(description="when its file was found whole; null: more may come")
    size_bytes: int | None = Field(description="of the file as it was last written")
    sha256: str | None = Field(description="the same")


@routes.get("/audit/days", needs=Permission.AUDIT_READ)
async def list_days(request: Request, limit: Limit = 50, cursor: CursorText = None) -> Page[DayAnswer]:
    """Days (UTC) that have events of the tenant, the newest first."""
    unit = unit_of(request)
    position = unit.read_cursor(cursor)
    found = await unit.audit_days.list_days(before=date.fromisoformat(position) if position else None, limit=limit + 1)
    more = unit.make_cursor(found[limit - 1].day.isoformat()) if len(found) > limit else None
    return Page[DayAnswer](items=[render(each) for each in found[:limit]], next_cursor=more)


@routes.get("/audit/days/{day}", needs=Permission.AUDIT_READ, media_type=_LINES)
async def get_day(request: Request, day: str) -> Response:
    """The events of a day as lines of JSON, flat, in their sequence: what `audit/YYYY-MM-DD.jsonl` is in the store.

    A closed day is the file itself, with its digest as ETag; another one is what there is of it now.
    """
    unit = unit_of(request)
    found = await unit.audit_days.get(_date(day))
    headers = {"Content-Disposition": f'attachment; filename="{unit.caller.tenant_slug}-{found.day}.jsonl"'}
    async with AsyncExitStack() as stack:
        stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))
        objects = unit.runtime.objects[unit.scope.region]
        if found.closed_at and found.sha256 and await stands(objects, unit.scope.tenant_id, found):
            unit.show_tag(found.sha256.hex())
            content: AsyncIterator[bytes] = objects.get(unit.scope.tenant_id, key_of(found.day))
            headers["Content-Length"] = str(found.size_bytes)
        else:
            content = _lines(unit, found)
        return Held(content, held=stack.pop_all(), media_type=_LINES, headers=headers)


async def _lines(unit: Unit, day: AuditDay) -> AsyncIterator[bytes]:
    """Read on to the day's last event as it was. Each page is admitted, decided and bound anew."""
    after = day.first - 1
    while after < day.last:
        again = await readmit(unit, Permission.AUDIT_READ)
        async with again.session:
            piece, after = await again.audit_days.lines(day, after=after)
        if piece:
            yield piece


def _date(text: str) -> date:
    """Read `YYYY-MM-DD`; what is none names no day of the tenant."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise day_not_found() from None
    if found.isoformat() != text:
        raise day_not_found()
    return found


def render(day: AuditDay) -> DayAnswer:
    return DayAnswer(
        day=day.day.isoformat(),
        events=day.events,
        first=day.first,
        last=day.last,
        closed_at=day.closed_at,
        size_bytes=day.size_bytes,
        sha256=day.sha256.hex() if day.sha256 else None,
    )
