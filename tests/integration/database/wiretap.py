"""A proxy between a client and PostgreSQL that counts round trips, cuts connections and goes silent."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.integration.database.ground import Database

from tenantry.foundation.database.embedded import PORT


@dataclass
class Wiretap:
    """`dsn` leads through it; `trips` counts how often the server answered after the client had said something.

    `passed` counts what of it reached the client. `cut` breaks every connection off; while `hearing` is cleared
    nothing comes back.
    """

    dsn: str
    trips: int = 0
    asked: bool = False
    passed: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hearing = asyncio.Event()
        self.hearing.set()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what a client says, as it is."""
        while data := await reader.read(65536):
            self.asked = True
            writer.write(data)
            await writer.drain()
        writer.close()

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the server says, as it is."""
        while data := await reader.read(65536):
            self.trips += self.asked
            self.asked = False
            await self.hearing.wait()
            writer.write(data)
            await writer.drain()
            self.passed += 1
        writer.close()


@asynccontextmanager
async def wiretapped(database: Database) -> AsyncIterator[Wiretap]:
    server = Path(database.ground.server.superuser.host) / f".s.PGSQL.{PORT}"
    with tempfile.TemporaryDirectory(prefix="tap-") as folder:
        tap = Wiretap(database.dsn().replace(quote(str(server.parent), safe=""), quote(folder, safe="")))
        tasks: set[asyncio.Task[None]] = set()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_unix_connection(server)
            tap.writers += [writer, forth]
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(tap.forward(reader, forth), tap.listen(back, writer))

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(connect(reader, writer))
            tasks.add(task)

        listener = await asyncio.start_unix_server(accept, Path(folder) / f".s.PGSQL.{PORT}")
        try:
            yield tap
        finally:
            tap.hearing.set()
            tap.cut()
            listener.close()
            await asyncio.gather(*tasks, return_exceptions=True)
