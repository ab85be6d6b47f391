"""Writes an archive as a stream: no part of it is on a disk, and none but the one at hand in memory."""

import hashlib
import json
import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from tenantry.capabilities.tenants.service.archives.form import MANIFEST
from tenantry.capabilities.tenants.types import StoredThing
from tenantry.foundation.errors import Fault

_BLOCK: Final = tarfile.BLOCKSIZE
_ROWS_BYTES: Final = 4 << 20


class ArchiveWriter:
    """Turns things into the bytes of a tar, and remembers size and digest of each."""

    def __init__(self) -> None:
        self._members: list[dict[str, Any]] = []
        self._whole = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Tell the digest of all that was written so far."""
        return self._whole.hexdigest()

    async def add(self, prefix: str, thing: StoredThing, *, suffix: str = "") -> AsyncIterator[bytes]:
        """Write a member; raises Fault `archive_torn` when it has not the size that it told."""
        name = f"{prefix}{thing.name}{suffix}"
        yield self._count(_head(name, thing.size))
        digest, left = hashlib.sha256(), thing.size
        async for piece in thing.content:
            left -= len(piece)
            digest.update(piece)
            yield self._count(piece)
        if left:
            raise Fault("archive_torn", "a thing changed while it was written out", layer="tenants")
        yield self._count(bytes(-thing.size % _BLOCK))
        about = {"about": dict(thing.about)} if thing.about else {}
        self._members.append({"name": name, "size_bytes": thing.size, "sha256": digest.hexdigest(), **about})

    async def finish(self, manifest: dict[str, Any]) -> AsyncIterator[bytes]:
        """Write the manifest, with all members, and the end."""
        content = json.dumps({**manifest, "members": self._members}, indent=1, ensure_ascii=False).encode()
        yield self._count(_head(MANIFEST, len(content)))
        yield self._count(content + bytes(-len(content) % _BLOCK))
        yield self._count(bytes(2 * _BLOCK))

    def _count(self, piece: bytes) -> bytes:
        self._whole.update(piece)
        self.size += len(piece)
        return piece


async def rows_member(name: str, batches: AsyncIterator[list[tuple[str | None, ...]]]) -> AsyncIterator[StoredThing]:
    """Give the rows of a table in members of some MiB, each whole in memory."""
    held, number = bytearray(), 0
    async for batch in batches:
        for row in batch:
            held += json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if len(held) >= _ROWS_BYTES:
            yield _of_bytes(f"{name}.{number:06d}", bytes(held))
            held.clear()
            number += 1
    if held:
        yield _of_bytes(f"{name}.{number:06d}", bytes(held))


def json_member(name: str, value: dict[str, Any]) -> StoredThing:
    return _of_bytes(name, json.dumps(value).encode())


def _of_bytes(name: str, content: bytes) -> StoredThing:
    return StoredThing(name, len(content), _pieces([content]))


async def _pieces(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _head(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
