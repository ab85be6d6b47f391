"""What bodies have in common: strict requests, open answers, pages."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_suffix, suffix_of
from tenantry.interfaces.api.unit import Unit

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200, description="items of a page")]
CursorText = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before")]
Moment = Annotated[
    datetime, PlainSerializer(lambda at: at.isoformat(timespec="microseconds").replace("+00:00", "Z"), return_type=str)
]


_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]")


def _text(value: object) -> object:
    if not isinstance(value, str) or not _DATE.match(value):
        raise ValueError("must be a text: RFC 3339, with an offset")
    return value


def _utc(at: datetime) -> datetime:
    """Bring to UTC what an offset may carry over the ends of the calendar."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside of the calendar") from None


Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text), AfterValidator(_utc)]
"""A moment that a request names."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


Description = Annotated[str, Field(max_length=500), AfterValidator(_printable)]


class Body(BaseModel):
    """A request: unknown fields are refused, types are not coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    """An answer: it may grow."""

    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[T]):
    """One page of a list; `next_cursor` null on the last."""

    items: list[T]
    next_cursor: str | None


def after(unit: Unit, cursor: str | None, *, filters: str = "") -> UUID | None:
    """Read the id after which a page begins."""
    position = unit.read_cursor(cursor, filters=filters)
    if position is None:
        return None
    try:
        return parse_suffix(position)
    except Invalid:
        raise Invalid("cursor_invalid", "cursor: not one of this list: begin anew", layer="api") from None


def page(unit: Unit, items: list[Any], *, ids: list[UUID], limit: int, filters: str = "") -> dict[str, Any]:
    """Make a page of at most `limit` from one item more than that, which tells whether another page follows."""
    more = len(items) > limit
    cursor = unit.make_cursor(suffix_of(ids[limit - 1]), filters=filters) if more else None
    return {"items": items[:limit], "next_cursor": cursor}


def named(prefix: Prefix, uuid: UUID | None) -> str | None:
    return format_id(prefix, uuid) if uuid else None
