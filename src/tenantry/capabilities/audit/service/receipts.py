r"""Receipts: the log's signature over events that have committed, given to their cause before they have a place.

A receipt is a signed note (C2SP) of the tenant's log, under the same keys as its checkpoints, whose text is

    INSTALLATION/TENANT
    receipt 2030-01-01T12:00:00.000000+00:00
    evt_… base64 of the leaf hash          a line an event, at most MAX_EVENTS

No checkpoint reads like it: there the second line is a number. Whoever keeps one can show that the log has had these
events, also when they were removed before the sealer came.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self
from uuid import UUID

from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import canonical_base64
from tenantry.engines.merkle.tree import is_hash
from tenantry.foundation.database.session import TenantSession

MAX_EVENTS: Final = 64
"""A receipt goes as a header. What a request records beyond that has its place within a tenth of a second, as all."""
_EVENT: Final = re.compile(r"(evt_[0-7][0-9a-hjkmnp-tv-z]{25}) ([A-Za-z0-9+/=]{44})")
_WORD: Final = "receipt "
_LEAST_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that has committed: in whose log, and its leaf hash, 32 bytes."""

    tenant_id: UUID
    region: str
    event_id: UUID
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says: `events` are id (TypeID) and leaf hash. `made_at` is the clock of who signed."""

    origin: str
    made_at: datetime
    events: tuple[tuple[str, bytes], ...]

    @property
    def text(self) -> str:
        made_at = self.made_at.astimezone(UTC).isoformat(timespec="microseconds")
        events = "".join(f"{event} {b64encode(leaf).decode()}\n" for event, leaf in self.events)
        return f"{self.origin}\n{_WORD}{made_at}\n{events}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note; raises NoteError unless it is exactly what `text` gives."""
        lines = text.split("\n")
        if not _LEAST_LINES <= len(lines) < _LEAST_LINES + MAX_EVENTS:
            raise NoteError(f"no receipt: an origin, a time and 1 to {MAX_EVENTS} events, each on a line of its own")
        origin, told, *events, _ = lines
        try:
            made_at = datetime.fromisoformat(told.removeprefix(_WORD)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise NoteError("no receipt: its second line is no time") from None
        receipt = cls(origin, made_at, tuple(_event(line) for line in events))
        if receipt.text != text:
            raise NoteError("no receipt: its time is not in the form that a log writes")
        return receipt


def _event(line: str) -> tuple[str, bytes]:
    found = _EVENT.fullmatch(line)
    leaf = canonical_base64(found[2]) if found else None
    if found is None or leaf is None or not is_hash(leaf):
        raise NoteError("no receipt: a line is the id of an event and its leaf hash")
    return found[1], leaf


_open: ContextVar[list[Recorded] | None] = ContextVar("audit_recorded", default=None)


@contextmanager
def collecting() -> Iterator[list[Recorded]]:
    """Collect what commits in this task, and in those it starts, from now on: the request's own effects."""
    found: list[Recorded] = []
    token = _open.set(found)
    try:
        yield found
    finally:
        _open.reset(token)


def collect(session: TenantSession, event_id: UUID, leaf: bytes) -> None:
    """Take note of an event that the session has written, for when it commits; where nobody collects, do nothing."""
    if (into := _open.get()) is not None:
        scope = session.scope
        session.after_commit(partial(into.append, Recorded(scope.tenant_id, scope.region, event_id, leaf)))
