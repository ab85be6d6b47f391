"""Connections that go both ways: to a command in a sandbox, or to a port of one, over a WebSocket.

What the server refuses before is an ApiError; what it refuses later, ends the connection with a ChannelRefused.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import httpx

from tenantry.client.credentials import is_loopback
from tenantry.client.errors import ApiError, BadAnswer, ConnectionFailed
from tenantry.client.wire import refusal

if TYPE_CHECKING:
    import ssl

    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.http11 import Response
    from websockets.sync.client import ClientConnection

MESSAGE_BYTES: Final = 256 << 10
"""Most that is sent at once; the server takes 1 MiB."""
_OPEN_SECONDS: Final = 30.0
_SENT_BY_CLIENT: Final = frozenset({"host", "connection", "accept-encoding", "accept", "content-length", "user-agent"})

Piece = bytes | dict[str, Any]
"""What comes: bytes, or what is told of them."""


class ChannelRefused(ApiError):
    """The server has ended it: the credential does not hold any more, or the sandbox has gone."""


def address_of(request: httpx.Request) -> str:
    return str(request.url.copy_with(scheme="wss" if request.url.scheme == "https" else "ws"))


def options_of(request: httpx.Request, verify: "ssl.SSLContext | bool") -> dict[str, Any]:
    """Arguments of `connect`: who asks, as any request shows it."""
    shown = [(name, value) for name, value in request.headers.items() if name not in _SENT_BY_CLIENT]
    secure = request.url.scheme == "https"
    options: dict[str, Any] = {
        "additional_headers": shown,
        "user_agent_header": request.headers["user-agent"],
        "compression": None,
        "max_size": None,
        "open_timeout": _OPEN_SECONDS,
        "proxy": None if is_loopback(urlsplit(str(request.url)).hostname or "") else True,
    }
    if secure and not isinstance(verify, bool):
        options["ssl"] = verify
    return options


def refused_by(answer: "Response") -> ApiError:
    """Read the problem document that came instead of an upgrade."""
    headers = list(answer.headers.raw_items())
    return refusal(httpx.Response(answer.status_code, headers=headers, content=bytes(answer.body)))


def unreached(url: str) -> ConnectionFailed:
    return ConnectionFailed("server_unreachable", f"{url} cannot be reached, or broke off", remedy="is it up?")


def read(message: str | bytes) -> Piece:
    """Read what has come; raises ChannelRefused, BadAnswer."""
    if isinstance(message, bytes):
        return message
    try:
        told = json.loads(message)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise BadAnswer("channel_unreadable", "a text frame is no JSON object")
    if isinstance(refused := told.get("refused"), dict):
        raise ChannelRefused(status=403, members=refused)
    return told


def portions(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), MESSAGE_BYTES):
        yield content[at : at + MESSAGE_BYTES]


class Channel:
    """One reader and any number of writers, of any threads. Leave it, or `close` it."""

    def __init__(self, connection: "ClientConnection", *, url: str) -> None:
        self._connection = connection
        self._url = url

    def send(self, content: bytes) -> None:
        """Send bytes; waits while the other side takes none. Raises ConnectionFailed once it has ended."""
        for portion in portions(content):
            self._send(portion)

    def tell(self, **control: Any) -> None:
        """Send a control: `resize={"rows": …, "columns": …}`, `signal=2`, `close_stdin=True`."""
        self._send(json.dumps(control))

    def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._connection.send(message)
        except (ConnectionClosed, OSError) as error:
            raise unreached(self._url) from error

    def receive(self) -> Piece | None:
        """Wait for what comes next, None at the end; raises ChannelRefused, ConnectionFailed."""
        from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

        try:
            return read(self._connection.recv())
        except ConnectionClosedOK:
            return None
        except (ConnectionClosedError, OSError) as error:
            raise unreached(self._url) from error

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self.receive()) is not None:
            yield piece

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncChannel:
    """What Channel is, for asyncio; one reader, writers of any tasks."""

    def __init__(self, connection: "AsyncConnection", *, url: str) -> None:
        self._connection = connection
        self._url = url

    async def send(self, content: bytes) -> None:
        """Send bytes; waits while the other side takes none. Raises ConnectionFailed once it has ended."""
        for portion in portions(content):
            await self._send(portion)

    async def tell(self, **control: Any) -> None:
        """Send a control: `resize={"rows": …, "columns": …}`, `signal=2`, `close_stdin=True`."""
        await self._send(json.dumps(control))

    async def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(message)
        except (ConnectionClosed, OSError) as error:
            raise unreached(self._url) from error

    async def receive(self) -> Piece | None:
        """Wait for what comes next, None at the end; raises ChannelRefused, ConnectionFailed."""
        from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

        try:
            return read(await self._connection.recv())
        except ConnectionClosedOK:
            return None
        except (ConnectionClosedError, OSError) as error:
            raise unreached(self._url) from error

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while (piece := await self.receive()) is not None:
            yield piece

    async def aclose(self) -> None:
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
