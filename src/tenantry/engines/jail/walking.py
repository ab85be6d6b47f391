"""Looking through a directory that nobody trusts: by descriptor, one component at a time and never through a link."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MOST_ENTRIES: Final = 100_000
MOST_LEVELS: Final = 64
MOST_SKIPPED: Final = 1000
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """`reason` is one of `not_regular`, `unreadable`, `name`, `too_many`, `too_large`, `too_deep`, `entries`."""

    path: str
    reason: str


def walk(root: int, skipped: list[SkippedFile]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every entry, at most 100 000 of them, 64 levels deep; a directory comes before what is in it."""
    seen = 0
    pending = [""]
    while pending:
        path = pending.pop()
        try:
            directory = open_directory(root, path)
        except OSError:
            skipped.append(SkippedFile(path, "unreadable"))
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MOST_ENTRIES:
                        skipped.append(SkippedFile(path, "entries"))
                        return
                    if not is_text(entry.name):
                        skipped.append(SkippedFile(path, "name"))
                        continue
                    below = f"{path}/{entry.name}" if path else entry.name
                    if not entry.is_dir(follow_symlinks=False):
                        yield below, entry.stat(follow_symlinks=False)
                    elif below.count("/") < MOST_LEVELS:
                        pending.append(below)
                        yield below, entry.stat(follow_symlinks=False)
                    else:
                        skipped.append(SkippedFile(below, "too_deep"))
        except OSError:
            skipped.append(SkippedFile(path, "unreadable"))
        finally:
            os.close(directory)


def is_text(name: str) -> bool:
    """Refuse names that are no UTF-8 or hold control characters: they would travel into logs and headers."""
    return name.isprintable()


def open_directory(root: int, path: str) -> int:
    """Open a directory below the one open at `root`; raises OSError where a link or anything else is on the way."""
    current = os.open(".", _DIRECTORY, dir_fd=root)
    for part in path.split("/") if path else ():
        parent = current
        try:
            current = os.open(part, _DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
    return current


def open_file(root: int, parts: Sequence[str]) -> int:
    """Open a regular file below the one open at `root`; raises OSError for anything else, waiting for nobody."""
    directory = open_directory(root, "/".join(parts[:-1]))
    try:
        descriptor = os.open(parts[-1], _FILE, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", "/".join(parts))
    return descriptor
