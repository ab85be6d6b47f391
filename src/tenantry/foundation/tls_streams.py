"""Streams over mutual TLS on a connected socket, in which each side can end alone, as it can without TLS.

asyncio's own TLS closes a connection when one side has said its last. Here `write_eof` is the close_notify of that
side, and a connection that ends without one was cut off: its reader raises ConnectionResetError, and no file and no
answer is taken for whole. Until a connection is closed both ways nothing ends on the TCP below, so what ends there is
gone.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Any, Final, cast

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_READ_BYTES: Final = 64 << 10
_MOST_WAITING: Final = 4 << 20
"""Of what a peer makes us answer while it reads nothing."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


async def shake(connected: socket.socket, context: ssl.SSLContext, *, serves: bool, peer: str, buffer: int) -> Streams:
    """Shake hands on a connection, which is closed where that fails; `buffer` bytes are read ahead.

    The certificate of the other side must be one that `context` believes and bear the DNS name `peer`: until it has
    proved that, nothing is taken from it and nothing is said to it. Raises OSError, ssl.SSLError and PermissionError
    among them; time is the caller's to bound.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=buffer, loop=loop)
    above = asyncio.StreamReaderProtocol(reader, loop=loop)
    link = TlsTransport(connected, context, serves=serves, peer=peer, above=above, shaken=loop.create_future())
    try:
        await loop.create_connection(lambda: link, sock=connected)
        await link.shaken
    except OSError:
        raise  # it has closed by itself, behind the alert that says why
    except BaseException:
        link.abort()
        raise
    return reader, asyncio.StreamWriter(link, above, reader, loop)


def require_name(certificate: Any, name: str) -> None:
    """Raise PermissionError unless a verified certificate bears exactly this DNS name; wildcards are none."""
    borne = certificate.get("subjectAltName", ()) if certificate else ()
    if not any(kind == "DNS" and value.lower() == name for kind, value in borne):
        raise PermissionError(f"its certificate does not bear the name {name}")


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The protocol of the wire, and the transport of the streams above it."""

    def __init__(
        self,
        connected: socket.socket,
        context: ssl.SSLContext,
        *,
        serves: bool,
        peer: str,
        above: asyncio.Protocol,
        shaken: "asyncio.Future[None]",
    ) -> None:
        super().__init__()
        self._socket, self._peer, self._above = connected, peer, above
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if serves else peer
        self._tls = context.wrap_bio(self._came, self._goes, server_side=serves, server_hostname=name)
        self.shaken = shaken
        self._wire: asyncio.Transport | None = None
        self._open = self._said_end = self._heard_end = self._closing = False
        self._fault: Exception | None = None

    # What the wire tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._came.write(data)
        self._go_on()

    def eof_received(self) -> None:
        if not self._heard_end:
            self._fail(ConnectionResetError("it was cut off"))
        elif self._wire is not None:
            self._wire.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        # asyncio's wire fails where it is aborted again, when it was closed with bytes still to send.
        self._wire, self._closing = None, True
        lost = self._fault or exc
        if lost is not None and not isinstance(lost, ConnectionError):
            lost = ConnectionResetError(str(lost))
        if self._open:
            self._above.connection_lost(lost)
        elif not self.shaken.done():
            self.shaken.set_exception(self._fault or lost or ConnectionResetError("it was closed"))

    def pause_writing(self) -> None:
        self._above.pause_writing()

    def resume_writing(self) -> None:
        self._above.resume_writing()

    def _go_on(self) -> None:
        if self.is_closing():
            return
        try:
            if self._open or self._shake():
                self._take()
        except OSError as error:
            self._fail(error)

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()  # and the alert, where it failed
        require_name(self._tls.getpeercert(), self._peer)
        if self.shaken.done():
            return False
        self._open = True
        self._above.connection_made(self)
        self.shaken.set_result(None)
        return True

    def _take(self) -> None:
        """Hand on all that has come, so that nothing waits where the end of our side would stumble on it."""
        while not self._heard_end:
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            if data:
                self._above.data_received(data)
            else:
                self._heard_end = True
                self._above.eof_received()
        if self._goes.pending and self.get_write_buffer_size() > _MOST_WAITING:
            raise ConnectionAbortedError("it has keys changed and reads nothing")
        self._flush()

    def _flush(self) -> None:
        if self._wire is not None and (data := self._goes.read()):
            self._wire.write(data)

    def _fail(self, error: OSError) -> None:
        """End it for a fault, which is told above; in the handshake the other side is told too."""
        self._fault = self._fault or error
        if self._open:
            self.abort()
        elif self._wire is not None:
            self._wire.close()

    # What the streams ask for.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._said_end:
            raise RuntimeError("nothing is written behind the end")
        if data and not self.is_closing():
            self._tls.write(data)
            self._flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes; the other side goes on."""
        if self._said_end or self.is_closing():
            return
        self._said_end = True
        with contextlib.suppress(ssl.SSLError):  # it would wait for the end of the other side
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        if not self._closing:
            self.write_eof()
            self._closing = True
            if self._wire is not None:
                self._wire.close()

    def abort(self) -> None:
        """Drop it at once: by a reset, which reaches also who reads nothing of what is on its way."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        if self._wire is not None:
            self._wire.abort()

    def is_closing(self) -> bool:
        return self._closing or (self._wire is not None and self._wire.is_closing())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._socket
        return default if self._wire is None else self._wire.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 0 if self._wire is None else self._wire.get_write_buffer_size()

    def pause_reading(self) -> None:
        if self._wire is not None and not self.is_closing():
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        if self._wire is not None and not self.is_closing():
            self._wire.resume_reading()
