"""Writing an untrusted tree below one directory: by descriptor, component by component, through no link."""

import contextlib
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, TypeAlias

from tenantry.engines.jail.errors import ImageInvalid, ImageTooLarge

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_MODE: Final = 0o1777  # set-user-id and set-group-id are dropped
_MAX_NAME: Final = 255
_MAX_PATH: Final = 3072  # with the store's own before it, still below what the kernel takes
_MAX_TARGET: Final = 4095
_MAX_DEPTH: Final = 128
_CHUNK: Final = 1 << 18
BLOCK: Final = 4096


Written: TypeAlias = dict[str, "Written"]
"""Paths that a layer wrote, with the directories they lie in: each name once, with what was written below it."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What one image may amount to. `bytes` counts unpacked file content of all layers, removed files included.

    `stored_bytes` is how much room there is, None for any: of all that is written too, as it lies there meanwhile, in
    the blocks of `stored_bytes`.
    """

    bytes: int = 16 << 30
    files: int = 500_000
    file_bytes: int = 8 << 30
    stored_bytes: int | None = None


def in_blocks(size: int) -> int:
    """Tell what an entry takes: whole blocks of 4 KiB, at least one, which stands for its name and inode."""
    return max(1, -(-size // BLOCK)) * BLOCK


def stored_bytes(root: Path) -> int:
    """Tell what a tree takes, the same on every file system: the blocks of each entry, and of a file with several names
    its content once. Blocking, some microseconds for each entry; the tree must stand still meanwhile.
    """
    place = os.open(root, _DIRECTORY)
    try:
        return _stored(place, set())
    finally:
        os.close(place)


def _stored(place: int, seen: set[int]) -> int:
    total = 0
    for name in os.listdir(place):
        status = os.stat(name, dir_fd=place, follow_symlinks=False)
        again = status.st_nlink > 1 and status.st_ino in seen
        total += in_blocks(status.st_size if stat.S_ISREG(status.st_mode) and not again else 0)
        if stat.S_ISDIR(status.st_mode):
            below = os.open(name, _DIRECTORY, dir_fd=place)
            try:
                total += _stored(below, seen)
            finally:
                os.close(below)
        elif status.st_nlink > 1:
            seen.add(status.st_ino)
    return total


def split_path(text: str) -> tuple[str, ...]:
    """Split an archive's path; raises ImageInvalid `image_path_unsafe` for `..`, absolute, NUL, too long or deep."""
    parts = tuple(part for part in text.split("/") if part not in {"", "."})
    long = _bytes(text) > _MAX_PATH or len(parts) > _MAX_DEPTH or any(_bytes(part) > _MAX_NAME for part in parts)
    if text.startswith("/") or "\0" in text or ".." in parts or long:
        raise ImageInvalid("image_path_unsafe", f"unsafe path in the image: {text[:200]!r}")
    return parts


def _bytes(text: str) -> int:
    return len(os.fsencode(text))


def check_link_target(parts: Sequence[str], target: str) -> None:
    """Refuse a symbolic link that climbs above the root; absolute ones mean the image's own root and stay."""
    if not target or "\0" in target or _bytes(target) > _MAX_TARGET:
        raise ImageInvalid("image_link_unsafe", f"unsafe link in the image: {'/'.join(parts)[:200]!r}")
    depth = 0 if target.startswith("/") else len(parts) - 1
    for part in PurePosixPath(target).parts:
        depth += {"..": -1, "/": 0}.get(part, 1)
        if depth < 0:
            raise ImageInvalid("image_link_unsafe", f"link leaves the image: {'/'.join(parts)[:200]!r}")


class TreeWriter:
    """Writes below `root`, an open directory, within `caps`; whatever it writes replaces what was there."""

    def __init__(self, root: int, caps: Caps) -> None:
        self._root = root
        self._caps = caps
        self._bytes = 0
        self._files = 0
        self._stored = 0

    def directory(self, parts: Sequence[str], mode: int) -> None:
        self._made()
        if not parts:
            return
        parent = self._parent(parts)
        try:
            self._clear(parent, parts[-1], keep_directory=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(parts[-1], 0o700, dir_fd=parent)
            place = os.open(parts[-1], _DIRECTORY, dir_fd=parent)
            os.fchmod(place, (mode & _KEPT_MODE) | 0o700)
            os.close(place)
        finally:
            os.close(parent)

    def file(self, parts: Sequence[str], *, source: BinaryIO, size: int, mode: int, mtime: float) -> None:
        if size < 0 or size > self._caps.file_bytes or self._bytes + size > self._caps.bytes:
            raise ImageInvalid("image_too_large", f"more than {self._caps.bytes} bytes, or a file above the cap")
        self._bytes += size
        self._made(size)
        parent = self._parent(parts)
        try:
            self._clear(parent, parts[-1])
            with os.fdopen(os.open(parts[-1], _CREATE, 0o600, dir_fd=parent), "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
                os.fchmod(target.fileno(), (mode & _KEPT_MODE) | 0o400)
                os.utime(target.fileno(), (mtime, mtime))
        finally:
            os.close(parent)

    def symlink(self, parts: Sequence[str], target: str) -> None:
        self._made()
        check_link_target(parts, target)
        parent = self._parent(parts)
        try:
            self._clear(parent, parts[-1])
            os.symlink(target, parts[-1], dir_fd=parent)
        finally:
            os.close(parent)

    def hardlink(self, parts: Sequence[str], target: Sequence[str]) -> None:
        """Link to a regular file already written; anything else is `image_link_unsafe`."""
        self._made()
        if not target or tuple(parts) == tuple(target):
            raise ImageInvalid("image_link_unsafe", f"link to nothing: {'/'.join(parts)[:200]!r}")
        source = self._parent(target, make=False)
        try:
            status = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise ImageInvalid("image_link_unsafe", f"hard link to no regular file: {'/'.join(parts)[:200]!r}")
            parent = self._parent(parts)
            try:
                self._clear(parent, parts[-1])
                os.link(target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        except FileNotFoundError:
            raise ImageInvalid("image_link_unsafe", f"hard link to nothing: {'/'.join(parts)[:200]!r}") from None
        finally:
            os.close(source)

    def remove(self, parts: Sequence[str]) -> None:
        """Remove what lies there, if anything does (an overlay's whiteout)."""
        try:
            parent = self._parent(parts, make=False)
        except ImageInvalid:
            return
        try:
            self._clear(parent, parts[-1])
        finally:
            os.close(parent)

    def empty(self, parts: Sequence[str], *, keep: Written) -> None:
        """Remove what lower layers put into a directory; `keep` is what the present layer has written there.

        What is kept counts again: who has the same directory looked through over and over comes to an end.
        """
        try:
            place = self._open(parts)
        except ImageInvalid:
            return
        try:
            for name in os.listdir(place):  # noqa: PTH208 - by descriptor
                own = keep.get(name)
                if own is None:
                    self._clear(place, name)
                    continue
                self.count()
                if stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                    self.empty((*parts, name), keep=own)
        finally:
            os.close(place)

    def count(self) -> None:
        """Count an entry that leaves nothing; raises ImageInvalid `image_too_many_files`."""
        self._files += 1
        if self._files > self._caps.files:
            raise ImageInvalid("image_too_many_files", f"more than {self._caps.files} entries")

    def _made(self, size: int = 0) -> None:
        """Count an entry that takes room, also a directory on the way; raises ImageTooLarge where there is none."""
        self.count()
        self._stored += in_blocks(size)
        if self._caps.stored_bytes is not None and self._stored > self._caps.stored_bytes:
            raise ImageTooLarge(self._stored, most=self._caps.stored_bytes)

    def _parent(self, parts: Sequence[str], *, make: bool = True) -> int:
        if not parts:
            raise ImageInvalid("image_path_unsafe", "an entry of the image has no name")
        return self._open(parts[:-1], make=make)

    def _open(self, parts: Sequence[str], *, make: bool = False) -> int:
        """Open a directory below the root; a link on the way is refused, a missing one made if asked."""
        current = os.open(".", _DIRECTORY, dir_fd=self._root)
        for part in parts:
            above = current
            try:
                try:
                    current = os.open(part, _DIRECTORY, dir_fd=above)
                except FileNotFoundError:
                    if not make:
                        raise
                    self._made()
                    os.mkdir(part, 0o755, dir_fd=above)
                    current = os.open(part, _DIRECTORY, dir_fd=above)
                    os.fchmod(current, 0o755)
            except OSError:
                raise ImageInvalid(
                    "image_path_unsafe", f"no directory, or a link, on the way to {'/'.join(parts)[:200]!r}"
                ) from None
            finally:
                os.close(above)
        return current

    def _clear(self, parent: int, name: str, *, keep_directory: bool = False) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=parent)
        elif not keep_directory:
            shutil.rmtree(name, dir_fd=parent)
