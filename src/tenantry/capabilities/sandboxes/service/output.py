"""Output on its way from a sandbox to its rows: masked, made text, sealed and written in small batches."""

import asyncio
import codecs
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tenantry.capabilities.sandboxes.types import LogLine, SealedLine
from tenantry.engines.jail.types import Stream
from tenantry.foundation.clock import Clock
from tenantry.kit.masking.stream import Mask

_BATCH_SECONDS: Final = 0.1
_MUCH_BYTES: Final = 64 << 10
"""So much waits at most, then the program does; also the size of a piece, more or less."""


@dataclass(slots=True)
class _Piece:
    """As it came; `stream` None is a line of ours, and where another program begins to speak if it `parts`."""

    stream: Stream | None
    at: datetime
    raw: bytearray = field(repr=False)
    parts: bool = False


class JobOutput:
    """One job's. Batches are written one after the other: a follower who has seen a piece has missed none before it.

    `mask` says what never gets out of here, however a program cuts it into writes. `write` makes one batch visible;
    what it raises is raised to whoever delivers more output.
    """

    def __init__(
        self,
        write: Callable[[list[SealedLine]], Coroutine[Any, Any, None]],
        *,
        seal: Callable[[LogLine], SealedLine],
        mask: Mask,
        clock: Clock,
    ) -> None:
        self._write = write
        self._seal = seal
        self._mask = mask
        self._clock = clock
        self._begin()
        self._pending: list[_Piece] = []
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

    def _begin(self) -> None:
        self._maskers = {stream: self._mask.stream() for stream in Stream}
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}

    @property
    def size(self) -> int:
        """Bytes of the program as kept, both streams; our own lines do not count."""
        return self._size

    @property
    def sha256(self) -> bytes:
        """Of both streams as kept, in the order they came: a digest of what was masked could be guessed at."""
        return self._digest.digest()

    def take(self, stream: Stream, data: bytes) -> Awaitable[None] | None:
        """Take a piece as it comes; what is given is awaited when much waits, which slows the program down."""
        if self._failure is not None:
            raise self._failure
        self._append(stream, data)
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
        self._append(None, f"[tenantry] {self._mask.text(text)}\n".encode(errors="replace"))

    def begin_part(self, text: str) -> None:
        """Add a line of ours from which on another program speaks: what the last one began to say ends before it."""
        raw = f"[tenantry] {self._mask.text(text)}\n".encode(errors="replace")
        self._pending.append(_Piece(None, self._clock.now(), bytearray(raw), parts=True))
        self._pending_bytes += len(raw)

    async def finish(self) -> list[SealedLine]:
        """End the batches; gives what is left, to be written with the end."""
        self._closed = True
        self._hurry.set()
        if self._writer is not None:
            await asyncio.wait([self._writer])
        return self._unwritten + self._batch() + self._rest()

    def abandon(self) -> None:
        """Write nothing more and hold nobody up: another decides on this job."""
        self._closed = True
        self._room.set()
        if self._writer is not None:
            self._writer.cancel()

    def _append(self, stream: Stream | None, raw: bytes) -> None:
        if not raw:
            return
        self._pending_bytes += len(raw)
        last = self._pending[-1] if self._pending else None
        if last is not None and last.stream is stream and len(last.raw) < _MUCH_BYTES:
            last.raw += raw
            return
        self._pending.append(_Piece(stream, self._clock.now(), bytearray(raw)))

    def _batch(self) -> list[SealedLine]:
        """Mask, decode and seal what waits; what may turn out to be a secret waits on."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        lines = []
        for piece in pending:
            if piece.parts:
                lines += self._rest()
                self._begin()
            if piece.stream is None:
                lines += self._sealed("system", piece.at, piece.raw.decode())
            else:
                kept = self._maskers[piece.stream].feed(bytes(piece.raw))
                lines += self._sealed(piece.stream.value, piece.at, self._counted(piece.stream, kept))
        return lines

    def _rest(self) -> list[SealedLine]:
        """Take what the maskers and decoders have held back to the end."""
        lines, now = [], self._clock.now()
        for stream, masker in self._maskers.items():
            text = self._counted(stream, masker.finish()) + self._decoders[stream].decode(b"", final=True)
            lines += self._sealed(stream.value, now, text)
        return lines

    def _counted(self, stream: Stream, kept: bytes) -> str:
        self._size += len(kept)
        self._digest.update(kept)
        return self._decoders[stream].decode(kept)

    def _sealed(self, stream: str, at: datetime, text: str) -> list[SealedLine]:
        if not text:
            return []
        self._seq += 1
        return [self._seal(LogLine(self._seq, stream, at, text))]

    async def _write_batches(self) -> None:
        try:
            while self._pending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BATCH_SECONDS):
                        await self._hurry.wait()
                if self._closed:
                    return
                self._hurry.clear()
                self._unwritten = self._batch()
                if self._unwritten:
                    await self._write(self._unwritten)
                self._unwritten = []
                self._room.set()
        except Exception as error:  # noqa: BLE001 - it is raised where output is delivered
            self._failure = error
        finally:
            self._room.set()
            self._writer = None
