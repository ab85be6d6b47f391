"""Requests as they are on the wire: paths as given, headers that may stand twice; answers compare by what they tell."""

import http.client
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import PREFIX

_UPGRADING: Final = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
)
_SOCKETS: Final = re.compile(
    "|".join(re.sub(r"{\w+}", "[^/]*", f"{PREFIX}{spec.path}") for spec in ALL_ROUTES if spec.socket)
)
"""Addresses of WebSockets: asked for as such, so that what is refused is refused to a handshake."""
# What tells one answer from another only by when and for whom it was made.
# What is left of the caller's own rate goes down with each answer.
_INCIDENTAL: Final = frozenset({"date", "content-length", "x-trace-id", "ratelimit", "audit-receipt"})
_PASSING: Final = frozenset({"remaining", "reset_ms"})
_MOVING: Final = frozenset({"last_used_at", "last_seen_at", "started_at", "finished_at"})
_LIVES: Final = {
    "job": frozenset(
        {"status", "reason", "detail", "exit_code", "attempt", "usage", "log", "content_until", "image_digest"}
    ),
    "dlv": frozenset({"status", "attempts", "next_attempt_at", "last_error", "sent_at"}),
}
"""What becomes of things by themselves, by the prefix of their ids: a job runs, a notice is tried again."""
Headers = tuple[tuple[str, str], ...]


def without_times(value: Any) -> Any:
    """Leave out of an answer what time alone changes."""
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    left_out = _MOVING | _LIVES.get(str(value.get("id", "")).partition("_")[0], frozenset())
    return {name: without_times(item) for name, item in value.items() if name not in left_out}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @cached_property
    def value(self) -> dict[str, Any]:
        """The body as JSON; nothing else reads as an object without members."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        return str(self.value.get("code", ""))

    @property
    def trace_id(self) -> str:
        """Of a refusal it is in the problem alone; an event that was read has one of its own in the body."""
        headers = dict(self.headers)
        return str(headers.get("x-trace-id") or self.value["trace_id"])

    @cached_property
    def essence(self) -> tuple[object, ...]:
        """All that a caller can learn from it."""
        value = {name: value for name, value in self.value.items() if name != "trace_id"}
        told = without_times(value)
        if "rates" in told and isinstance(told["rates"], list):  # what is left of each is gone a moment later
            told["rates"] = [{k: v for k, v in rate.items() if k not in _PASSING} for rate in told["rates"]]
        incidental = _INCIDENTAL if told == value else _INCIDENTAL | {"etag"}  # which moves with what was left out
        kept = tuple(sorted(header for header in self.headers if header[0] not in incidental))
        return self.status, kept, json.dumps(told, sort_keys=True) if told else self.body

    def differences(self, other: "Answer") -> list[str]:
        """Tell what a caller can learn from the one and not from the other."""
        if self.essence == other.essence:
            return []
        ours, theirs = ({"status": it.status, **dict(it.headers), **it.value, "body": it.body} for it in (self, other))
        names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        return [f"{name}: {str(ours.get(name))[:500]}, not {str(theirs.get(name))[:500]}" for name in names]

    def __str__(self) -> str:
        return f"{self.status} {self.code or self.body[:80]!r}"


@dataclass
class Wire:
    """One kept connection to a server."""

    url: str
    sent: int = 0
    _connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def send(
        self, method: str, target: str, *, key: str | None = None, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        """Send exactly this. A connection that the server ended, because nothing came for long, is opened again."""
        try:
            return self._send(method, target, key=key, headers=headers, body=body)
        except (http.client.RemoteDisconnected, ConnectionError):
            return self._send(method, target, key=key, headers=headers, body=body)

    def _send(self, method: str, target: str, *, key: str | None, headers: Headers, body: bytes | None) -> Answer:
        try:
            return self._asked(method, target, key=key, headers=headers, body=body)
        except BaseException:
            self._connection.close()  # half an exchange, above all of a test that was cut off, is no other test's
            raise

    def _asked(self, method: str, target: str, *, key: str | None, headers: Headers, body: bytes | None) -> Answer:
        connection = self._connection
        connection.putrequest(method, target, skip_accept_encoding=True)
        if key is not None:
            connection.putheader("Authorization", f"Bearer {key}")
        upgrade = method == "GET" and _SOCKETS.fullmatch(target.partition("?")[0]) is not None
        for name, value in (*headers, *(_UPGRADING if upgrade else ())):
            connection.putheader(name, value)
        if upgrade:
            body = None  # a handshake has none
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        self.sent += 1
        if upgrade:
            connection.close()  # of a WebSocket nothing else is asked
        return Answer(answer.status, tuple((name.lower(), value) for name, value in answer.getheaders()), content)

    def close(self) -> None:
        self._connection.close()
