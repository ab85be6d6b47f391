"""Queries of DNS (RFC 1035), read strictly and answered without asking anybody."""

import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

A, AAAA, SVCB, HTTPS = 1, 28, 64, 65
TYPE_NAMES: Final = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
                     35: "NAPTR", 64: "SVCB", 65: "HTTPS", 252: "AXFR", 255: "ANY", 257: "CAA"}  # fmt: skip
MOST_BYTES: Final = 1232
_HEADER: Final = struct.Struct(">HHHHHH")
_FIXED: Final = struct.Struct(">HHIH")
_RESPONSE, _RECURSION_DESIRED, _RECURSION_AVAILABLE, _TRUNCATED = 0x8000, 0x0100, 0x0080, 0x0200
_OPCODES: Final = 0x7800
_IN: Final = 1
_OPT: Final = 41
_LONGEST_LABEL, _LONGEST_NAME = 63, 255
_TTL_SECONDS: Final = 1


class Code(IntEnum):
    OK = 0
    FORMAT = 1
    NO_SUCH_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class Query:
    """One question of class IN. `name` is ASCII as asked, without its last dot; `question` its bytes, to repeat."""

    ident: int
    recursion: bool
    name: str
    kind: int
    question: bytes

    def answer(self, code: Code, address: str | None = None) -> bytes:
        """Write the response; with an address, one A record that lives a second."""
        flags = _flags(code, recursion=self.recursion)
        head = _HEADER.pack(self.ident, flags, 1, 0 if address is None else 1, 0, 0) + self.question
        if address is None:
            return head
        return head + b"\xc0\x0c" + _FIXED.pack(A, _IN, _TTL_SECONDS, 4) + socket.inet_aton(address)


class NoQueryError(ValueError):
    """Bytes that are no query one answers; `reply` is what to say, empty for nothing."""

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message)
        self.reply = reply


def parse_query(packet: bytes) -> Query:
    """Read one query: one question, no compression, no records but one OPT, nothing behind. Raises NoQueryError."""
    if len(packet) < _HEADER.size:
        raise NoQueryError("shorter than a header")
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
    if flags & _RESPONSE:
        raise NoQueryError("a response")
    recursion = bool(flags & _RECURSION_DESIRED)

    def fault(message: str, code: Code = Code.FORMAT) -> NoQueryError:
        return NoQueryError(message, _HEADER.pack(ident, _flags(code, recursion=recursion), 0, 0, 0, 0))

    if flags & _OPCODES:
        raise fault("no standard query", Code.NOT_IMPLEMENTED)
    if len(packet) > MOST_BYTES or flags & _TRUNCATED or (questions, answers, authorities) != (1, 0, 0):
        raise fault("too long, or not one question alone")
    try:
        name, end = _read_name(packet)
    except ValueError as error:
        raise fault(str(error)) from None
    if len(packet) < end + 4:
        raise fault("the question is cut")
    kind, group = struct.unpack_from(">HH", packet, end)
    end += 4
    if group != _IN:
        raise fault("a class that is not IN", Code.REFUSED)
    if _end_of_options(packet, end, count=additional) != len(packet):
        raise fault("something behind the question")
    return Query(ident, recursion, name, kind, packet[_HEADER.size : end])


def _flags(code: Code, *, recursion: bool) -> int:
    return _RESPONSE | _RECURSION_AVAILABLE | (_RECURSION_DESIRED if recursion else 0) | code


def _read_name(packet: bytes) -> tuple[str, int]:
    """Read labels up to the root; raises ValueError."""
    labels: list[str] = []
    at = _HEADER.size
    while True:
        if at >= len(packet):
            raise ValueError("the name is cut")
        length = packet[at]
        if length > _LONGEST_LABEL:
            raise ValueError("a compressed or reserved label")
        label = packet[at + 1 : at + 1 + length]
        at += 1 + length
        if at - _HEADER.size > _LONGEST_NAME or len(label) != length:
            raise ValueError("the name is cut, or too long")
        if length == 0:
            return ".".join(labels), at
        if not label.isascii() or b"." in label:
            raise ValueError("a label with other bytes than those of names")
        labels.append(label.decode())


def _end_of_options(packet: bytes, start: int, *, count: int) -> int:
    """Where the only record that may follow ends: an OPT of the root (RFC 6891); -1 when it is none."""
    if not count:
        return start
    if count != 1 or len(packet) < start + 11 or packet[start] != 0:
        return -1
    kind, _, _, length = _FIXED.unpack_from(packet, start + 1)
    return start + 11 + length if kind == _OPT else -1
