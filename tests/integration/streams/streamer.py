"""A streaming process of its own that stops dead at a point.

`python -m tests.integration.streams.streamer HOME POINT`

It says the point's name on standard output when it has come there, and waits to be killed.
"""

import asyncio
import os
import sys
from pathlib import Path

from tenantry.capabilities.audit.ports import Sink
from tenantry.capabilities.audit.types.streams import AuditStream, Batch, Target
from tenantry.entrypoints.audit_followers import AuditFollowers, Sinks
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.settings import load_settings


def _here(point: str) -> None:
    os.write(1, f"{point}\n".encode())
    os.read(0, 1)  # until it is killed


class StopsAt:
    """A sink before or after which the process is killed."""

    def __init__(self, inner: Sink, point: str) -> None:
        self._inner = inner
        self._point = point

    async def take(self, stream: AuditStream, target: Target | None, batch: Batch) -> None:
        if self._point == "claimed":
            _here("claimed")
        await self._inner.take(stream, target, batch)
        if self._point == "sent":
            _here("sent")


def _cut_writes() -> None:
    """Let a file's write end in the middle of its second line."""
    real = os.pwrite

    def cut(file: int, content: bytes, offset: int) -> int:
        real(file, content[: content.index(b"\n") + 20], offset)
        _here("half")
        return 0

    os.pwrite = cut  # type: ignore[assignment]


async def main(home: Path, point: str) -> None:
    async with open_parts(load_settings(home=home)) as parts:
        cell = parts.cells.get("us")
        sinks = {kind: StopsAt(sink, point) for kind, sink in Sinks(parts, cell).by_kind.items()}
        following = AuditFollowers(parts, cell, sinks=sinks)
        if point == "half":
            _cut_writes()
        while True:
            await following.streams.look()
            await following.streams.settled()
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
