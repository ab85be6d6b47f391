"""A closed-loop HTTP client that is not the bottleneck: prebuilt requests on kept connections, minimal parsing."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self, cast
from urllib.parse import urlsplit

from bench.report import Series

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


def request(method: str, path: str, *, key: str | None = None, body: bytes = b"") -> bytes:
    """Write one HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", "Accept: */*"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection(asyncio.Protocol):
    """One request at a time until the deadline of the block."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._sent = 0.0
        self._deadline = 0.0
        self._series = Series("")
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def begin(self, series: Series, *, deadline: float) -> asyncio.Future[None]:
        self._series, self._deadline = series, deadline
        self._done = asyncio.get_running_loop().create_future()
        self._send()
        return self._done

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(_END)
        if head < 0:
            return
        found = _LENGTH.search(self._received, 0, head + 2)
        if len(self._received) < head + len(_END) + (int(found.group(1)) if found else 0):
            return
        now = time.perf_counter()
        if self._received[9:10] == b"2":
            self._series.samples.append((now - self._sent) * 1e3)
        else:
            self._series.failures += 1
        self._received = b""
        if now < self._deadline:
            self._send()
        elif self._done is not None:
            self._done.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed a connection"))

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._make())


class Load:
    """Some kept connections to one server; `make` gives the next request."""

    def __init__(self, connections: list[_Connection]) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, url: str, make: Callable[[], bytes], *, connections: int) -> Self:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        host, port = address.hostname, address.port
        loop = asyncio.get_running_loop()
        made = [(await loop.create_connection(lambda: _Connection(make), host, port))[1] for _ in range(connections)]
        return cls(made)

    async def block(self, *, seconds: float) -> Series:
        """Keep every connection busy for `seconds`."""
        series, begun = Series(""), time.perf_counter()
        await asyncio.gather(*(c.begin(series, deadline=begun + seconds) for c in self._connections))
        series.seconds = time.perf_counter() - begun
        return series

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Caller:
    """Single calls on kept connections, one at a time on each; who finds none free waits for one."""

    def __init__(self, free: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]") -> None:
        self._free = free

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, connections: int) -> AsyncIterator[Self]:
        address = urlsplit(url)
        opened = [await asyncio.open_connection(address.hostname, address.port) for _ in range(connections)]
        free = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
        for connection in opened:
            free.put_nowait(connection)
        try:
            yield cls(free)
        finally:
            for _, writer in opened:
                writer.close()

    async def call(self, sent: bytes) -> tuple[int, bytes]:
        """Send what `request` has written; gives status and body."""
        connection = reader, writer = await self._free.get()
        writer.write(sent)
        head = await reader.readuntil(_END)
        found = _LENGTH.search(head)
        body = await reader.readexactly(int(found.group(1)) if found else 0)
        self._free.put_nowait(connection)
        return int(head[9:12]), body
