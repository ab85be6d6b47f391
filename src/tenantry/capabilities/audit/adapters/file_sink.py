"""A stream into files of the installation, for a collector that reads them: one a day, appended to and synced.

    <directory>/<tenant>/<stream>/YYYY-MM-DD.jsonl    by the day (UTC) on which it was written

The directory is one that the operator has named in the settings; what is below it follows from ids alone. One process
writes a stream at a time, by its lease, and a lock on the file keeps out what has outlived one. A line that a crash has
cut off is taken away before the next is written.
"""

import asyncio
import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from tenantry.capabilities.audit.errors import NotTakenError
from tenantry.capabilities.audit.types.streams import AuditStream, Batch, Target
from tenantry.foundation.clock import Clock
from tenantry.foundation.ids import Prefix, format_id

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking, so that a planted FIFO is opened and refused instead of waited for.
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE: Final = 64 << 10


class FileSink:
    """The `Sink` port for files. `directories` by the name that streams know them by; they must be there."""

    def __init__(self, directories: Mapping[str, Path], *, clock: Clock) -> None:
        self._directories = directories
        self._clock = clock

    async def take(self, stream: AuditStream, target: Target | None, batch: Batch) -> None:
        del target
        root = self._directories.get(stream.directory or "")
        if root is None:
            raise NotTakenError("directory_unknown")
        folders = [format_id(Prefix.TENANT, batch.tenant_id), format_id(Prefix.AUDIT_STREAM, stream.stream_id)]
        name = f"{self._clock.now():%Y-%m-%d}.jsonl"
        # To its end, also when it takes too long: nobody stops a thread.
        await asyncio.shield(asyncio.to_thread(_append, root, folders, name, batch.lines))


def _append(root: Path, folders: list[str], name: str, lines: bytes) -> None:
    try:
        with ExitStack() as opened:
            place = _held(os.open(root, _FOLDER), opened)
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700, dir_fd=place)
                    os.fsync(place)
                place = _held(os.open(folder, _FOLDER, dir_fd=place), opened)
            _write(place, name, lines)
    except BlockingIOError:
        raise NotTakenError("file_busy") from None
    except OSError as error:
        raise NotTakenError(f"file_{os.strerror(error.errno or 0).lower().replace(' ', '_')}") from None


def _held(descriptor: int, opened: ExitStack) -> int:
    opened.callback(os.close, descriptor)
    return descriptor


def _write(place: int, name: str, lines: bytes) -> None:
    file = os.open(name, _FILE, 0o600, dir_fd=place)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise NotTakenError("file_not_regular", lasting=True)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # closing gives it back
        end = _end_of_lines(file)
        os.ftruncate(file, end)
        written = 0
        while written < len(lines):
            written += os.pwrite(file, lines[written : written + (1 << 20)], end + written)
        os.fsync(file)
        os.fsync(place)
    finally:
        os.close(file)


def _end_of_lines(file: int) -> int:
    """Tell where the last whole line ends."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - _PIECE)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
