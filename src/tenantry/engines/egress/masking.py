"""Hides known pieces in a stream by as many other bytes, so that no length anywhere changes."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

_HIDDEN: Final = b"*"


class LevelMask:
    """One stream; however it is cut, what comes out is the same. `last` releases all."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = sorted(set(pieces))
        self._longest = max(map(len, self._pieces), default=0)
        self._held = b""
        self._hidden = 0  # so many bytes of what is held are part of a piece that began before them

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """Give what can be given: all but an end that could be the beginning of a piece."""
        held = self._held + data
        spans = self._spans(held)
        if self._hidden:
            spans.append((0, self._hidden))
        end = len(held) if last else len(held) - self._beginning(held)
        shown = bytearray(held)
        for start, stop in spans:
            shown[start:stop] = _HIDDEN * (stop - start)
        self._hidden = max((stop - end for start, stop in spans if start <= end < stop), default=0)
        self._held = held[end:]
        return bytes(shown[:end])

    def whole(self, data: bytes) -> bytes:
        """Hide in what is no part of the stream."""
        shown = bytearray(data)
        for start, stop in self._spans(data):
            shown[start:stop] = _HIDDEN * (stop - start)
        return bytes(shown)

    def _spans(self, held: bytes) -> list[tuple[int, int]]:
        found = []
        for piece in self._pieces:
            at = held.find(piece)
            while at >= 0:
                found.append((at, at + len(piece)))
                at = held.find(piece, at + 1)
        return found

    def _beginning(self, held: bytes) -> int:
        """Count the bytes of the longest end that some piece begins with and does not end with."""
        for size in range(min(self._longest - 1, len(held)), 0, -1):
            end = held[-size:]
            at = bisect_left(self._pieces, end)
            while at < len(self._pieces) and self._pieces[at].startswith(end):
                if len(self._pieces[at]) > size:
                    return size
                at += 1
        return 0
