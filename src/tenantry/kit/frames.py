"""Frames on a stream of bytes: one byte of kind, four bytes of length, the payload. What is too long is refused unread.

frame    kind (1 byte), length (4 bytes, big-endian, at most MOST_BYTES), payload
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MOST_BYTES: Final = 1 << 20
"""Longest payload."""
HEAD_BYTES: Final = 5
_HEAD: Final = struct.Struct(">BI")
_MOST_KIND: Final = 255


class FrameError(ValueError):
    """What came is no frame: whoever sent it is not heard any more."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    payload: bytes = field(default=b"", repr=False)


def pack(kind: int, payload: bytes = b"") -> bytes:
    """Write one frame; raises FrameError for a payload that is too long, or a kind that is no byte."""
    if not 0 <= kind <= _MOST_KIND or len(payload) > MOST_BYTES:
        raise FrameError(f"a kind from 0 to {_MOST_KIND}, and at most {MOST_BYTES} bytes")
    return _HEAD.pack(kind, len(payload)) + payload


def unpack_head(head: bytes) -> tuple[int, int]:
    """Read kind and length of the payload from `HEAD_BYTES`; raises FrameError."""
    if len(head) != HEAD_BYTES:
        raise FrameError(f"a head has {HEAD_BYTES} bytes")
    kind, length = _HEAD.unpack(head)
    if length > MOST_BYTES:
        raise FrameError(f"a payload has at most {MOST_BYTES} bytes")
    return kind, length


class FrameReader:
    """Takes bytes as they come, however cut; gives whole frames. After a FrameError it gives nothing more."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._broken = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take more bytes; raises FrameError, after the frames before what is wrong."""
        if self._broken:
            raise FrameError("what came before was no frame")
        self._held += data
        while len(self._held) >= HEAD_BYTES:
            try:
                kind, length = unpack_head(bytes(self._held[:HEAD_BYTES]))
            except FrameError:
                self._broken = True
                self._held.clear()
                raise
            end = HEAD_BYTES + length
            if len(self._held) < end:
                return
            payload = bytes(self._held[HEAD_BYTES:end])
            del self._held[:end]
            yield Frame(kind, payload)

    @property
    def rest(self) -> int:
        """Bytes of a frame that has not come whole."""
        return len(self._held)
