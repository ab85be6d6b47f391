"""What of a request to a port of a sandbox is ours and what is the port's: the address, the token, the headers.

All after `/ports/{port}` is the port's own, its query too: no name in it means anything to the guard but the token's.
"""

from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.types import Scope

from tenantry.foundation.errors import Invalid

TOKEN_HEADER: Final = "x-tenantry-port-token"  # noqa: S105 - the name of a header
TOKEN_QUERY: Final = "tenantry_port_token"  # noqa: S105 - the name of a parameter
_QUERY: Final = "tenantry.port_query"
_SEGMENTS_BEFORE: Final = 9
"""Of `/api/v1/workspaces/{ws}/sandboxes/{sandbox}/ports/{port}/`."""
_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding"
    b" upgrade http2-settings expect".split()
)
_OURS: Final = frozenset(
    b"host authorization cookie signature signature-input content-digest client-cert x-tenant-id x-workspace-id"
    b" x-csrf-token forwarded traceparent tracestate content-length".split()
)
_OUR_PREFIXES: Final = (b"x-tenantry-", b"x-forwarded-")
_SHOWN: Final = frozenset(
    b"accept-ranges age allow content-disposition content-encoding content-language content-length content-range"
    b" content-type date etag expires last-modified location retry-after vary x-frame-options".split()
)
"""Headers of an answer that may be seen: none that reaches beyond the page itself, as those that a proxy before us
would obey (`X-Accel-Redirect`, `X-Sendfile`)."""

_CONFINING: Final = (
    (b"content-security-policy", b"sandbox"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),  # the token may stand in the address
)

Headers = list[tuple[bytes, bytes]]


def set_aside_query(scope: Scope) -> None:
    """Leave of a query what the guard may read: nothing. The port reads it."""
    scope[_QUERY], scope["query_string"] = scope["query_string"], b""


def shown_token(request: Request) -> str | None:
    """Take the one token of a request to a port; raises Invalid where there are two."""
    if _QUERY not in request.scope:
        return None
    found = request.headers.getlist(TOKEN_HEADER)
    name = f"{TOKEN_QUERY}=".encode()
    found += [
        unquote_to_bytes(part[len(name) :]).decode("ascii", "replace")
        for part in request.scope[_QUERY].split(b"&")
        if part.startswith(name)
    ]
    if len(found) > 1:
        raise Invalid("header_ambiguous", f"{TOKEN_HEADER}: must stand once, in header or query", layer="guard")
    return found[0] if found else None


def target_of(request: Request) -> bytes:
    """Tell what is asked of the port, as it was written; raises Invalid `address_unreadable` for a bent address."""
    segments = request.scope["raw_path"].split(b"/", _SEGMENTS_BEFORE)
    named = request.path_params
    if len(segments) <= _SEGMENTS_BEFORE or segments[4:9] != [
        *(named["ws"].encode(), b"sandboxes", named["sandbox"].encode()),
        *(b"ports", named["port"].encode()),
    ]:
        raise Invalid("address_unreadable", "what leads to the port must be written plainly", layer="api")
    query = b"&".join(
        part for part in request.scope[_QUERY].split(b"&") if not part.startswith(f"{TOKEN_QUERY}=".encode())
    )
    path: bytes = b"/" + segments[_SEGMENTS_BEFORE]
    return path + (b"?" + query if query else b"")


def inward(request: Request, port: int) -> Headers:
    """Give the headers that the port sees: none that says who asks, nor how the connection is to be kept."""
    named = {
        token.strip().lower()
        for name, value in request.headers.raw
        if name == b"connection"
        for token in value.split(b",")
    }
    kept = [
        (name, value)
        for name, value in request.headers.raw
        if name not in _HOP and name not in _OURS and name not in named and not name.startswith(_OUR_PREFIXES)
    ]
    length = request.headers.getlist("content-length")
    framing = [(b"content-length", length[0].encode())] if length else []
    if not length and "transfer-encoding" in request.headers:
        framing = [(b"transfer-encoding", b"chunked")]
    return [(b"host", f"127.0.0.1:{port}".encode()), *kept, *framing, (b"connection", b"close")]


def outward(headers: Headers, *, prefix: str, port: int) -> Headers:
    """Give the headers that whoever asks sees. A page of a sandbox is a document of nobody's origin."""
    kept = [
        (name, _moved(value, prefix=prefix, port=port) if name == b"location" else value)
        for name, value in headers
        if name in _SHOWN
    ]
    return [*kept, *_CONFINING]


def _moved(location: bytes, *, prefix: str, port: int) -> bytes:
    """Let a redirect within the port stay within the port."""
    for own in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        if location == own.encode() or location.startswith(f"{own}/".encode()):
            location = location[len(own) :] or b"/"
            break
    within = location.startswith(b"/") and not location.startswith((b"//", b"/\\"))
    return prefix.encode() + location if within else location
