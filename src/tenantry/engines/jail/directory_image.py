"""Taking a directory on this machine as an image: copied through the same writer, named by what was copied."""

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.skeleton import MOUNTED, OUTPUTS
from tenantry.engines.jail.tree import TreeWriter

_PIECE_BYTES: Final = 256 << 10
_RESERVED: Final = frozenset((*MOUNTED, OUTPUTS[0]))


def copy_directory(source: Path, *, writer: TreeWriter) -> None:
    """Copy directories, regular files and links; devices, pipes and sockets are left out."""
    for parts, path in _walk(source, ()):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            writer.directory(parts, status.st_mode)
        elif stat.S_ISLNK(status.st_mode):
            writer.symlink(parts, str(path.readlink()))
        elif stat.S_ISREG(status.st_mode):
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as content:
                writer.file(
                    parts, source=content, size=status.st_size, mode=status.st_mode, mtime=float(int(status.st_mtime))
                )


def archive_of(root: Path) -> Iterator[bytes]:
    """Give a tar of a root, piece by piece; links to one file become copies. The tree must stand still meanwhile."""
    for parts, path in _walk(root, ()):
        member, content = _member(parts, path)
        if member is None:
            continue
        yield member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if content:
            yield from _content(path, member.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def archive_bytes(root: Path) -> int:
    """Tell how long `archive_of` will be, without reading a file's content."""
    size = 2 * tarfile.BLOCKSIZE
    for parts, path in _walk(root, ()):
        member, content = _member(parts, path)
        if member is not None:
            size += len(member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
            size += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if content else 0
    return size


def _member(parts: tuple[str, ...], path: Path) -> tuple[tarfile.TarInfo | None, bool]:
    """Give the head of a file, and whether content follows; None for what no image keeps."""
    status = path.lstat()
    member = tarfile.TarInfo("/".join(parts))
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        return member, False
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        return member, False
    if stat.S_ISREG(status.st_mode):
        member.size = status.st_size
        return member, True
    return None, False


def _content(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as content:
        while left:
            piece = content.read(min(left, _PIECE_BYTES))
            if not piece:
                raise ImageInvalid("image_unreadable", "a file of the image became shorter")
            left -= len(piece)
            yield piece
    if size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)


def tree_digest(root: Path) -> str:
    """SHA-256 of the sorted list of paths with kind, permissions, and content hash or link target."""
    whole = hashlib.sha256()
    for parts, path in _walk(root, ()):
        status = path.lstat()
        entry: list[object] = ["/".join(parts), stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)]
        if stat.S_ISLNK(status.st_mode):
            entry.append(str(path.readlink()))
        elif stat.S_ISREG(status.st_mode):
            with path.open("rb") as content:
                entry.append(hashlib.file_digest(content, "sha256").hexdigest())
        whole.update(json.dumps(entry).encode() + b"\n")
    return f"sha256:{whole.hexdigest()}"


def _walk(directory: Path, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names: a path for each of many would be much
    except OSError as error:
        raise ImageInvalid("image_unreadable", f"cannot read {directory}: {error.strerror}") from error
    for name in names:
        parts, path = (*above, name), directory / name
        if parts[0] in _RESERVED:
            continue
        yield parts, path
        if stat.S_ISDIR(path.lstat().st_mode):
            yield from _walk(path, parts)
