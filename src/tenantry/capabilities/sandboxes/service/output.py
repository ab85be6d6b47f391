"""Output on its way from a sandbox to its rows: bytes become text, pieces are sealed and written in small batches."""

import asyncio
import codecs
import contextlib
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from tenantry.capabilities.sandboxes.types import LogLine, SealedLine
from tenantry.engines.jail.types import Stream
from tenantry.foundation.clock import Clock

_BATCH_SECONDS: Final = 0.1
_MUCH_BYTES: Final = 64 << 10
"""So much waits at most, then the program does; also the size of a piece, more or less."""


class JobOutput:
    """One job's. Batches are written one after the other: a follower who has seen a piece has missed none before it.

    `write` makes one batch visible; what it raises is raised to whoever delivers more output.
    """

    def __init__(
        self,
        write: Callable[[list[SealedLine]], Coroutine[Any, Any, None]],
        *,
        seal: Callable[[LogLine], SealedLine],
        clock: Clock,
    ) -> None:
        self._write = write
        self._seal = seal
        self._clock = clock
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}
        self._pending: list[LogLine] = []
        self._pending_bytes = 0
        self._seq = 0
        self._digest = hashlib.sha256()
        self._size = 0
        self._room = asyncio.Event()
        self._hurry = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._unwritten: list[SealedLine] = []
        self._failure: Exception | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of the program, both streams; our own lines do not count."""
        return self._size

    @property
    def sha256(self) -> bytes:
        """Of both streams in the order they came."""
        return self._digest.digest()

    def take(self, stream: Stream, data: bytes) -> Awaitable[None] | None:
        """Take a piece as it comes; what is given is awaited when much waits, which slows the program down."""
        if self._failure is not None:
            raise self._failure
        self._size += len(data)
        self._digest.update(data)
        self._append(stream.value, self._decoders[stream].decode(data))
        if self._closed:
            return None
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_batches())
        if self._pending_bytes < _MUCH_BYTES:
            return None
        self._room.clear()
        self._hurry.set()
        return self._wait_for_room()

    async def _wait_for_room(self) -> None:
        await self._room.wait()

    def say(self, text: str) -> None:
        """Add a line of ours: what an agent reads instead of guessing."""
        self._append("system", f"[tenantry] {text}\n")

    async def finish(self) -> list[SealedLine]:
        """End the batches; gives what is left, to be written with the end."""
        self._closed = True
        self._hurry.set()
        if self._writer is not None:
            await asyncio.wait([self._writer])
        for stream, decoder in self._decoders.items():
            self._append(stream.value, decoder.decode(b"", final=True))
        return self._unwritten + self._batch()

    def abandon(self) -> None:
        """Write nothing more and hold nobody up: another decides on this job."""
        self._closed = True
        self._room.set()
        if self._writer is not None:
            self._writer.cancel()

    def _append(self, stream: str, text: str) -> None:
        if not text:
            return
        self._pending_bytes += len(text)
        last = self._pending[-1] if self._pending else None
        if last is not None and last.stream == stream and len(last.text) < _MUCH_BYTES:
            self._pending[-1] = dataclasses.replace(last, text=last.text + text)
            return
        self._seq += 1
        self._pending.append(LogLine(self._seq, stream, self._clock.now(), text))

    def _batch(self) -> list[SealedLine]:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        return [self._seal(line) for line in pending]

    async def _write_batches(self) -> None:
        try:
            while self._pending:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), timeout=_BATCH_SECONDS)
                if self._closed:
                    return
                self._hurry.clear()
                self._unwritten = self._batch()
                await self._write(self._unwritten)
                self._unwritten = []
                self._room.set()
        except Exception as error:  # noqa: BLE001 - it is raised where output is delivered
            self._failure = error
        finally:
            self._room.set()
            self._writer = None
