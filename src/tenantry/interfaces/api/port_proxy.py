"""One request to a port inside a sandbox, in strict HTTP/1.1: what is no answer breaks off instead of being guessed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import h11
from starlette.requests import Request

from tenantry.foundation.errors import Invalid, Unavailable
from tenantry.interfaces.api.port_access import Headers
from tenantry.interfaces.api.streams import uploaded

HEAD_BYTES: Final = 64 << 10
ANSWER_SECONDS: Final = 300.0
"""How long a port may think before it begins to answer."""
_PIECE: Final = 64 << 10


class PortCall:
    """Holds a connection to a port; `close` it always."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)

    async def ask(self, request: Request, *, target: bytes, headers: Headers, most_bytes: int) -> h11.Response:
        """Send a request and give the head of the answer; a body goes on until then.

        Raises Unavailable `port_answer_invalid`, `port_answer_slow`; Invalid `body_too_large`, `header_unreadable`.
        """
        try:
            asked = h11.Request(method=request.method, target=target, headers=headers)
            head = self._http.send(asked)
        except h11.LocalProtocolError:
            raise Invalid("header_unreadable", "the request cannot be handed on as HTTP/1.1", layer="api") from None
        self._writer.write(head or b"")
        feeding = asyncio.create_task(self._feed(request, most_bytes))
        heading = asyncio.create_task(self._head())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.wait((feeding, heading), return_when=asyncio.FIRST_EXCEPTION)
                if not heading.done():
                    feeding.result()
                return await heading
        except TimeoutError:
            seconds = int(ANSWER_SECONDS)
            raise Unavailable("port_answer_slow", f"the port said nothing for {seconds} s", layer="api") from None
        finally:
            for task in (feeding, heading):
                task.cancel()
            await asyncio.gather(feeding, heading, return_exceptions=True)

    async def _feed(self, request: Request, most_bytes: int) -> None:
        # A port that has answered, or gone, takes no more; what it has said counts.
        with contextlib.suppress(ConnectionError, h11.LocalProtocolError):
            async for part in uploaded(request, most_bytes, idle_seconds=ANSWER_SECONDS):
                self._writer.write(self._http.send(h11.Data(data=part)) or b"")
                await self._writer.drain()
            self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
            await self._writer.drain()

    async def _head(self) -> h11.Response:
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:  # noqa: PLR2004 - nothing was to be upgraded
                raise _invalid()

    async def body(self) -> AsyncIterator[bytes]:
        """Give the body as it comes; raises Unavailable `port_answer_invalid` where it is cut short."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise _invalid()

    async def _event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_PIECE))
        except (h11.RemoteProtocolError, ConnectionError):
            raise _invalid() from None
        return event

    async def close(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _invalid() -> Unavailable:
    return Unavailable("port_answer_invalid", "what answers at the port speaks no HTTP/1.1, or broke off", layer="api")
