"""Signed notes as they are kept in files: one alone, or a JSON object a line with the note in it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from tenantry.client.errors import BadRequest

_MAX_LINE_BYTES: Final = 2 << 20
"""A note has at most 1 MiB, and the line around it hardly more."""


class NoteFiles:
    """The notes of files, read one at a time: a witness's file of a day is larger than what one would hold in memory.

    A file of lines may have some that cannot be read, as a crash of its writer leaves them: they are passed over and
    counted in `unreadable`. A file with none that can raises BadRequest `checkpoint_unreadable`, one that is not there
    `file_unreadable`.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.unreadable = 0

    def __iter__(self) -> Iterator[bytes]:
        for each in self._files:
            try:
                with each.open("rb") as file:
                    yield from self._notes(file, each)
            except OSError as error:
                raise BadRequest("file_unreadable", f"{each}: {error.strerror or error}") from error

    def _notes(self, file: BinaryIO, name: Path) -> Iterator[bytes]:
        begin = file.read(1)
        if begin != b"{":
            yield begin + file.read(_MAX_LINE_BYTES)
            return
        file.seek(0)
        readable = False
        for line in _lines(file):
            note = _note_in(line)
            if note is None:
                self.unreadable += 1
            else:
                readable = True
                yield note
        if not readable:
            raise BadRequest("checkpoint_unreadable", f"{name}: neither a checkpoint nor a witness's file of them")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Give the lines that are not empty; of one that is too long the beginning."""
    while line := file.readline(_MAX_LINE_BYTES):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(_MAX_LINE_BYTES)
        if line.strip():
            yield line


def _note_in(line: bytes) -> bytes | None:
    try:
        note: bytes = json.loads(line)["note"].encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return note
