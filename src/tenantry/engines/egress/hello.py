"""The ClientHello of TLS (RFC 8446 4.1.2, RFC 6066 3), read strictly, without a TLS library."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

ALERT_DENIED: Final = bytes.fromhex("15 0301 0002 02 31")
"""Fatal, access_denied."""
_HANDSHAKE, _CLIENT_HELLO, _HOST_NAME = 22, 1, 0
_MAJOR: Final = 3
_LONGEST_RECORD: Final = 1 << 14
_MOST_RECORDS: Final = 64
_SERVER_NAME, _PROTOCOLS, _ENCRYPTED_HELLO = 0, 16, 0xFE0D
_OLD_ENCRYPTED_NAMES: Final = 0xFFCE
_LONGEST_NAME: Final = 255


class NoHelloError(ValueError):
    """The bytes are no ClientHello one can judge; the message says why."""


@dataclass(frozen=True, slots=True)
class Hello:
    """`name` is in lower case, as sent otherwise; None when it names no host. `encrypted`: it hides another one.

    `protocols` are those it would speak inside (ALPN), None where it does not say.
    """

    name: str | None
    encrypted: bool
    protocols: tuple[bytes, ...] | None = field(default=None, compare=False)


def parse_hello(stream: bytes | bytearray, *, most_bytes: int) -> Hello | None:
    """Read a hello from the start of a stream, from as many records as it takes; None while it is not all there.

    What comes behind the hello in records of their own is not looked at; in the hello's last record nothing may.
    Raises NoHelloError, at the latest when the records are longer than `most_bytes`.
    """
    message = bytearray()
    for fragment in _fragments(stream, most_bytes):
        message += fragment
        if message[0] != _CLIENT_HELLO:
            raise NoHelloError("this is no ClientHello")
        whole = 4 + int.from_bytes(message[1:4])
        if len(message) < 4:  # noqa: PLR2004 - type and length
            continue
        if whole > most_bytes:
            raise NoHelloError("it is too long")
        if len(message) > whole:
            raise NoHelloError("something follows it in its record")
        if len(message) == whole:
            return _read(bytes(message[4:]))
    return None


def _fragments(stream: bytes | bytearray, most_bytes: int) -> Iterator[bytes | bytearray]:
    """Yield what the handshake records hold that are all there."""
    at = 0
    for _ in range(_MOST_RECORDS):
        header = stream[at : at + 5]
        if (header and header[0] != _HANDSHAKE) or (len(header) > 1 and header[1] != _MAJOR):
            raise NoHelloError("this is not TLS")
        if len(header) < 5:  # noqa: PLR2004 - type, version, length
            return
        length = int.from_bytes(header[3:5])
        if not 0 < length <= _LONGEST_RECORD:
            raise NoHelloError("a record of no length there is")
        at += 5 + length
        if at > most_bytes:
            raise NoHelloError("it is too long")
        if len(stream) < at:
            return
        yield stream[at - length : at]
    raise NoHelloError("it comes in too many records")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise NoHelloError("a length in it is wrong")
        self._at += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        """Take what a length of `size` bytes announces."""
        return self.take(self.number(size))


def _read(body: bytes) -> Hello:
    reader = _Reader(body)
    if reader.take(2)[0] != _MAJOR:
        raise NoHelloError("this is not TLS")
    reader.take(32)  # random
    session, ciphers, compressions = reader.vector(1), reader.vector(2), reader.vector(1)
    if len(session) > 32 or not ciphers or len(ciphers) % 2 or not compressions:  # noqa: PLR2004 - RFC 8446 4.1.2
        raise NoHelloError("a length in it is wrong")
    extensions = _Reader(reader.vector(2) if reader else b"")
    if reader:
        raise NoHelloError("something follows its extensions")
    found: dict[int, bytes] = {}
    while extensions:
        kind, value = extensions.number(2), extensions.vector(2)
        if kind in found:
            raise NoHelloError("an extension comes twice")
        found[kind] = value
    name = _read_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    protocols = _read_protocols(found[_PROTOCOLS]) if _PROTOCOLS in found else None
    return Hello(name, bool(found.keys() & {_ENCRYPTED_HELLO, _OLD_ENCRYPTED_NAMES}), protocols)


def _read_protocols(value: bytes) -> tuple[bytes, ...]:
    outer = _Reader(value)
    names = _Reader(outer.vector(2))
    found = []
    while names:
        found.append(names.vector(1))
    if outer or not all(found):
        raise NoHelloError("the protocols it offers are none")
    return tuple(found)


def _read_name(value: bytes) -> str:
    outer = _Reader(value)
    names = _Reader(outer.vector(2))
    kind, name = names.number(1), names.vector(2)
    if outer or names or kind != _HOST_NAME or not 0 < len(name) <= _LONGEST_NAME:
        raise NoHelloError("it does not name one host")
    if not all(0x21 <= byte < 0x7F for byte in name):  # noqa: PLR2004 - printable ASCII
        raise NoHelloError("the name of its host is not ASCII")
    return name.decode().lower()
