"""Watching a /workspace by inotify(7): which directories, and what of their events is told."""

import asyncio
import ctypes
import errno
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tenantry.engines.jail.beneath import open_below
from tenantry.engines.jail.errors import WatchesExhausted
from tenantry.engines.jail.file_types import ChangeKind, FileChange
from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.output import ready_to_read
from tenantry.engines.jail.walking import is_text

#: How names begin that are on their way to others: of what is being written or deleted.
TEMPORARY: Final = ".tenantry-"
MOST_DIRECTORIES: Final = 512
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ISDIR = 0x4000, 0x8000, 0x40000000
_ONLYDIR, _EXCL_UNLINK = 0x01000000, 0x04000000
_MASK: Final = (
    _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR | _EXCL_UNLINK
)  # fmt: skip
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 1 << 16
_MOST_READS: Final = 16
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
_NONE_LEFT: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_INSTANCES: Final = Path("/proc/sys/fs/inotify/max_user_instances")
_USUAL_INSTANCES: Final = 128
_SHARES: Final = 4
InThread = Callable[[Callable[[], Any]], "asyncio.Future[Any]"]


def fair_share() -> int:
    """Tell how many watches one tenant may have at a time in one process: a quarter of what the kernel gives its user.

    Each watch is an inotify instance, and the kernel counts those of a user, which is the same for all tenants.
    """
    most = _USUAL_INSTANCES
    with suppress(OSError, ValueError):
        most = int(_INSTANCES.read_text())
    return max(1, most // _SHARES)


class Watcher:
    """`begin` and `take` block a little, so give them a thread; `close` waits for the one that is at work."""

    def __init__(self, root: int, *, uid: int | None) -> None:
        """Keep a descriptor of its own of `root`. Raises WatchesExhausted when the kernel gives no more instances."""
        self.queue = _LIBC.inotify_init1(_NONBLOCK_CLOEXEC)
        if self.queue < 0:
            number = ctypes.get_errno()
            if number in _NONE_LEFT:
                raise WatchesExhausted
            raise OSError(number, os.strerror(number))
        self._root = os.dup(root)
        self._uid = uid
        self._lock = threading.Lock()
        self._paths: dict[int, tuple[str, ...]] = {}
        self._changes: dict[FileChange, None] = {}
        self._moving: dict[int, tuple[tuple[str, ...], bool]] = {}
        self._full = False

    def begin(self, parts: Sequence[str]) -> None:
        """Watch a directory and those below it; raises OSError when it is none."""
        with self._lock, filesystem_identity(self._uid):
            self._watch(tuple(parts))
            self._watch_below(tuple(parts), told=False)

    def take(self) -> list[FileChange]:
        """Tell what has happened since, and watch what is new; empty when nothing has."""
        with self._lock, filesystem_identity(self._uid):
            for _ in range(_MOST_READS):
                try:
                    events = os.read(self.queue, _READ_BYTES)
                except (BlockingIOError, OSError):
                    break
                for event in _parsed(events):
                    self._note(*event)
            for parts, is_directory in self._moving.values():
                self._gone(parts, is_directory=is_directory)
            self._moving.clear()
            told, self._changes = list(self._changes), {}
            return told

    def close(self) -> None:
        with self._lock:
            for descriptor in {self.queue, self._root} - {-1}:
                os.close(descriptor)
            self.queue = self._root = -1

    def _watch(self, parts: tuple[str, ...]) -> bool:
        if len(self._paths) >= MOST_DIRECTORIES:
            return self._overflow()
        folder = open_below(self._root, parts, _FOLDER)
        try:
            number = _LIBC.inotify_add_watch(self.queue, f"/proc/self/fd/{folder}".encode(), _MASK)
        finally:
            os.close(folder)
        if number < 0:
            if ctypes.get_errno() == errno.ENOSPC:
                return self._overflow()
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._paths[number] = parts
        return True

    def _overflow(self) -> bool:
        if not self._full:
            self._tell(ChangeKind.OVERFLOW, ())
        self._full = True
        return False

    def _watch_below(self, parts: tuple[str, ...], *, told: bool) -> None:
        """Watch every directory below one, and with `told` tell what is there already: it came before the watch."""
        pending = [parts]
        while pending:
            above = pending.pop()
            with suppress(OSError):
                folder = open_below(self._root, above, _FOLDER)
                try:
                    with os.scandir(folder) as entries:
                        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
                finally:
                    os.close(folder)
                for name, is_directory in found:
                    if told:
                        self._tell(ChangeKind.CREATED, (*above, name))
                    if is_directory and self._try_to_watch((*above, name)):
                        pending.append((*above, name))

    def _try_to_watch(self, parts: tuple[str, ...]) -> bool:
        with suppress(OSError):
            return self._watch(parts)
        return False

    def _note(self, number: int, mask: int, cookie: int, name: str) -> None:
        if mask & _OVERFLOW:
            self._tell(ChangeKind.OVERFLOW, ())
        if mask & _IGNORED:
            self._paths.pop(number, None)
        above = self._paths.get(number)
        if above is None or not name:
            return
        parts, is_directory = (*above, name), bool(mask & _ISDIR)
        if mask & _MOVED_FROM:
            self._moving[cookie] = (parts, is_directory)
        elif mask & _MOVED_TO:
            self._arrived(parts, self._moving.pop(cookie, None), is_directory=is_directory)
        elif mask & _CREATE:
            self._arrived(parts, None, is_directory=is_directory)
        elif mask & _DELETE:
            self._tell(ChangeKind.DELETED, parts)
        elif mask & (_MODIFY | _CLOSE_WRITE):
            self._tell(ChangeKind.MODIFIED, parts)

    def _arrived(
        self, parts: tuple[str, ...], before: tuple[tuple[str, ...], bool] | None, *, is_directory: bool
    ) -> None:
        if before is None or before[0][-1].startswith(TEMPORARY):
            self._tell(ChangeKind.CREATED, parts)
        else:
            self._tell(ChangeKind.MOVED, parts, moved_from=before[0])
            if is_directory:
                old = before[0]
                for number, path in self._paths.items():
                    if path[: len(old)] == old:
                        self._paths[number] = parts + path[len(old) :]
        if is_directory and before is None and self._try_to_watch(parts):
            self._watch_below(parts, told=True)

    def _gone(self, parts: tuple[str, ...], *, is_directory: bool) -> None:
        """Forget a directory that was moved out of sight, and all that was below it."""
        self._tell(ChangeKind.DELETED, parts)
        if is_directory:
            for number in [number for number, path in self._paths.items() if path[: len(parts)] == parts]:
                del self._paths[number]
                _LIBC.inotify_rm_watch(self.queue, number)

    def _tell(self, kind: ChangeKind, parts: tuple[str, ...], *, moved_from: tuple[str, ...] = ()) -> None:
        """Tell it once in a batch; names on their way, and those that are no text, are nobody's affair."""
        if parts and (parts[-1].startswith(TEMPORARY) or not is_text("/".join(parts))):
            return
        before = "/".join(moved_from)
        self._changes[FileChange(kind=kind, path="/".join(parts), moved_from=before if is_text(before) else "")] = None


async def changes(watcher: Watcher, *, in_thread: InThread, over: asyncio.Future[Any]) -> AsyncIterator[FileChange]:
    """Tell the changes of a watcher that has begun until `over` is done, which nothing changes after."""
    while True:
        ended = over.done()
        for change in await in_thread(watcher.take):
            yield change
        if ended:
            return
        await ready_to_read([watcher.queue], over)


def _parsed(events: bytes) -> Iterator[tuple[int, int, int, str]]:
    at = 0
    while at < len(events):
        number, mask, cookie, length = _EVENT.unpack_from(events, at)
        at += _EVENT.size
        yield number, mask, cookie, os.fsdecode(events[at : at + length].rstrip(b"\0"))
        at += length
