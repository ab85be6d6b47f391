"""The files in a living sandbox's /workspace, for whoever is outside.

What lies there may be swapped by the sandbox while it is looked at. So: as the sandbox's own uid, by descriptor,
beneath /workspace and through no link (beneath.py); what is found is opened first and judged by its descriptor.
"""

import asyncio
import errno
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO, Final, cast

from tenantry.engines.jail.beneath import open_below, rename_new
from tenantry.engines.jail.errors import FileConflict, FileFull, FileMissing, FileRefused, SandboxEnded, SpecInvalid
from tenantry.engines.jail.file_types import FileChange, FileInfo, FileKind
from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.walking import MOST_LEVELS, is_text
from tenantry.engines.jail.watching import TEMPORARY, Watcher, changes
from tenantry.foundation.errors import TenantryError

_WORKSPACE: Final = "/workspace"
_OUTPUTS: Final = "/outputs"
_MOST_LISTED: Final = 10_000
_MOST_WATCHERS: Final = 8
_MAX_NAME: Final = 255
_CHUNK: Final = 256 << 10
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK: Final = "a link is on the way, and none is followed"
_RIGHTS: Final = "the sandbox's user may not do this there"
_ROOM: Final = "there is no room for it in /workspace"
_Refusal = Callable[[str], TenantryError]
_REFUSALS: Final[dict[int, _Refusal]] = {
    errno.ENOENT: FileMissing,
    errno.ENOTDIR: lambda path: FileConflict("not_a_directory", "what is there is no directory", path=path),
    errno.EISDIR: lambda path: FileConflict("not_a_file", "what is there is no regular file", path=path),
    errno.ENXIO: lambda path: FileConflict("not_a_file", "what is there is no regular file", path=path),
    errno.EEXIST: lambda path: FileConflict("file_exists", "something is there already", path=path),
    errno.ENOTEMPTY: lambda path: FileConflict("directory_not_empty", "the directory is not empty", path=path),
    errno.EINVAL: lambda path: FileConflict("inside_itself", "nothing can be moved into itself", path=path),
    errno.ELOOP: lambda path: FileRefused("file_behind_link", _LINK, path=path),
    errno.EXDEV: lambda path: FileRefused("file_behind_link", _LINK, path=path),
    errno.EACCES: lambda path: FileRefused("file_refused", _RIGHTS, path=path),
    errno.EPERM: lambda path: FileRefused("file_refused", _RIGHTS, path=path),
    errno.EROFS: lambda path: FileRefused("file_refused", _RIGHTS, path=path),
    errno.ENOSPC: lambda path: FileFull("workspace_full", _ROOM, path=path),
    errno.EDQUOT: lambda path: FileFull("workspace_full", _ROOM, path=path),
    errno.EFBIG: lambda path: FileFull("workspace_full", _ROOM, path=path),
    errno.ENOMEM: lambda path: FileFull("workspace_full", _ROOM, path=path),
}
InThread = Callable[[Callable[[], Any]], "asyncio.Future[Any]"]


class SandboxFiles:
    """Every call but `watch` blocks, so give it a thread. Paths are relative to /workspace, or begin with it.

    Nothing is reached through a link. Raises SpecInvalid for no path, FileMissing, FileConflict, FileRefused, FileFull,
    and SandboxEnded once the sandbox was closed. What is written counts to `disk_mib`, and to the memory of whoever
    writes it.
    """

    def __init__(self, root: int, *, uid: int | None, in_thread: InThread, over: asyncio.Future[Any]) -> None:
        """Take over the descriptor `root`."""
        self._root = root
        self._uid = uid
        self._in_thread = in_thread
        self._over = over
        self._lock = threading.Lock()
        self._watchers = 0

    def list(self, path: str = "") -> list[FileInfo]:
        """Tell what lies in a directory, by name; names that are no text or hold control characters are left out.

        Raises FileFull `directory_too_large` for more than 10 000.
        """
        parts = parse_path(path)
        found: list[FileInfo] = []
        with self._within(path) as root, _opened(root, parts, _FOLDER) as folder, os.scandir(folder) as entries:
            for entry in entries:
                if len(found) >= _MOST_LISTED:
                    raise FileFull("directory_too_large", f"more than {_MOST_LISTED} names", path=path)
                with suppress(FileNotFoundError):  # it went meanwhile
                    if is_text(entry.name):
                        found.append(_told((*parts, entry.name), entry.stat(follow_symlinks=False)))
        return sorted(found, key=lambda info: info.path)

    def stat(self, path: str) -> FileInfo:
        parts = parse_path(path)
        with self._within(path) as root:
            if not parts:
                return _told(parts, os.fstat(root))
            with _opened(root, parts[:-1], _FOLDER) as folder:
                return _told(parts, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False))

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading; the caller's to close, and good when the sandbox is gone."""
        with self._within(path) as root:
            found = open_below(root, parse_path(path), _FILE)
            if not stat.S_ISREG(os.fstat(found).st_mode):
                os.close(found)
                raise FileConflict("not_a_file", "what is there is no regular file", path=path)
        return os.fdopen(found, "rb")

    def writer(self, path: str, *, mode: int = 0o644, most_bytes: int) -> "FileWriter":
        """Give what writes a file as its pieces come; this alone blocks nothing."""
        return FileWriter(partial(self._within, path), path, uid=self._uid, mode=mode, most_bytes=most_bytes)

    def write(self, path: str, content: BinaryIO | Iterable[bytes], *, mode: int = 0o644, most_bytes: int) -> FileInfo:
        """Put a file there at once, in place of one that was; nothing is changed when it fails.

        Raises FileFull `file_too_large` above `most_bytes`, `workspace_full` when there is no room for it.
        """
        target = self.writer(path, mode=mode, most_bytes=most_bytes)
        try:
            target.begin()
            for piece in _pieces(content):
                target.write(piece)
            return target.finish()
        finally:
            target.discard()

    def make_directory(self, path: str) -> FileInfo:
        """Make a directory and those above it; one that is there is no error."""
        parts = parse_path(path)
        with self._within(path) as root:
            for depth in range(1, len(parts) + 1):
                with _opened(root, parts[: depth - 1], _FOLDER) as folder, suppress(FileExistsError):
                    os.mkdir(parts[depth - 1], 0o755, dir_fd=folder)
            with _opened(root, parts, _FOLDER) as made:
                return _told(parts, os.fstat(made))

    def delete(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file, a link or an empty directory, or all of one: not at once, and a retry is safe."""
        parts = _named(path)
        with self._within(path) as root, _opened(root, parts[:-1], _FOLDER) as folder:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(parts[-1], dir_fd=folder)
            elif recursive:
                _delete_tree(folder, parts[-1])
            else:
                os.rmdir(parts[-1], dir_fd=folder)

    def move(self, source: str, target: str) -> FileInfo:
        """Give it another name; raises FileConflict `file_exists` when that is taken."""
        old, new = _named(source), _named(target)
        with (
            self._within(source) as root,
            _opened(root, old[:-1], _FOLDER) as from_folder,
            _explained(target),
            _opened(root, new[:-1], _FOLDER) as to_folder,
        ):
            rename_new(old[-1], new[-1], source_folder=from_folder, target_folder=to_folder)
            return _told(new, os.stat(new[-1], dir_fd=to_folder, follow_symlinks=False))

    async def watch(self, path: str = "") -> AsyncIterator[FileChange]:
        """Tell what happens below a directory of /workspace from the first step on, until the sandbox is dead.

        At most 512 directories are watched: beyond, and when more happens than is read, an `overflow` says so.
        Close the iterator to end it. Raises at the first step what `list` raises, FileFull `watch_limit` for more than
        8 at a time, and WatchesExhausted.
        """
        parts = parse_path(path)
        if self._watchers >= _MOST_WATCHERS:
            raise FileFull("watch_limit", f"{_MOST_WATCHERS} watch this sandbox already: end one", path=path)
        self._watchers += 1
        try:
            with self._held() as root:
                watcher = Watcher(root, uid=self._uid)
            try:

                def begin() -> None:
                    with _explained(path):
                        watcher.begin(parts)

                await self._in_thread(begin)
                async for change in changes(watcher, in_thread=self._in_thread, over=self._over):
                    yield change
            finally:
                watcher.close()
        finally:
            self._watchers -= 1

    def close(self) -> None:
        """Let go of /workspace; what is being done with it comes to its end."""
        with self._lock:
            if self._root >= 0:
                os.close(self._root)
            self._root = -1

    @contextmanager
    def _held(self) -> Iterator[int]:
        """Hold /workspace by a descriptor that nobody else closes."""
        with self._lock:
            if self._root < 0:
                raise SandboxEnded("files")
            root = os.dup(self._root)
        try:
            yield root
        finally:
            os.close(root)

    @contextmanager
    def _within(self, path: str) -> Iterator[int]:
        with self._held() as root, _explained(path), filesystem_identity(self._uid):
            yield root


class FileWriter:
    """A file that is not in its place yet: `begin`, `write` each piece, `finish`, and `discard` always, at last.

    Each blocks for a moment, so give it a thread, one after the other. Raises what `SandboxFiles.write` does.
    """

    def __init__(
        self,
        within: Callable[[], AbstractContextManager[int]],
        path: str,
        *,
        uid: int | None,
        mode: int,
        most_bytes: int,
    ) -> None:
        self._within = within
        self._path = path
        self._parts = _named(path)
        self._uid = uid
        self._mode = mode & 0o777
        self._left = self._most = most_bytes
        self._temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
        self._folder = self._target = -1
        self._placed = False

    def begin(self) -> None:
        with self._within() as root:
            self._folder = open_below(root, self._parts[:-1], _FOLDER)
            self._target = os.open(self._temporary, _NEW, 0o600, dir_fd=self._folder)

    def write(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise FileFull("file_too_large", f"more than {self._most} bytes", path=self._path)
        rest = memoryview(piece)
        with _explained(self._path):
            while rest:
                rest = rest[os.write(self._target, rest) :]

    def finish(self) -> FileInfo:
        """Put it in its place, of one that was there too."""
        with _explained(self._path), filesystem_identity(self._uid):
            os.fchmod(self._target, self._mode)
            os.rename(self._temporary, self._parts[-1], src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._placed = True
        return _told(self._parts, os.fstat(self._target))

    def discard(self) -> None:
        """Let go of it, and leave nothing of one that was not finished; idempotent."""
        if self._target >= 0 and not self._placed:
            with filesystem_identity(self._uid), suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        for descriptor in {self._target, self._folder} - {-1}:
            os.close(descriptor)
        self._target = self._folder = -1


def parse_path(path: str) -> tuple[str, ...]:
    """Split into names below /workspace; raises SpecInvalid for what leads elsewhere or is no text."""
    for top, below in ((_WORKSPACE, ""), (_OUTPUTS, "outputs/")):
        if path == top or path.startswith(f"{top}/"):
            path = below + path[len(top) :]
            break
    else:
        if path.startswith("/"):
            raise SpecInvalid("path", "relative to /workspace, or below it")
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if ".." in parts or not is_text(path) or len(parts) > MOST_LEVELS:
        raise SpecInvalid("path", f"printable, without `..`, at most {MOST_LEVELS} names")
    if any(len(part.encode()) > _MAX_NAME for part in parts):
        raise SpecInvalid("path", f"names of at most {_MAX_NAME} bytes")
    return parts


def _named(path: str) -> tuple[str, ...]:
    parts = parse_path(path)
    if not parts:
        raise SpecInvalid("path", "something in /workspace, not /workspace itself")
    return parts


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Say in the product's words what the kernel has refused."""
    try:
        yield
    except OSError as error:
        refusal = _REFUSALS.get(error.errno or 0)
        if refusal is None:
            raise
        raise refusal(path) from error


@contextmanager
def _opened(root: int, parts: Sequence[str], flags: int) -> Iterator[int]:
    found = open_below(root, parts, flags)
    try:
        yield found
    finally:
        os.close(found)


def _told(parts: Sequence[str], found: os.stat_result) -> FileInfo:
    kinds = {stat.S_IFREG: FileKind.FILE, stat.S_IFDIR: FileKind.DIRECTORY, stat.S_IFLNK: FileKind.LINK}
    return FileInfo(
        path="/".join(parts),
        kind=kinds.get(stat.S_IFMT(found.st_mode), FileKind.OTHER),
        size_bytes=found.st_size,
        mode=stat.S_IMODE(found.st_mode),
        modified_at=_moment(found.st_mtime),
    )


def _moment(seconds: float) -> datetime:
    """Take any time a program may have set."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _pieces(content: BinaryIO | Iterable[bytes]) -> Iterable[bytes]:
    if not hasattr(content, "read"):
        return content
    source = cast("BinaryIO", content)
    return iter(lambda: source.read(_CHUNK), b"")


def _delete_tree(folder: int, name: str) -> None:
    """Delete a directory and all in it, whatever its depth: those inside are first moved up beside it."""
    pending = [name]
    while pending:
        below = []
        with _opened(folder, (pending[-1],), _FOLDER) as place:
            os.fchmod(place, 0o700)
            for inner in os.listdir(place):  # noqa: PTH208 - of a descriptor
                try:
                    os.unlink(inner, dir_fd=place)
                except IsADirectoryError:
                    below.append(_moved_up(inner, place, folder))
        os.rmdir(pending.pop(), dir_fd=folder)
        pending += below


def _moved_up(name: str, source: int, target: int) -> str:
    with _opened(source, (name,), _FOLDER) as moved:
        os.fchmod(moved, 0o700)  # its entry `..` changes too
    beside = f"{TEMPORARY}{secrets.token_hex(8)}"
    os.rename(name, beside, src_dir_fd=source, dst_dir_fd=target)
    return beside
