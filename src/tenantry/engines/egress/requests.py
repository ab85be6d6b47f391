"""Heads of HTTP/1.1 requests (RFC 9112), read so strictly that no two readers can take one for two different things.

A line ends with CRLF and nothing else; fields are not folded; a body's length is told once, by one way. What is read
is written anew by `Request.wire`, so nothing of a sandbox's spelling goes on.
"""

import re
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rf"({_WORD}) ([\x21-\x7e]+) HTTP/1\.([01])".encode())
_NAME: Final = re.compile(_WORD.encode())
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_ABSOLUTE: Final = re.compile(r"(?i:(https?))://([^/?#@]+)([/?][^#]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_END: Final = b"\r\n\r\n"
_MOST_FIELDS: Final = 200
_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_ONCE: Final = _FRAMING | {b"upgrade"}
#: Between one machine and the next, so never passed on.
_HOPS: Final = frozenset(
    {b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"http2-settings", b"upgrade"}
)


class BadRequestError(ValueError):
    """The head is not one to pass on; the message says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """`target` as in the first line; of an absolute one `authority` is its host and port, and `target` the rest.

    `length` of the body in bytes, or `chunked`. `upgrade` is the protocol it would rather speak, in lower case.
    """

    method: str
    target: str
    minor: int
    authority: str | None
    scheme: str | None
    host: str | None
    length: int
    chunked: bool
    upgrade: str
    fields: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def wire(self, *, close: bool = False) -> bytes:
        """Write the head for the server it is meant for; with `close`, as the last on its connection."""
        named = {
            part.strip().lower()
            for name, value in self.fields
            if name.lower() == b"connection"
            for part in value.split(b",")
        }
        lines = [f"{self.method} {self.target} HTTP/1.{self.minor}".encode()]
        for name, value in self.fields:
            lowered = name.lower()
            if lowered != b"connection" and lowered not in _HOPS:
                lines.append(name + b": " + value)
        if close or b"close" in named:
            lines.append(b"Connection: close")
        elif self.minor == 0 and b"keep-alive" in named:
            lines.append(b"Connection: keep-alive")
        return b"\r\n".join(lines) + _END


def find_end(stream: bytes | bytearray, *, start: int = 0) -> int:
    """Where the head ends that `stream` begins with, -1 while it does not; `start` bytes were looked at before."""
    at = stream.find(_END, max(0, start - len(_END) + 1))
    return -1 if at < 0 else at + len(_END)


def parse_request(head: bytes) -> Request:
    """Read a head that ends with its empty line; raises BadRequestError."""
    if not head.endswith(_END) or head.count(_END) != 1:
        raise BadRequestError("its head does not end where it should")
    first, *lines = head[: -len(_END)].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequestError("its first line is none of HTTP/1.1")
    if len(lines) > _MOST_FIELDS:
        raise BadRequestError("it has too many fields")
    fields = tuple(_read_field(line) for line in lines)
    single = _single(fields)
    method, target, minor = match[1].decode(), match[2].decode(), int(match[3])
    scheme, authority, rest = _split_target(method, target)
    length, chunked = _framing(single, minor)
    host = single.get(b"host")
    if host is None and method != "CONNECT":
        raise BadRequestError("it names no Host")
    return Request(
        method=method,
        target=rest,
        minor=minor,
        authority=authority,
        scheme=scheme,
        host=None if host is None else host.decode("latin-1"),
        length=length,
        chunked=chunked,
        upgrade=single.get(b"upgrade", b"").decode("latin-1").lower(),
        fields=fields,
    )


def _read_field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise BadRequestError("a field is folded, or has bytes no field has")
    return name, value.strip(b" \t")


def _single(fields: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
    """Collect what may come once only, by name; a name that only looks like one of them is refused."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        lowered = name.lower()
        if lowered.replace(b"_", b"-") in _FRAMING and lowered not in _FRAMING:
            raise BadRequestError("a field that some take for another")
        if lowered in _ONCE:
            if lowered in found:
                raise BadRequestError(f"{lowered.decode()} comes twice")
            found[lowered] = value
    return found


def _framing(single: dict[bytes, bytes], minor: int) -> tuple[int, bool]:
    length, coding = single.get(b"content-length"), single.get(b"transfer-encoding")
    if length is not None and coding is not None:
        raise BadRequestError("it tells the length of its body in two ways")
    if coding is not None:
        if coding.lower() != b"chunked" or minor == 0:
            raise BadRequestError("its body is coded in another way than chunked")
        return 0, True
    if length is not None and not _LENGTH.fullmatch(length):
        raise BadRequestError("its Content-Length is no number")
    return int(length or 0), False


def _split_target(method: str, target: str) -> tuple[str | None, str | None, str]:
    """Scheme, authority and what is left."""
    if method == "CONNECT":
        return None, target, target
    if target.startswith("/"):
        return None, None, target
    if target == "*" and method == "OPTIONS":
        return None, None, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequestError("its target is neither a path nor an address")
    rest = match[3] or ("*" if method == "OPTIONS" else "/")
    return match[1].lower(), match[2], rest if rest.startswith(("/", "*")) else f"/{rest}"
