"""Searches in a tenant's trail, a page at a time. A page costs a bounded look, so it may be short, even empty, and more
may follow it: only a page without a further position is the last.

Newest first, one of two ways is taken. Where an actor, a resource, a whole action or a workspace is asked for, its
index is walked by descending id. Where words, a trace, a type, an outcome or a noun are asked for, the index of words
names the blocks of 64 places in which all of them stand; what the index does not know yet is looked at as it lies.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.capabilities.audit.types.words import (
    BLOCK,
    actor_entry,
    noun_entry,
    outcome_entry,
    searchable,
    trace_entry,
    type_entry,
    word_entry,
    words_of,
)
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import first_id_at

_FIRST_BLOCKS: Final = 2
"""Looked at by the first statement; by each one that follows twice as many, up to:"""
_BLOCKS: Final = 16
_MOST_BLOCKS: Final = 128
"""Looked at for one page: 8192 events."""
_PLACES: Final = 4096
"""Looked at for one page in the order of the sequence."""
_READ: Final = 512
"""The same, where each event must be read for what no column holds."""
_TAIL: Final = 512
"""Places that the index does not know yet, looked at by one statement."""
_SLACK: Final = timedelta(days=1)
"""How much later than it occurred an event may have got its id or its place."""
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC) + _SLACK, datetime.max.replace(tzinfo=UTC) - _SLACK
_ID: Final = re.compile(r"[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}")


@dataclass(frozen=True, slots=True)
class Found:
    """A page of events. `position` is where the next one begins; None: there is none.

    `reached` is the place up to which the sequence was looked at, of a page in its order.
    """

    events: tuple[AuditEvent, ...]
    position: str | None
    reached: int | None = None


async def search(session: TenantSession, query: AuditFilter, *, position: str | None, limit: int) -> Found:
    """Give a page of the newest events first; `position` is of the page before. Raises ValueError for what is none."""
    kind, _, told = (position or "").partition(":")
    leading, entries = _leading(query), _entries(query)
    await repository.walk_indexes(session)
    if kind in ("p", "u") or (not kind and entries and leading is None):
        return await _by_words(session, query, entries, position=position, limit=limit)
    after = _id_before(query.since) if query.since else None
    before = UUID(hex=told) if told else _id_behind(query.until) if query.until else None
    events, further = await repository.find_newest(
        session, query, leading=leading, after=after, before=before, limit=limit + 1
    )
    if len(events) > limit:
        events, further = events[:limit], events[limit - 1].event_id
    return Found(tuple(events), f"e:{further.hex}" if further else None)


async def search_sequence(session: TenantSession, query: AuditFilter, *, after: int, limit: int) -> Found:
    """Give a page of sealed events in the order of their sequence, from the one behind `after`.

    An event that committed late has a place behind those before it, so nothing is ever skipped; what has no place yet
    is not in it. At the end `position` is None, and `reached` is where to go on later.
    """
    await repository.walk_indexes(session)
    extent = await repository.find_extent(session)
    size, after = extent.size, max(after, extent.erased)
    unread = query.text is None and query.trace is None
    last = min(size, after + (_PLACES if unread else _READ))
    if last <= after:
        return Found((), None, after)
    most = limit + 1 if unread else _READ
    found = await repository.find_sealed(session, query, first=after + 1, last=last, descending=False, limit=most)
    events = [event for event in found if _said(event, query)]
    if len(events) > limit:
        events = events[:limit]
        last = events[-1].sequence or last
    return Found(tuple(events), str(last) if last < size else None, last)


def _id_before(at: datetime) -> UUID:
    """Give an id below those of all events that occurred from then on, also for the first day of the calendar."""
    return first_id_at(max(at, _FIRST) - _SLACK)


def _id_behind(at: datetime) -> UUID:
    """Give an id above those of all events that occurred before, also for the last day of the calendar."""
    return first_id_at(min(at, _LAST) + _SLACK)


async def _by_words(
    session: TenantSession, query: AuditFilter, entries: list[str], *, position: str | None, limit: int
) -> Found:
    """Look at what has no place, what the index does not know, and then at blocks, until the page is full."""
    kind, _, told = (position or "").partition(":")
    head: list[AuditEvent] = []
    # In this order: what gets its place in between is then in both, and shown once, and not in neither.
    waiting = [] if kind == "p" else await repository.find_unsealed(session, query)
    extent = await repository.find_extent(session)
    size = floor = extent.size
    if kind == "p":
        below = int(told)
    else:
        floor, head = await _head(session, query, told, waiting=waiting, size=size)
        below = floor + 1
        if query.until is not None:
            below = min(below, await repository.find_place_at(session, _id_behind(query.until)) or below)
    shown = {event.event_id for event in head}
    look = _Look(session, query, entries, extent=extent, below=below, shown=shown)
    if query.since is not None:
        first = await repository.find_place_at(session, _id_before(query.since)) or size + 1
        look.lowest = max(look.lowest, first)
    found = [*head, *await look.take(limit + 1 - len(head))]
    if len(found) > limit:
        last = found[limit - 1]
        begun = limit <= len(head)
        return Found(tuple(found[:limit]), f"u:{last.event_id.hex}.{floor}" if begun else f"p:{last.sequence}")
    return Found(tuple(found), None if look.ended else f"p:{look.below}")


class _Look:
    """A look down the places of a trail, from the one just `below` to the `lowest` that can have what is asked for."""

    def __init__(
        self,
        session: TenantSession,
        query: AuditFilter,
        entries: list[str],
        *,
        extent: repository.Extent,
        below: int,
        shown: set[UUID],
    ) -> None:
        self._session = session
        self._query = query
        self._entries = entries
        self._indexed = extent.indexed
        self._shown = shown
        self._looked = 0
        self.below = below
        self.lowest = extent.erased + 1

    @property
    def ended(self) -> bool:
        return self.below <= self.lowest

    async def take(self, most: int) -> list[AuditEvent]:
        """Find at least so many, unless the look ends before, at the lowest place or at its bound."""
        found: list[AuditEvent] = []
        size = _FIRST_BLOCKS
        while len(found) < most and self._looked < _MOST_BLOCKS and not self.ended:
            if self.below - 1 > self._indexed:
                found += await self._tail()
            else:
                found += await self._blocks(size)
                size = min(size * 2, _BLOCKS)
        return found

    async def _tail(self) -> list[AuditEvent]:
        """Look at places that the index does not know."""
        first = max(self._indexed + 1, self.below - _TAIL)
        tail = await repository.find_sealed(
            self._session, self._query, first=first, last=self.below - 1, descending=True
        )
        self.below, self._looked = first, self._looked + _TAIL // BLOCK
        return [event for event in tail if _said(event, self._query) and event.event_id not in self._shown]

    async def _blocks(self, size: int) -> list[AuditEvent]:
        """Look at the next blocks that the index names."""
        until = (self.below - 2) // BLOCK
        blocks = await repository.find_blocks(self._session, self._entries, until=until, limit=size)
        sealed = await repository.find_in_blocks(self._session, self._query, blocks) if blocks else []
        found = [event for event in sealed if _said(event, self._query) and (event.sequence or 0) < self.below]
        self.below = min(blocks) * BLOCK + 1 if len(blocks) == size else self.lowest
        self._looked += len(blocks)
        return found


async def _head(
    session: TenantSession, query: AuditFilter, told: str, *, waiting: list[AuditEvent], size: int
) -> tuple[int, list[AuditEvent]]:
    """Give how many events had their place when the search began, and those above them, by descending id.

    What had none when the page before was made may have one by now: it is known by its id, and shown once.
    """
    name, _, floor_text = told.partition(".")
    before, floor = (UUID(hex=name), int(floor_text)) if told else (None, size)
    placed: list[AuditEvent] = []
    if floor < size:
        last = min(size, floor + repository.WINDOW)
        placed = await repository.find_sealed(session, query, first=floor + 1, last=last, descending=True)
    found = {event.event_id: event for event in (*waiting, *placed)}
    wanted = [event for event in found.values() if _said(event, query) and (before is None or event.event_id < before)]
    return floor, sorted(wanted, key=lambda event: event.event_id, reverse=True)


def _said(event: AuditEvent, query: AuditFilter) -> bool:
    """Look at what no column holds."""
    if query.trace is not None and event.trace_id != query.trace:
        return False
    return query.text is None or set(words_of(query.text)) <= searchable(event)


def _leading(query: AuditFilter) -> str | None:
    """Tell which column's index to walk; where words are asked for, none."""
    if query.text is not None or query.trace is not None:
        return None
    if query.resource is not None and _ID.fullmatch(query.resource):
        return "resource_id"
    if query.actor is not None:
        return "actor_id"
    if query.action is not None and query.exact:
        return "action"
    if query.workspace_id is not None and not _entries(query):
        return "workspace_id"
    return None


def _entries(query: AuditFilter) -> list[str]:
    """Give what the index of words has of a filter, the rarest kind first."""
    entries = [trace_entry(query.trace)] if query.trace is not None else []
    entries += [word_entry(word) for word in words_of(" ".join(filter(None, (query.text, query.resource))))]
    if query.outcome is not None and query.outcome is not Outcome.SUCCESS:
        entries.append(outcome_entry(query.outcome))
    if query.resource_type is not None:
        entries.append(type_entry(query.resource_type))
    if query.action is not None and "." in query.action:
        entries.append(noun_entry(query.action))
    if query.actor_type is not None:
        entries.append(actor_entry(query.actor_type))
    return entries
