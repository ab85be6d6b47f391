"""Which values of an environment are secrets, and how they may be written."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

LEAST_BYTES: Final = 6
"""A shorter value is no secret worth the name, and masking it would make output unreadable."""
MOST_BYTES: Final = 256
"""A longer one is masked in pieces of this length."""
MOST_PIECES: Final = 1024
_SECRET_NAME: Final = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIALS?)$", re.IGNORECASE)
_ADDRESS_PASSWORD: Final = re.compile(r"://[^:/@\s]*:([^@/\s]+)@")


_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")
_UNICODE: Final = re.compile(r"\\u[0-9a-f]{4}")
_MARKUP: Final = re.compile(r"[<>&]")
_WARY: Final = re.compile(r"[<>&'+`]")


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Pick the values whose name says that they are secret, and passwords in addresses whatever the name."""
    found = [value for name, value in environment.items() if _SECRET_NAME.search(name)]
    found += [match.group(1) for value in environment.values() for match in _ADDRESS_PASSWORD.finditer(value)]
    return tuple(dict.fromkeys(found))


def pieces_of(values: Iterable[str]) -> tuple[bytes, ...]:
    """List what to look for, at most 1 024 pieces: each line of each value, then its JSON, HTML, URL, base64 forms."""
    known = list(values)
    plain = (piece for value in known for line in _lines(value) for piece in _cut(line))
    written = (piece for value in known for form in _forms(value) for piece in _cut(form))
    found: dict[bytes, None] = {}
    for pieces in (plain, written):
        for piece in pieces:
            if len(found) == MOST_PIECES:
                return tuple(found)
            found[piece] = None
    return tuple(found)


def _lines(value: str) -> list[bytes]:
    """Take a value of several lines (a PEM key) line by line: it is often shown indented."""
    return [line.strip().encode(errors="surrogatepass") for line in value.splitlines()]


def _cut(form: bytes) -> Iterator[bytes]:
    """Cut into pieces of which none is too short: the last one overlaps the one before it."""
    for start in range(0, len(form), MOST_BYTES):
        piece = form[start : start + MOST_BYTES]
        if start and len(piece) < MOST_BYTES:
            piece = form[-MOST_BYTES:]
        if len(piece) >= LEAST_BYTES:
            yield piece


def _written(value: str) -> Iterator[str]:
    """Give what is made of it by writers of JSON (here, PHP, Go and Rails, .NET) and by those of HTML."""
    ascii_only, readable = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    yield from (ascii_only, readable, ascii_only.replace("/", "\\/"), readable.replace("/", "\\/"))
    yield _MARKUP.sub(lambda found: f"\\u{ord(found[0]):04x}", readable)
    shouted = _UNICODE.sub(lambda found: found[0].upper().replace("U", "u"), ascii_only).replace('\\"', "\\u0022")
    yield _WARY.sub(lambda found: f"\\u{ord(found[0]):04X}", shouted)
    plain = html.escape(value.strip(), quote=False)
    yield plain
    for double, single in (("&quot;", "&#x27;"), ("&quot;", "&#39;"), ("&quot;", "&#039;"), ("&#34;", "&#39;")):
        yield plain.replace('"', double).replace("'", single)


def _forms(value: str) -> Iterator[bytes]:
    raw = value.encode(errors="surrogatepass")
    if len(raw) < LEAST_BYTES:
        return
    yield raw.strip()
    for written in _written(value):
        yield written.encode(errors="surrogatepass")
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted.encode()
        yield _PERCENT.sub(lambda found: found[0].lower(), quoted).encode()
    for shift in range(3):
        # Base64 of the value somewhere in a text: what its neighbours share a character with is left out.
        padded = bytes(shift) + raw
        first, last = -(-8 * shift // 6), 8 * len(padded) // 6
        yield base64.b64encode(padded)[first:last]
        yield base64.urlsafe_b64encode(padded)[first:last]
