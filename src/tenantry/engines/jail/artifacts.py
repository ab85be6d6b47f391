"""Files a dead sandbox left in its /workspace (with /outputs in it, as `outputs/…`).

What lies there was arranged by code nobody trusts: links to anywhere, pipes without end, devices, sparse giants, a
million names. So: as the sandbox's own uid, by descriptor, one component at a time and never through a link; regular
files only; numbers and sizes capped, a file counting as large as it says it is.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.globs import matches, parse_pattern
from tenantry.engines.jail.identity import filesystem_identity

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MAX_ENTRIES: Final = 100_000
_MAX_DEPTH: Final = 64
_MAX_PATTERNS: Final = 256


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """`path` is relative to /workspace. Good until the sandbox is closed."""

    path: str
    size_bytes: int
    executable: bool
    _root: int
    _uid: int | None

    def open(self) -> BinaryIO:
        """Open for reading by a new descriptor, the caller's to close; blocking, so not on an event loop.

        Raises OSError when it is no longer a regular file.
        """
        with filesystem_identity(self._uid):
            descriptor = _open_below(self._root, self.path.split("/"))
        return os.fdopen(descriptor, "rb")

    def read(self) -> bytes:
        with self.open() as source:
            return source.read(self.size_bytes)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """`reason` is one of `not_regular`, `unreadable`, `name`, `too_many`, `too_large`, `too_deep`, `entries`."""

    path: str
    reason: str


class Artifacts(list[ArtifactFile]):
    """The files taken, by path, and in `skipped` those that matched or hid and were not."""

    def __init__(self, files: Sequence[ArtifactFile], skipped: Sequence[SkippedFile]) -> None:
        super().__init__(files)
        self.skipped = tuple(skipped)


def collect(root: int, *, patterns: Sequence[str], max_files: int, max_bytes: int, uid: int | None) -> Artifacts:
    """Walk the directory open at `root` for what matches any of `patterns`, in a thread of its own.

    The first `max_files` by path are taken while their sizes sum to no more than `max_bytes`; a larger one is skipped
    and smaller ones after it are still taken.
    """
    if len(patterns) > _MAX_PATTERNS:
        raise SpecInvalid("artifacts", f"at most {_MAX_PATTERNS} patterns")
    wanted = [parse_pattern(pattern) for pattern in patterns]
    found: list[ArtifactFile] = []
    skipped: list[SkippedFile] = []
    left = max_bytes
    with filesystem_identity(uid):
        for path, status in sorted(_walk(root, skipped), key=lambda item: item[0]):
            if not any(matches(path.split("/"), pattern) for pattern in wanted):
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append(SkippedFile(path, "not_regular"))
            elif len(found) >= max_files:
                skipped.append(SkippedFile(path, "too_many"))
            elif status.st_size > left:
                skipped.append(SkippedFile(path, "too_large"))
            else:
                left -= status.st_size
                found.append(ArtifactFile(path, status.st_size, bool(status.st_mode & 0o111), root, uid))
    return Artifacts(found, skipped[:1000])


def _walk(root: int, skipped: list[SkippedFile]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every entry that is no directory, at most 100 000 of them, 64 levels deep."""
    seen = 0
    pending = [""]
    while pending:
        path = pending.pop()
        try:
            directory = _open_directory(root, path)
        except OSError:
            skipped.append(SkippedFile(path, "unreadable"))
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _MAX_ENTRIES:
                        skipped.append(SkippedFile(path, "entries"))
                        return
                    if not _is_text(entry.name):
                        skipped.append(SkippedFile(path, "name"))
                        continue
                    below = f"{path}/{entry.name}" if path else entry.name
                    if not entry.is_dir(follow_symlinks=False):
                        yield below, entry.stat(follow_symlinks=False)
                    elif below.count("/") < _MAX_DEPTH:
                        pending.append(below)
                    else:
                        skipped.append(SkippedFile(below, "too_deep"))
        except OSError:
            skipped.append(SkippedFile(path, "unreadable"))
        finally:
            os.close(directory)


def _is_text(name: str) -> bool:
    """Refuse names that are no UTF-8 or hold control characters: they would travel into logs and headers."""
    return name.isprintable()


def _open_directory(root: int, path: str) -> int:
    current = os.open(".", _DIRECTORY, dir_fd=root)
    for part in path.split("/") if path else ():
        parent = current
        try:
            current = os.open(part, _DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
    return current


def _open_below(root: int, parts: Sequence[str]) -> int:
    directory = _open_directory(root, "/".join(parts[:-1]))
    try:
        descriptor = os.open(parts[-1], _FILE, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", "/".join(parts))
    return descriptor
