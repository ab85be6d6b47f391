"""What a handshake by cookie must show, and what of a request to a port goes in and comes out."""

from typing import Any

import pytest
from starlette.requests import Request

from tenantry.capabilities.identity.service import KeyHasher
from tenantry.foundation.errors import Denied
from tenantry.foundation.settings import ServerSettings, Settings
from tenantry.interfaces.api import cookies
from tenantry.interfaces.api.port_access import inward, outward, set_aside_query, shown_token
from tenantry.interfaces.api.protocol import SOCKET

SETTINGS = Settings(server=ServerSettings(public_url="https://ours.example"))


def request(*headers: tuple[str, str], query: str = "", socket: bool = False) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    return Request(scope | ({SOCKET: object()} if socket else {}))


def ask(*origins: str, socket: bool = True) -> None:
    found = request(*(("Origin", origin) for origin in origins), socket=socket)
    cookies.require_same_site(found, "cookie", hasher=KeyHasher(b"x" * 32), settings=SETTINGS)


@pytest.mark.parametrize(
    "origins", [(), ("https://evil.example",), ("null",), ("",), ("https://ours.example", "https://evil.example")]
)
def test_a_websocket_by_cookie_needs_an_origin_of_ours(origins: tuple[str, ...]) -> None:
    with pytest.raises(Denied, match="Origin"):
        ask(*origins)
    ask(*origins, socket=False)  # a plain GET shows nothing to another site's page
    ask("https://ours.example")


def test_nothing_that_says_who_asks_goes_in() -> None:
    ours = ("Authorization", "Cookie", "X-Tenant-Id", "X-Workspace-Id", "X-Tenantry-Port-Token", "X-Forwarded-For")
    hop = ("Connection", "Keep-Alive", "Upgrade", "TE", "Proxy-Authorization", "X-Named")
    found = inward(
        request(
            *((name, "X-Named" if name == "Connection" else "secret") for name in (*ours, *hop)), ("X-App", "kept")
        ),
        80,
    )
    assert found == [(b"host", b"127.0.0.1:80"), (b"x-app", b"kept"), (b"connection", b"close")]


def test_what_comes_out_stays_with_its_page() -> None:
    kept = [(b"content-type", b"text/html"), (b"etag", b'"kept"')]
    reaching = (b"set-cookie", b"clear-site-data", b"x-accel-redirect", b"x-sendfile", b"x-tenantry-a")
    left = [(name, b"x") for name in (*reaching, b"content-security-policy", b"referrer-policy")]
    found = outward([*kept, *left], prefix="/p", port=80)
    assert found[:2] == kept
    assert [value for name, value in found if name == b"content-security-policy"] == [b"sandbox"]
    assert [value for name, value in found if name == b"referrer-policy"] == [b"no-referrer"]
    assert not {*reaching} & {name for name, _ in found}


def test_a_token_is_read_of_requests_to_ports_alone() -> None:
    shown = request(("X-Tenantry-Port-Token", "tpt_x"), query="tenantry_port_token=tpt_y")
    assert shown_token(shown) is None
    asked = request(query="a=1&tenantry_port_token=tpt_y")
    set_aside_query(asked.scope)
    assert shown_token(asked) == "tpt_y"
    assert asked.scope["query_string"] == b""
