"""Bodies of HTTP/1.1 requests as they pass: what belongs to one, and where it ends."""

import re
from typing import Final

from tenantry.engines.egress.requests import BadRequestError

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})")
_LONGEST_LINE: Final = 18


class LengthBody:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def done(self) -> bool:
        return self._left == 0

    def feed(self, data: bytearray) -> bytes:
        """Take from the front of `data` what belongs to the body, as it is to be written."""
        taken = bytes(data[: self._left])
        del data[: len(taken)]
        self._left -= len(taken)
        return taken


class ChunkedBody:
    """A chunked body without extensions and trailers; chunks are written anew as they come. Raises BadRequestError."""

    def __init__(self) -> None:
        self._left = 0  # of the present chunk's bytes
        self._closing = False  # the CRLF behind a chunk is due
        self._last = False
        self.done = False

    def feed(self, data: bytearray) -> bytes:
        """Take from the front of `data` what belongs to the body, as it is to be written."""
        written = bytearray()
        while data and not self.done:
            if self._left:
                taken = data[: self._left]
                del data[: len(taken)]
                self._left -= len(taken)
                self._closing = self._left == 0
                written += taken
            elif self._closing or self._last:
                if not self._take_end(data):
                    break
                written += b"\r\n"
                self.done = self._last
                self._closing = False
            elif (size := self._take_size(data)) is None:
                break
            else:
                self._left, self._last = size, size == 0
                written += f"{size:x}\r\n".encode()
        return bytes(written)

    def _take_end(self, data: bytearray) -> bool:
        if not b"\r\n".startswith(bytes(data[:2])):
            raise BadRequestError("a chunk of its body does not end where it should, or trailers follow")
        if len(data) < 2:  # noqa: PLR2004 - CRLF
            return False
        del data[:2]
        return True

    def _take_size(self, data: bytearray) -> int | None:
        end = data.find(b"\r\n", 0, _LONGEST_LINE)
        if end < 0:
            if len(data) >= _LONGEST_LINE or not re.fullmatch(rb"[0-9A-Fa-f]{0,15}\r?", bytes(data)):
                raise BadRequestError("a chunk of its body has no size")
            return None
        match = _SIZE.fullmatch(bytes(data[:end]))
        if match is None:
            raise BadRequestError("a chunk of its body has no size")
        del data[: end + 2]
        return int(match[1], 16)


Body = LengthBody | ChunkedBody
