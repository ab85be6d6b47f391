"""Objects as files: `<root>/<tenant>/objects/<segment>/<segment>,` with folders 0700 and files 0600.

The comma, which no key may hold, tells a file from a folder: `a` and `a/b` are both keys, as they are in a bucket.
Unfinished writes are in `objects/,unfinished`.
"""

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import closing, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID

from tenantry.foundation.objects.descent import FILE_MARK, descended, entries, told
from tenantry.foundation.objects.keys import DIGEST_BYTES, absent, damaged, folder_of, segments_of
from tenantry.foundation.objects.ports import ObjectEntry, ObjectStat
from tenantry.foundation.objects.threads import in_thread, pieces
from tenantry.foundation.objects.unfinished import UNFINISHED, UnfinishedFile

# Not blocking, so that a planted FIFO is opened and refused instead of waited for.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OBJECTS: Final = "objects"
_DELETED: Final = ",deleted-"
_PIECE_BYTES: Final = 256 << 10
_PAGE: Final = 500


class DirectoryObjects:
    """`root` is created 0700 when absent; what stands above it is left as it is."""

    def __init__(self, root: Path) -> None:
        with told():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    async def close(self) -> None:
        os.close(self._root)

    async def put(self, tenant_id: UUID, key: str, content: AsyncIterator[bytes] | bytes) -> ObjectStat:
        segments = segments_of(key)
        writer = await in_thread(UnfinishedFile, self._root, [folder_of(tenant_id), _OBJECTS])
        try:
            async for piece in pieces(content, size=_PIECE_BYTES):
                await in_thread(writer.write, piece)
            return await in_thread(writer.finish, segments)
        finally:
            await in_thread(writer.discard)

    async def get(self, tenant_id: UUID, key: str) -> AsyncGenerator[bytes, None]:
        file = await in_thread(self._open, folder_of(tenant_id), segments_of(key))
        try:
            left = os.fstat(file).st_size - DIGEST_BYTES
            seen = hashlib.sha256()
            piece = b""
            while left > 0:
                if piece:
                    yield piece
                piece = await in_thread(_read, file, min(left, _PIECE_BYTES))
                left -= len(piece)
                seen.update(piece)
            # The last piece waits for the verdict: damaged content never ends as if it were whole.
            if await in_thread(_read, file, DIGEST_BYTES) != seen.digest():
                raise damaged()
            if piece:
                yield piece
        finally:
            os.close(file)

    async def stat(self, tenant_id: UUID, key: str) -> ObjectStat:
        return await in_thread(self._stat, folder_of(tenant_id), segments_of(key))

    async def delete(self, tenant_id: UUID, key: str) -> None:
        await in_thread(self._delete, folder_of(tenant_id), segments_of(key))

    async def list_objects(self, tenant_id: UUID, prefix: str = "") -> AsyncGenerator[ObjectEntry, None]:
        folder = folder_of(tenant_id)
        with closing(self._walk(folder, segments_of(prefix) if prefix else [])) as walk:
            while page := await in_thread(_page, walk):
                for entry in page:
                    yield entry

    async def delete_all(self, tenant_id: UUID) -> None:
        await in_thread(self._delete_all, folder_of(tenant_id))

    async def clear_unfinished(self, tenant_id: UUID, before: datetime) -> int:
        return await in_thread(self._clear_unfinished, folder_of(tenant_id), before.timestamp())

    def _open(self, folder: str, segments: list[str]) -> int:
        try:
            with told(), descended(self._root, [folder, _OBJECTS, *segments[:-1]]) as parent:
                file = os.open(segments[-1] + FILE_MARK, _READ, dir_fd=parent)
        except FileNotFoundError:
            raise absent() from None
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size < DIGEST_BYTES:
            os.close(file)
            raise damaged()
        return file

    def _stat(self, folder: str, segments: list[str]) -> ObjectStat:
        file = self._open(folder, segments)
        try:
            with told():
                size = os.fstat(file).st_size - DIGEST_BYTES
                return ObjectStat(size, os.pread(file, DIGEST_BYTES, size).hex())
        finally:
            os.close(file)

    def _delete(self, folder: str, segments: list[str]) -> None:
        objects = [folder, _OBJECTS]
        with told(), suppress(FileNotFoundError):
            with descended(self._root, objects + segments[:-1]) as parent:
                os.unlink(segments[-1] + FILE_MARK, dir_fd=parent)
                os.fsync(parent)
            # Folders left empty go too; a write that loses its folder to this begins its descent anew.
            for depth in range(len(segments) - 1, 0, -1):
                with descended(self._root, objects + segments[: depth - 1]) as parent:
                    try:
                        os.rmdir(segments[depth - 1], dir_fd=parent)
                    except OSError:
                        return

    def _walk(self, folder: str, segments: list[str]) -> Generator[ObjectEntry, None, None]:
        with suppress(FileNotFoundError), descended(self._root, [folder, _OBJECTS, *segments]) as top:
            yield from entries(top, "/".join([*segments, ""]))

    def _delete_all(self, folder: str) -> None:
        with told(), suppress(FileNotFoundError), descended(self._root, [folder]) as tenant:
            # All are gone at once, then removed; a removal that was cut short is taken up by the next.
            with suppress(FileNotFoundError):
                os.rename(_OBJECTS, _DELETED + secrets.token_hex(8), src_dir_fd=tenant, dst_dir_fd=tenant)
            for name in _names(tenant):
                if name.startswith(_DELETED):
                    _remove(tenant, name)
            os.fsync(tenant)

    def _clear_unfinished(self, folder: str, before: float) -> int:
        cleared = 0
        with told(), suppress(FileNotFoundError), descended(self._root, [folder, _OBJECTS, UNFINISHED]) as place:
            for name in _names(place):
                with suppress(FileNotFoundError):
                    if os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime < before:
                        os.unlink(name, dir_fd=place)
                        cleared += 1
        return cleared


def _read(file: int, size: int) -> bytes:
    with told():
        piece = os.read(file, size)
    if not piece:
        raise damaged()
    return piece


def _page(walk: Iterator[ObjectEntry]) -> list[ObjectEntry]:
    with told():
        return list(islice(walk, _PAGE))


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as found:
        return [one.name for one in found]


def _remove(folder: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
