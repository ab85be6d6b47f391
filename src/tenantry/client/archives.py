"""Image bodies: an archive as it lies there, or a directory as a tar made while it is sent.

No copy is written and a repeated attempt reads anew.
"""

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PORTION_BYTES = 1 << 18
_BLOCK = tarfile.BLOCKSIZE
_KEPT = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})

Progress = Callable[[int], object]


def _silent(_sent_bytes: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class BytesUpload:
    """A file that is held in memory."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        yield self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveUpload:
    """A file as it lies there, such as a tar. `progress` is told the bytes sent of this attempt."""

    path: Path
    progress: Progress = _silent

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        sent = 0
        with self.path.open("rb") as file:
            while portion := file.read(_PORTION_BYTES):
                sent += len(portion)
                yield portion
                self.progress(sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryUpload:
    """A root file system. Numeric owners, modes, symbolic and hard links are kept; names of owners are not.

    Devices, sockets and pipes are left out: a sandbox makes its own.
    """

    path: Path
    progress: Progress = _silent

    @property
    def size_bytes(self) -> None:
        return None

    def chunks(self) -> Iterator[bytes]:
        sent = 0
        for portion in self._tar():
            sent += len(portion)
            yield portion
            self.progress(sent)

    def _tar(self) -> Iterator[bytes]:
        with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in _walk(self.path):
                if stat.S_IFMT(path.lstat().st_mode) not in _KEPT:
                    continue
                member = tar.gettarinfo(path, arcname=str(path.relative_to(self.path)))
                member.uname = member.gname = ""
                member.mtime = int(member.mtime)
                yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
                if member.isreg():
                    yield from _content(path, member.size)
        yield bytes(2 * _BLOCK)


def _walk(root: Path) -> Iterator[Path]:
    """Everything below, parents first, in a stable order; links are not followed."""
    for directory, directories, files in os.walk(root, onerror=_raise):
        directories.sort()
        for name in sorted([*directories, *files]):
            yield Path(directory, name)


def _raise(error: OSError) -> None:
    raise error


def _content(path: Path, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes and the padding; raises OSError when the file became shorter meanwhile."""
    left = size
    with path.open("rb") as file:
        while left:
            portion = file.read(min(left, _PORTION_BYTES))
            if not portion:
                raise OSError(f"{path} became shorter while it was sent")
            left -= len(portion)
            yield portion
    if size % _BLOCK:
        yield bytes(_BLOCK - size % _BLOCK)
