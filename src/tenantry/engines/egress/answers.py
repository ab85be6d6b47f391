"""Answers of HTTP/1.1 as they come back to who must not see certain pieces: read, hidden in, and written on.

Heads and bodies keep their lengths. A chunked body is cut anew, so that no border of a chunk divides a piece; its
extensions and trailers stay behind.
"""

import re
from collections import deque
from collections.abc import Iterable
from typing import Final

from tenantry.engines.egress.masking import LevelMask

_END: Final = b"\r\n\r\n"
_MOST_HEAD: Final = 128 << 10
_MOST_LINE: Final = 4096
_MOST_TRAILERS: Final = 16 << 10
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_SWITCHING, _NO_CONTENT, _NOT_MODIFIED, _FIRST_FINAL = 101, 204, 304, 200
_MOST_EXPECTED: Final = 1000


class BadAnswerError(ValueError):
    """What came is no answer that can be looked at; the message says why."""


class Answers:
    """Of one connection, in the order of its requests. `midway`: the present one has begun and not ended."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = tuple(pieces)
        self._held = bytearray()
        self._methods: deque[str] = deque()
        self._mask = LevelMask(self._pieces)
        self._body: _Body | None = None
        self.midway = False

    def due(self) -> bool:
        """Whether some answer has not come to its end."""
        return bool(self._methods) or self._body is not None

    def expect(self, method: str) -> None:
        """Say that a request was sent; raises BadAnswerError when far too many wait."""
        if len(self._methods) >= _MOST_EXPECTED:
            raise BadAnswerError("too many requests wait for answers")
        self._methods.append(method)

    def feed(self, data: bytes) -> bytes:
        """Give what may be passed on; raises BadAnswerError."""
        self._held += data
        out = bytearray()
        while self._held:
            if self._body is None:
                head = self._take_head()
                if head is None:
                    break
                out += head
            if self._body is not None:
                before = len(self._held)
                came, done = self._body.take(self._held)
                out += self._body.written(self._mask.feed(came, last=done), last=done)
                if done:
                    self._body, self.midway = None, False
                elif len(self._held) == before:
                    break
        return bytes(out)

    def end(self) -> bytes:
        """Take the end of the connection; gives what is left, raises BadAnswerError when something is missing."""
        if self._body is not None and self._body.until_end:
            self._body, self.midway = None, False
            return self._mask.feed(b"", last=True)
        if self.due() or self._held:
            raise BadAnswerError("it is cut")
        return b""

    def _take_head(self) -> bytes | None:
        end = self._held.find(_END)
        if end > _MOST_HEAD or (end < 0 and len(self._held) > _MOST_HEAD):
            raise BadAnswerError("its head is too long")
        if end < 0:
            return None
        head = bytes(self._held[: end + len(_END)])
        del self._held[: len(head)]
        if not self._methods:
            raise BadAnswerError("nothing was asked")
        first, *lines = head[: -len(_END)].split(b"\r\n")
        status = _status(first)
        fields = _fields(lines)
        if status == _SWITCHING:
            raise BadAnswerError("it changes to another protocol")
        if status < _FIRST_FINAL:
            return self._mask.whole(head)
        method = self._methods.popleft()
        self._mask = LevelMask(self._pieces)
        if method != "HEAD" and status not in (_NO_CONTENT, _NOT_MODIFIED):
            self._body = _body_of(fields)
        self.midway = self._body is not None
        return self._mask.whole(head)


class _Body:
    """A body of so many bytes, or with None until the end."""

    def __init__(self, length: int | None) -> None:
        self._left = length

    @property
    def until_end(self) -> bool:
        return self._left is None

    def take(self, held: bytearray) -> tuple[bytes, bool]:
        """Take content from the front of `held`, and tell whether that was all."""
        taken = bytes(held if self._left is None else held[: self._left])
        del held[: len(taken)]
        if self._left is not None:
            self._left -= len(taken)
        return taken, self._left == 0

    def written(self, content: bytes, *, last: bool) -> bytes:  # noqa: ARG002 - others end otherwise
        """Give it as it goes on."""
        return content


class _Chunks(_Body):
    def __init__(self) -> None:
        super().__init__(0)
        self._chunk = 0
        self._stage = "size"
        self._trailing = 0

    @property
    def until_end(self) -> bool:
        return False

    def take(self, held: bytearray) -> tuple[bytes, bool]:
        content = bytearray()
        while held:
            if self._stage == "data":
                piece = held[: self._chunk]
                del held[: len(piece)]
                content += piece
                self._chunk -= len(piece)
                if not self._chunk:
                    self._stage = "border"
                continue
            line = _take_line(held)
            if line is None:
                break
            if self._stage == "border":
                if line:
                    raise BadAnswerError("a chunk does not end where it should")
                self._stage = "size"
            elif self._stage == "size":
                self._begin(line)
            elif not line:
                return bytes(content), True
            else:
                self._trailing += len(line)
                if self._trailing > _MOST_TRAILERS:
                    raise BadAnswerError("its trailers are too long")
        return bytes(content), False

    def _begin(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadAnswerError("a chunk has no size")
        self._chunk = int(match[1], 16)
        self._stage = "data" if self._chunk else "trailers"

    def written(self, content: bytes, *, last: bool) -> bytes:
        framed = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
        return framed + (b"0\r\n\r\n" if last else b"")


def _take_line(held: bytearray) -> bytes | None:
    end = held.find(b"\r\n")
    if end > _MOST_LINE or (end < 0 and len(held) > _MOST_LINE):
        raise BadAnswerError("a line of it is too long")
    if end < 0:
        return None
    line = bytes(held[:end])
    del held[: end + 2]
    return line


def _status(line: bytes) -> int:
    match = _STATUS.fullmatch(line)
    if match is None:
        raise BadAnswerError("its first line is none of HTTP/1.1")
    return int(match[1])


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or b"\n" in value or b"\r" in value or b"\0" in value:
            raise BadAnswerError("a field is folded, or none")
        found.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return found


def _body_of(fields: dict[bytes, list[bytes]]) -> _Body | None:
    """Tell how the body ends; None where it has no bytes. Refuses what cannot be looked into."""
    codings = [each.lower() for each in fields.get(b"content-encoding", ())]
    if any(each not in (b"", b"identity") for each in codings):
        raise BadAnswerError("it is compressed, though plain content was asked for")
    lengths = set(fields.get(b"content-length", ()))
    transfer = fields.get(b"transfer-encoding")
    if transfer is not None:
        if lengths or [each.lower() for each in transfer] != [b"chunked"]:
            raise BadAnswerError("it tells the end of its body in another way than one")
        return _Chunks()
    if not lengths:
        return _Body(None)
    if len(lengths) != 1 or not _LENGTH.fullmatch(length := lengths.pop()):
        raise BadAnswerError("its Content-Length is no number")
    return _Body(int(length)) if int(length) else None
