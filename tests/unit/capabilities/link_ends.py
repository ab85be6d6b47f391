"""Both ends of the link over TLS, and strangers at either, with an authority that is thrown away."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.authority import Authority, Issued

from tenantry.capabilities.sandboxes.service.link_sockets import accept_loop
from tenantry.capabilities.sandboxes.service.link_tls import LinkCaller, LinkIdentity, TlsDoor
from tenantry.foundation.link_settings import WorkerLinkSettings

SERVER, WORKER = "server.tenantry", "worker.tenantry"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def expired() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


@dataclass
class Ends:
    """Whose certificates count here."""

    folder: Path
    authority: Authority = field(default_factory=Authority)

    def settings(self, issued: Issued, **fields: object) -> WorkerLinkSettings:
        name = f"e{time.monotonic_ns()}"
        certificate, key = issued.write(self.folder, name)
        ca_file = self.authority.write(self.folder, f"{name}-ca")
        files = {"ca_file": ca_file, "certificate_file": certificate, "key_file": key}
        return WorkerLinkSettings.model_validate({**files, **fields})

    def server(self) -> Issued:
        return self.authority.issue("a server", names=[SERVER])

    def worker(self) -> Issued:
        return self.authority.issue("a worker", server=True, names=[WORKER], by_address=False)

    def caller(self, **fields: object) -> LinkCaller:
        settings = self.settings(self.server(), **fields)
        return LinkCaller(LinkIdentity(settings, serves=False), settings)

    def context(self, issued: Issued | None) -> ssl.SSLContext:
        """Make what a stranger would call a worker with."""
        context = ssl.create_default_context(cafile=self.authority.write(self.folder, "known"))
        if issued is not None:
            context.load_cert_chain(*issued.write(self.folder, f"s{time.monotonic_ns()}"))
        return context


@dataclass
class Room:
    """A worker's end, which says back what it hears."""

    door: TlsDoor
    heard: list[bytes] = field(default_factory=list)
    answer: Serve | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.answer is not None:
            await self.answer(reader, writer)
            return
        said = await reader.readline()
        self.heard.append(said)
        writer.write(said)


def open_room(ends: Ends, **fields: object) -> contextlib.AbstractAsyncContextManager[Room]:
    return opened(ends.settings(ends.worker(), **{"listen": "127.0.0.1:0", **fields}))


@contextlib.asynccontextmanager
async def opened(settings: WorkerLinkSettings) -> AsyncIterator[Room]:
    room = Room(TlsDoor(LinkIdentity(settings, serves=True), settings))
    listener = await room.door.open()
    task = asyncio.create_task(accept_loop(listener, room.door, room.serve))
    try:
        yield room
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


async def said(caller: LinkCaller, address: str, *, seconds: float = 5) -> bytes:
    """Say something to a worker, and give what it answers."""
    reader, writer = await caller.connect(address, seconds=seconds)
    try:
        writer.write(b"asked\n")
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def intruded(address: str, context: ssl.SSLContext | None) -> bytes:
    """Say something to a worker as a stranger would, without TLS where no context is; give what it answers."""
    host, _, port = address.removeprefix("tls:").rpartition(":")
    answer = b""
    with contextlib.suppress(OSError):
        name = None if context is None else WORKER
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
        try:
            writer.write(b"asked\n")
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    return answer


@contextlib.asynccontextmanager
async def stranger(context: ssl.SSLContext | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen where no worker is; give the address as a worker would write it, and all that is heard there.

    It hangs up when it has been told something.
    """
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            heard.append(b"")
            while not heard[-1].endswith(b"asked\n") and (piece := await reader.read(1 << 16)):
                heard[-1] += piece
                if context is None:
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"tls:127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
