r"""What says that a part of a log was erased: signed by the log before anything is gone, and told in its own trail.

An erasure is a signed note (C2SP) of the tenant's log, under the same keys as its checkpoints, whose text is

    INSTALLATION/TENANT
    erased 512 2030-01-01T12:00:00.000000+00:00    how many events, from the first on, in whole tiles of 256; and when
    base64 of the root of the tree of that size
    days 90                                        for how many days events are kept

No checkpoint and no receipt reads like it. It stands in `details.signed` of an event `audit.erased`, beside `events`,
`root` (hexadecimal) and `days`, which say the same.
"""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import Note, VerifierKey, canonical_base64
from tenantry.engines.merkle.tree import TILE_WIDTH, is_hash, is_size

ERASED: Final = "audit.erased"
"""The action of the event."""
_ERASED_LINE: Final = re.compile(r"erased ([1-9][0-9]{0,18}) (\S+)")
_DAYS_LINE: Final = re.compile(r"days (0|[1-9][0-9]{0,5})")
_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was signed away: of the log `origin` the first `size` events, whose tree has `root`, 32 bytes.

    `days`: for how many events are kept; 0 for a log that came from another installation as it is. `made_at` is the
    clock of who signed. Raises NoteError for what has no text.
    """

    origin: str
    made_at: datetime
    size: int
    root: bytes
    days: int

    def __post_init__(self) -> None:
        if not is_size(self.size) or not self.size or self.size % TILE_WIDTH or not is_hash(self.root):
            raise NoteError(f"an erasure is of whole tiles of {TILE_WIDTH} events, and has their root")

    @property
    def text(self) -> str:
        made_at = self.made_at.astimezone(UTC).isoformat(timespec="microseconds")
        root = b64encode(self.root).decode()
        return f"{self.origin}\nerased {self.size} {made_at}\n{root}\ndays {self.days}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note; raises NoteError unless it is exactly what `text` gives."""
        lines = text.split("\n")
        told = _ERASED_LINE.fullmatch(lines[1]) if len(lines) == _LINES else None
        days = _DAYS_LINE.fullmatch(lines[3]) if told else None
        if told is None or days is None:
            raise NoteError("no erasure: an origin, a size and a time, a root, days, each on a line of its own")
        try:
            made_at = datetime.fromisoformat(told[2]).astimezone(UTC)
        except (ValueError, OverflowError):
            raise NoteError("no erasure: its second line has no time") from None
        erasure = cls(lines[0], made_at, int(told[1]), canonical_base64(lines[2]) or b"", int(days[1]))
        if erasure.text != text:
            raise NoteError("no erasure: its time is not in the form that a log writes")
        return erasure

    def details(self, note: bytes) -> dict[str, Any]:
        """Give what the event says of it."""
        return {"events": self.size, "root": self.root.hex(), "days": self.days, "signed": note.decode()}


def open_erasure(canonical: bytes, *, origin: str, keys: Sequence[VerifierKey]) -> Erasure:
    """Read the erasure that an event tells of, signed for the log `origin` by one of `keys` that counted at the time.

    Raises NoteError for an event that tells of none, or of one that the log has not signed, or of another than is
    signed.
    """
    try:
        form = json.loads(canonical)
        told, signed = form["details"], form["details"]["signed"].encode()
        action = form["action"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NoteError("no event that tells of an erasure") from None
    note = Note.parse(signed)
    erasure = Erasure.parse(note.text)
    note.verify(keys=keys, at=erasure.made_at)
    if action != ERASED or told != erasure.details(signed):
        raise NoteError("the event says something else than was signed")
    if erasure.origin != origin:
        raise NoteError("an erasure of another log")
    return erasure
