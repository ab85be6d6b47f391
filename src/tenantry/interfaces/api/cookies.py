"""The cookies of the console, and what keeps other sites from using them.

Over https their names begin with `__Host-`: a browser takes them from this very host alone, and sends them nowhere
else. On plain http, which is for loopback, that prefix cannot be, and the names go without it.
"""

import hmac
import re
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tenantry.capabilities.identity.service import KeyHasher
from tenantry.foundation.errors import Denied, Invalid, Unavailable
from tenantry.foundation.settings import Settings
from tenantry.interfaces.api.protocol import SOCKET

LOGIN: Final = "tenantry"
FLOW: Final = "tenantry-flow"
CSRF_HEADER: Final = "X-CSRF-Token"
FLOW_SECONDS: Final = 600
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")


def origin_of(request: Request, settings: Settings) -> str:
    """Tell the origin that browsers know this server by; raises Unavailable where nobody has said it."""
    if settings.server.public_url is not None:
        return settings.server.public_url
    hosts = request.headers.getlist("host")
    if len(hosts) == 1 and _LOOPBACK.fullmatch(hosts[0]):
        return f"http://{hosts[0]}"
    raise Unavailable(
        "public_url_missing", "logins by browser need server.public_url where it is not loopback", layer="api"
    )


def is_secure(settings: Settings) -> bool:
    return (settings.server.public_url or "").startswith("https://")


def name_of(what: str, settings: Settings) -> str:
    return f"__Host-{what}" if is_secure(settings) else what


def read_cookie(request: Request, what: str, settings: Settings) -> str | None:
    """Read one of ours; raises Invalid where it stands twice: which of them counts must not depend on the order."""
    name = name_of(what, settings)
    found = []
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            key, separator, value = pair.strip().partition("=")
            if separator and key == name:
                found.append(value)
    if len(found) > 1:
        raise Invalid("header_ambiguous", f"Cookie: {name} must stand once", layer="guard")
    return found[0] if found and found[0] else None


def set_cookie(response: Response, what: str, value: str, *, seconds: int, settings: Settings) -> None:
    response.set_cookie(
        name_of(what, settings),
        value,
        max_age=seconds,
        path="/",
        secure=is_secure(settings),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response, what: str, settings: Settings) -> None:
    set_cookie(response, what, "", seconds=0, settings=settings)


def seconds_until(moment: datetime, now: datetime) -> int:
    return max(0, int((moment - now).total_seconds()))


def csrf_token(cookie: str, hasher: KeyHasher) -> str:
    """Make what a page must show beside the cookie; it follows from the cookie and is no use without it."""
    return hasher.derive("csrf", cookie)


def require_same_site(request: Request, cookie: str, *, hasher: KeyHasher, settings: Settings) -> None:
    """Raise Denied `csrf_refused` for a change, or a WebSocket, that a page of ours did not send.

    A page can read what any WebSocket sends and can give it no header of its own: its `Origin` alone tells whose it is.
    """
    socket = SOCKET in request.scope
    if request.method in _SAFE and not socket:
        return
    origins = request.headers.getlist("origin")
    ours = origin_of(request, settings)
    if len(origins) != 1 or not _same_origin(origins[0], ours):
        raise _refused("Origin")
    if socket:
        return
    shown = request.headers.getlist(CSRF_HEADER)
    if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(), csrf_token(cookie, hasher).encode()):
        raise _refused(CSRF_HEADER)


def require_no_foreign_page(request: Request, settings: Settings) -> None:
    """Raise Denied `csrf_refused` for a WebSocket of another site's page, where the browser itself shows the proof."""
    origins = request.headers.getlist("origin")
    if SOCKET not in request.scope or not origins:
        return
    if len(origins) != 1 or not _same_origin(origins[0], origin_of(request, settings)):
        raise _refused("Origin")


def _same_origin(found: str, ours: str) -> bool:
    first, second = urlsplit(found.lower()), urlsplit(ours.lower())
    return (first.scheme, first.netloc) == (second.scheme, second.netloc) and not first.path


def _refused(header: str) -> Denied:
    return Denied(
        "csrf_refused",
        f"{header}: a change by cookie needs this origin, and the token that GET /me shows as login.csrf_token; "
        "a WebSocket this origin",
        layer="guard",
        field=header,
    )
