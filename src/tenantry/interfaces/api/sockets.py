"""WebSockets: what a request passes before it is served, a socket passes before its upgrade; then twice a second anew.

A handler answers with an `Upgrade`. Until then nothing is upgraded, and a refusal is an HTTP answer as any other.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tenantry.foundation.errors import ErrorKind, Exhausted, Fault, Invalid, TenantryError
from tenantry.foundation.scope import scoped
from tenantry.interfaces.api.guard import Handler
from tenantry.interfaces.api.protocol import SOCKET
from tenantry.interfaces.api.streams import first_of, refusal, stay
from tenantry.interfaces.api.unit import Unit, unit_of

_CLOSE_SECONDS: Final = 1.0
_DONE, _REFUSED, _BROKEN = 1000, 1008, 1011
_OF_A_BODY: Final = frozenset({b"content-length", b"content-type"})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Door:
    """The connection behind a request that asks to become a WebSocket; `stack` is left when it has ended."""

    receive: Receive
    send: Send
    gone: asyncio.Future[None]
    stack: ExitStack = field(default_factory=ExitStack)


class Socket:
    """An upgraded connection, for one reader; whoever sends waits until the peer has taken most of what was sent."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()

    @property
    def idle_seconds(self) -> float:
        """Seconds since anything has gone either way; pings do not count."""
        return self._loop.time() - self._heard

    async def receive(self) -> bytes | str | None:
        """Take the next message, None when the peer has gone."""
        message = await self._door.receive()
        self._heard = self._loop.time()
        if message["type"] == "websocket.disconnect":
            return None
        content: bytes | str | None = message.get("bytes")
        return content if content is not None else str(message.get("text", ""))

    async def send(self, content: bytes | str | dict[str, Any]) -> None:
        """Send bytes as they are, a text, or an object as JSON; raises OSError when the peer has gone."""
        self._heard = self._loop.time()
        name = "bytes" if isinstance(content, bytes) else "text"
        data = json.dumps(content) if isinstance(content, dict) else content
        await self._door.send({"type": "websocket.send", name: data})

    async def gone(self) -> None:
        """Wait until the connection is lost, also while nobody receives."""
        await asyncio.shield(self._door.gone)

    async def close(self, code: int, reason: str = "") -> None:
        await self._door.send({"type": "websocket.close", "code": code, "reason": reason})


Serve = Callable[[Socket], Awaitable[None]]


class Upgrade(Response):
    """Makes a WebSocket of the request; `serve` has it as long as its caller may have it."""

    def __init__(self, unit: Unit, serve: Serve) -> None:
        super().__init__(status_code=101)
        self._unit = unit
        self._serve = serve

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        door: Door = scope[SOCKET]
        await door.receive()  # what asks for the upgrade
        headers = [header for header in self.raw_headers if header[0] not in _OF_A_BODY]
        await door.send({"type": "websocket.accept", "headers": headers})
        with scoped(self._unit.scope):
            await self._run(Socket(door))

    async def _run(self, socket: Socket) -> None:
        error: Exception | None = None
        try:
            await first_of(self._serve(socket), stay(self._unit), _idle(self._unit, socket), socket.gone())
        except OSError:  # the peer has gone while something was sent
            return
        except Exception as fault:  # noqa: BLE001 - nothing of an error of ours may reach a caller
            error = fault
        # A peer that takes nothing is not waited for: its connection is ended by the protocol.
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await _close(socket, error)


async def _idle(unit: Unit, socket: Socket) -> None:
    """Raise Exhausted `stream_idle` when nothing has come over a socket for long."""
    longest = unit.runtime.settings.server.stream_idle_seconds
    left = float(longest)
    while left > 0:
        await asyncio.sleep(left)
        left = longest - socket.idle_seconds
    raise Exhausted("stream_idle", f"nothing has come over it for {longest} s", layer="api", limit=longest)


async def _close(socket: Socket, error: Exception | None) -> None:
    if error is None:
        await socket.close(_DONE)
        return
    if not isinstance(error, TenantryError):
        _log.error("api.socket_broken", exc_info=error, kind=type(error).__name__)
        error = Fault("internal", "an error of ours; the log knows it by the trace id", layer="api")
    await socket.send({"refused": refusal(error)})
    await socket.close(_BROKEN if error.kind is ErrorKind.FAULT else _REFUSED, error.code)


def upgrading(inner: Handler) -> Handler:
    """Let an endpoint be asked only by what can be upgraded, with a seat that it gives back at its end."""

    async def handle(request: Any) -> Response:
        door: Door | None = request.scope.get(SOCKET)
        if door is None:
            raise Invalid("upgrade_required", "this address is a WebSocket: ask with Upgrade: websocket", layer="api")
        unit = unit_of(request)
        door.stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))
        return await inner(request)

    return handle


def as_request(scope: Scope) -> Scope:
    """Give a handshake the scope of the request that it is."""
    scheme = "https" if scope["scheme"] == "wss" else "http"
    return {**scope, "type": "http", "method": "GET", "scheme": scheme}


async def nothing() -> Message:
    """Read the body of a handshake, which has none."""
    return {"type": "http.request", "body": b"", "more_body": False}


def refusing(send: Send) -> Send:
    """Send an HTTP answer instead of an upgrade."""

    async def sent(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return sent
