"""Large content, sealed in parts that cannot be dropped, reordered, repeated or spliced.

    header   0x02, 16 random bytes (the stream)
    part     4 bytes: length of what follows, highest bit set on the last part; the part, sealed
    bound    into every part: stream, index (8 bytes), last or not (1 byte), the caller's associated data

Every part but the last holds exactly 64 KiB of plaintext; empty content is one empty last part.
The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) with random nonces.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from tenantry.engines.envelope.keyset import Keyset, unreadable
from tenantry.engines.envelope.tink_border import OVERHEAD_BYTES

PART_BYTES: Final = 64 << 10
_FORMAT: Final = b"\x02"
_STREAM_BYTES: Final = 16
_LENGTH_BYTES: Final = 4
_LAST: Final = 1 << 31


async def seal_stream(
    content: AsyncIterator[bytes], *, keyset: Keyset, associated: bytes
) -> AsyncGenerator[bytes, None]:
    """Seal content of any length; 64 KiB are in memory."""
    stream = os.urandom(_STREAM_BYTES)
    yield _FORMAT + stream
    held = bytearray()
    index = 0
    async for chunk in content:
        held += chunk
        while len(held) > PART_BYTES:
            sealed = keyset.seal_part(bytes(held[:PART_BYTES]), _bound(stream, index, associated, last=False))
            del held[:PART_BYTES]
            index += 1
            yield len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed
    sealed = keyset.seal_part(bytes(held), _bound(stream, index, associated, last=True))
    yield (len(sealed) | _LAST).to_bytes(_LENGTH_BYTES, "big") + sealed


async def open_stream(
    sealed: AsyncIterator[bytes], *, keyset: Keyset, associated: bytes
) -> AsyncGenerator[bytes, None]:
    """Open what `seal_stream` gave, cut anyhow. Each part is genuine when yielded, the whole only at the normal end.

    Raises Fault `sealed_unreadable` or Gone `key_destroyed`: act on nothing that was yielded before.
    """
    source = _Source(sealed)
    header = await source.take(len(_FORMAT) + _STREAM_BYTES)
    if not header.startswith(_FORMAT):
        raise unreadable()
    stream = header[len(_FORMAT) :]
    index = 0
    last = False
    while not last:
        length = int.from_bytes(await source.take(_LENGTH_BYTES), "big")
        last, length = bool(length & _LAST), length & ~_LAST
        full = PART_BYTES + OVERHEAD_BYTES
        if length > full or (length != full and not last):
            raise unreadable()
        yield keyset.open_part(await source.take(length), _bound(stream, index, associated, last=last))
        index += 1
    if not await source.at_end():
        raise unreadable()


def sealed_bytes(size: int) -> int:
    """Tell how long so many bytes are once they are sealed."""
    parts = max(1, -(-size // PART_BYTES))
    return len(_FORMAT) + _STREAM_BYTES + parts * (_LENGTH_BYTES + OVERHEAD_BYTES) + size


def _bound(stream: bytes, index: int, associated: bytes, *, last: bool) -> bytes:
    return b"".join((stream, index.to_bytes(8, "big"), bytes((last,)), associated))


class _Source:
    """Reads exact lengths from chunks of any."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    async def take(self, length: int) -> bytes:
        while len(self._held) < length:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise unreadable()
            self._held += chunk
        taken = bytes(self._held[:length])
        del self._held[:length]
        return taken

    async def at_end(self) -> bool:
        while not self._held:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return True
            self._held += chunk
        return False
