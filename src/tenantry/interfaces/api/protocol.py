"""HTTP/1.1 with bounded heads: neither a header without end nor one that never comes holds memory or a connection.

A client certificate that the TLS layer has verified goes into the ASGI scope; nothing that is sent can put one there.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 32 << 10
HEAD_SECONDS: Final = 15.0
TLS: Final = "tls"
"""Extension of the ASGI scope, there where the client has shown a certificate."""
CLIENT_CERTIFICATE: Final = "client_certificate"
"""In it: the certificate, DER."""
_PROBLEM: Final = (
    b'{"type":"urn:tenantry:problem:head_too_large","title":"Too large","status":431,"code":"head_too_large",'
    b'"detail":"the request line and headers are longer than 32768 bytes","layer":"http","trace_id":""}'
)
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_PROBLEM), _PROBLEM)
)


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
