"""What a sandbox says, streamed as it comes and counted against its limit."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from tenantry.engines.jail.types import OnOutput, Stream

_CHUNK: Final = 1 << 16


class OutputPump:
    """Carry both streams to `on_output` until their ends.

    At most `limit` bytes are delivered; the first one above calls `on_excess`. A callback that raises calls `on_error`;
    from then on, as after the excess, bytes are read and dropped, so that nothing inside blocks on a full pipe.
    """

    def __init__(
        self, *, on_output: OnOutput, limit: int, on_excess: Callable[[], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._on_output = on_output
        self._left = limit
        self._on_excess = on_excess
        self._on_error = on_error
        self._deaf = False
        self.total = 0
        self.last_error_text = b""

    async def carry(self, stream: Stream, descriptor: int) -> None:
        """Read one non-blocking pipe to its end and close it."""
        try:
            async for chunk in _chunks(descriptor):
                await self._deliver(stream, chunk)
        finally:
            os.close(descriptor)

    async def _deliver(self, stream: Stream, chunk: bytes) -> None:
        if self._deaf:
            return
        kept = chunk[: self._left]
        self._left -= len(kept)
        self.total += len(kept)
        if len(kept) < len(chunk):
            self._deaf = True
            self._on_excess()
        if stream is Stream.STDERR:
            self.last_error_text = (self.last_error_text + kept)[-2048:]
        if not kept:
            return
        try:
            answer = self._on_output(stream, kept)
            if answer is not None:
                await answer
        except Exception as error:  # noqa: BLE001 - the caller's own, handed back to it by wait()
            self._deaf = True
            self._on_error(error)


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    while True:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            await readable(loop, descriptor)
            continue
        if not chunk:
            return
        yield chunk


async def readable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Wait until `descriptor` has something to read, its end included."""
    ready = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def ready_to_read(descriptors: Sequence[int], until: asyncio.Future[Any]) -> None:
    """Wait until any of `descriptors` has something to read, its end included, or `until` is done."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    for descriptor in descriptors:
        loop.add_reader(descriptor, _settle, ready)
    try:
        await asyncio.wait([ready, until], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


async def writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Wait until `descriptor` takes something, or has nobody left to read it."""
    ready = loop.create_future()
    loop.add_writer(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
