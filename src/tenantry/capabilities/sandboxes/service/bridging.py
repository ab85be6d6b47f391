"""Files for blocking code in a thread whose bytes come from, or go to, the event loop. Nothing lies on a disk between.

The thread waits for the loop, so the loop must not wait for the thread but by `await`.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_BUFFER_BYTES: Final = 256 << 10
_WAITING: Final = 4
"""Pieces that wait for the loop, then the thread does."""


def reading(
    opened: Callable[[], Coroutine[Any, Any, AsyncIterator[bytes]]], loop: asyncio.AbstractEventLoop
) -> BinaryIO:
    """Open for a thread, and in it, what the loop streams; what the stream raises is raised to who reads."""
    source = asyncio.run_coroutine_threadsafe(opened(), loop).result()
    return cast("BinaryIO", io.BufferedReader(_Reading(source, loop), _BUFFER_BYTES))


class _Reading(io.RawIOBase):
    def __init__(self, source: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._held = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        while not self._held and not self._ended:
            piece = asyncio.run_coroutine_threadsafe(_next(self._source), self._loop).result()
            self._ended = piece is None
            self._held = memoryview(piece or b"")
        size = min(len(target), len(self._held))
        target[:size] = self._held[:size]
        self._held = self._held[size:]
        return size


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)


class Writing(io.RawIOBase):
    """A file that a thread writes, whose bytes the loop takes by `pieces`; then `end` it, or `fail` it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_WAITING)
        self._abandoned = asyncio.Event()

    def buffered(self) -> io.BufferedWriter:
        return io.BufferedWriter(self, _BUFFER_BYTES)

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        piece = bytes(data)
        asyncio.run_coroutine_threadsafe(self._put(piece), self._loop).result()
        return len(piece)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give what is written; raises what it failed by. Whoever takes no more lets the thread go with an OSError."""
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.abandon()

    async def end(self) -> None:
        await self._put(None)

    async def fail(self, error: BaseException) -> None:
        await self._put(error)

    def abandon(self) -> None:
        """Take nothing more: who writes is told so."""
        self._abandoned.set()
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _put(self, item: bytes | BaseException | None) -> None:
        if not self._abandoned.is_set():
            await self._queue.put(item)
        if self._abandoned.is_set() and isinstance(item, bytes):
            raise BrokenPipeError("nobody takes what is written")
