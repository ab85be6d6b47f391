"""HTTP/1.1 with bounded heads: neither a header without end nor one that never comes holds memory or a connection.

A WebSocket begins as such a request and is bounded as one; its messages are by `SOCKET_OPTIONS`.

A client certificate that the TLS layer has verified goes into the ASGI scope; nothing that is sent can put one there.
"""

import asyncio
import logging
import socket
from typing import Any, Final

import structlog
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request as Handshake

from tenantry.foundation.errors import Fault, TenantryError

HEAD_BYTES: Final = 32 << 10
HEAD_SECONDS: Final = 15.0
TLS: Final = "tls"
"""Extension of the ASGI scope, there where the client has shown a certificate."""
CLIENT_CERTIFICATE: Final = "client_certificate"
"""In it: the certificate, DER."""
SOCKET: Final = "tenantry.socket"
"""In the scope of a request that asks to become a WebSocket: the connection's own `receive` and `send`."""
GONE: Final = "tenantry.gone"
"""Extension of the ASGI scope of a WebSocket: a future that is done when the connection is lost."""
MESSAGE_BYTES: Final = 1 << 20
SOCKET_OPTIONS: Final[dict[str, Any]] = {
    "ws_max_size": MESSAGE_BYTES,
    "ws_per_message_deflate": False,  # 64 KiB of state for each, and a way to send a bomb
    "ws_ping_interval": 5.0,
    "ws_ping_timeout": None,
}
"""How uvicorn is told to hold WebSockets. An answer to a ping is not waited for: it stands behind what the peer has
sent and nobody has taken yet, which may take its time; TCP itself asks whether the peer is there."""
_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)
"""A peer that has gone without a word is missed after a minute."""
_PROBLEM: Final = (
    b'{"type":"urn:tenantry:problem:head_too_large","title":"Too large","status":431,"code":"head_too_large",'
    b'"detail":"the request line and headers are longer than 32768 bytes","layer":"http","trace_id":""}'
)
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_PROBLEM), _PROBLEM)
)
_MALFORMED: Final = (
    b'{"type":"urn:tenantry:problem:handshake_malformed","title":"Invalid","status":400,"code":"handshake_malformed",'
    b'"detail":"what asks for a WebSocket has no body","layer":"http","trace_id":""}'
)
_NO_HANDSHAKE: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_MALFORMED), _MALFORMED)
)

_log = structlog.get_logger(__name__)


class CutStreams(logging.Filter):
    """For the log of uvicorn, to which what ends an answer in its middle is an error of ours.

    A refusal cuts a stream so, and on purpose: what was said before is no whole answer, and must not read as one.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, TenantryError) or isinstance(error, Fault):
            return True
        _log.info("api.stream_cut", code=error.code)
        return False


class BoundedProtocol(HttpToolsProtocol):
    """Counts bytes until a request's head is complete, and gives each head a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_open = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._client_certificate: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            self._client_certificate = tls.getpeercert(binary_form=True)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._client_certificate is not None:
            self.scope["extensions"] = {TLS: {CLIENT_CERTIFICATE: self._client_certificate}}
        self._head_open = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def handle_websocket_upgrade(self) -> None:
        # While an earlier request of this connection is still answered, its answer would go into the socket.
        cycle = getattr(self, "cycle", None)
        if cycle is not None and not cycle.response_complete:
            self.transport.close()
            return
        super().handle_websocket_upgrade()

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # What follows on a kept connection is the next head, counted from its first byte.
        self._head_open = True
        self._head_bytes = 0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._head_open:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and b"\r\n\r\n" not in data[: HEAD_BYTES + len(data) - self._head_bytes]:
                self._refuse()
                return
        super().data_received(data)

    def _refuse(self) -> None:
        self._stop_timer()
        self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _give_up(self) -> None:
        self._head_timer = None
        if self._head_open and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose scope also tells of a client certificate and of the end, and that ends with who serves it."""

    gone: asyncio.Future[None]
    _is_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.gone = self.loop.create_future()
        connection = transport.get_extra_info("socket")
        for level, name, value in _ALIVE:
            connection.setsockopt(level, name, value)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # What could not be read as a handshake uvicorn would leave open, and unanswered.
        if self.conn.handshake_exc is not None and not self._is_asked and not self.transport.is_closing():
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def handle_connect(self, event: Handshake) -> None:
        self._is_asked = True
        super().handle_connect(event)
        if self.response.status_code != 101:  # noqa: PLR2004 - nobody serves it
            return
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[GONE] = self.gone
        tls = self.transport.get_extra_info("ssl_object")
        if tls is not None and (certificate := tls.getpeercert(binary_form=True)) is not None:
            extensions[TLS] = {CLIENT_CERTIFICATE: certificate}

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        # A refusal completes the handshake too, which uvicorn does not note and then calls an error.
        self.handshake_complete |= self.initial_response is not None and self.close_sent

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        # What a peer does not take would else be kept for it as long as it holds the connection.
        self.loop.call_later(self.close_timeout, self.transport.abort)
