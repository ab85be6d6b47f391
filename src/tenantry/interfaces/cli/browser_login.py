"""Logging in by a browser: a listener on loopback, a PKCE challenge, and a code that comes back (RFC 8252)."""

import base64
import hashlib
import hmac
import secrets
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from tenantry.client.credentials import of_nobody
from tenantry.client.errors import BadRequest, ConnectionFailed
from tenantry.client.logins import Tokens
from tenantry.client.wire import connection_options, refusal
from tenantry.interfaces.cli.output import say

WAIT_SECONDS = 300.0
_PATH = "/done"
_PAGE = b"<!doctype html><title>Tenantry</title><p>%s You may close this window."


class _Listener(HTTPServer):
    """Waits for the one request that brings the state it has sent."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), _Reply)
        self.state = state
        self.brought: dict[str, str] | None = None

    @property
    def redirect(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{_PATH}"


class _Reply(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 10

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items() if len(values) == 1}
        ours = parts.path == _PATH and hmac.compare_digest(query.get("state", "").encode(), self.server.state.encode())
        if ours:
            self.server.brought = query
        what = b"Logged in." if ours and "code" in query else b"Not logged in."
        body = _PAGE % what
        self.send_response(200 if ours else 404)
        for name, value in (("Content-Type", "text/html"), ("Content-Length", str(len(body))), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the address holds the code."""


def log_in(url: str, *, tenant: str, provider: str | None, opens_browser: bool) -> Tokens:
    """Have the person log in; raises BadRequest when they do not in five minutes, or are refused."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    with _Listener(state) as listener:
        address = _address(url, listener.redirect, tenant=tenant, provider=provider, state=state, verifier=verifier)
        say(f"log in at: {address}")
        if opens_browser:
            webbrowser.open(address)
        brought = _wait(listener)
    if "code" not in brought:
        told = brought.get("error_description", brought.get("error", "unreadable"))
        raise BadRequest("login_refused", f"the login was refused: {told[:80]!r}")
    return _exchange(url, code=brought["code"], verifier=verifier)


def _address(url: str, redirect: str, *, tenant: str, provider: str | None, state: str, verifier: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "tenant": tenant,
        "redirect": redirect,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **({"provider": provider} if provider else {}),
    }
    return f"{url}/api/v1/auth/login?{urlencode(query)}"


def _wait(listener: _Listener) -> dict[str, str]:
    deadline = time.monotonic() + WAIT_SECONDS
    while listener.brought is None:
        listener.timeout = deadline - time.monotonic()
        if listener.timeout <= 0:
            raise BadRequest("login_timed_out", "nobody logged in", remedy="tenantry login --tenant TENANT")
        listener.handle_request()
    return listener.brought


def _exchange(url: str, *, code: str, verifier: str) -> Tokens:
    try:
        with httpx.Client(**connection_options(of_nobody(url))) as client:
            answer = client.post("/api/v1/auth/token", json={"code": code, "code_verifier": verifier})
    except httpx.RequestError as error:
        raise ConnectionFailed("server_unreachable", f"{url} cannot be reached ({type(error).__name__})") from error
    if not answer.is_success:
        raise refusal(answer)
    return Tokens.of_answer(answer.json())
