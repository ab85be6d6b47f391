"""Checkpoints of C2SP (tlog-checkpoint): the size and root of a log as the text of a signed note.

origin            who keeps the log, as a URL without scheme: log.example/eu
size              decimal
root              base64
extension lines   opaque, seldom any
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.notes import Note, VerifierKey, canonical_base64
from tenantry.engines.merkle.tree import EMPTY_ROOT, is_hash, is_size

_DECIMAL: Final = re.compile("0|[1-9][0-9]{0,18}")
_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log was at `size`. Raises NoteError for what has no text; an empty log has EMPTY_ROOT."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_size(self.size) or not is_hash(self.root) or (self.size == 0 and self.root != EMPTY_ROOT):
            raise NoteError("a checkpoint has a size and the root of it")
        if any(not line or "\n" in line for line in (self.origin, *self.extensions)):
            raise NoteError("origin and extensions are lines, and not empty")

    @property
    def text(self) -> str:
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note; raises NoteError unless it is exactly what `text` gives."""
        lines = text.split("\n")
        if lines.pop() or len(lines) < _LINES or not _DECIMAL.fullmatch(lines[1]):
            raise NoteError("a checkpoint is an origin, a size, a root, each on a line of its own")
        root = canonical_base64(lines[2])
        return cls(lines[0], int(lines[1]), root or b"", tuple(lines[_LINES:]))

    @property
    def note(self) -> Note:
        """The note to be signed: `bytes(checkpoint.note.signed(signer))`."""
        return Note(self.text)


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint that counts, and who of those asked for has signed it: the log first, then witnesses."""

    checkpoint: Checkpoint
    signers: tuple[VerifierKey, ...]


def open_checkpoint(
    raw: bytes,
    *,
    origin: str,
    keys: Sequence[VerifierKey],
    at: datetime,
    witnesses: Sequence[VerifierKey] = (),
) -> Opened:
    """Read a signed checkpoint of the log `origin`, signed by one of its `keys` that is valid `at` that time.

    Signatures of `witnesses` are verified as well; how many are enough is for the caller to say. Raises NoteError for
    what is malformed, of another origin, signed by none of `keys`, or badly by any of them all. It says nothing of what
    was signed before: prove consistency with that.
    """
    note = Note.parse(raw)
    own = note.verify(keys=keys, at=at)
    everyone = note.verify(keys=[*keys, *witnesses], at=at)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin:
        raise NoteError("a checkpoint of another log")
    return Opened(checkpoint, (*own, *(one for one in everyone if one not in own)))
