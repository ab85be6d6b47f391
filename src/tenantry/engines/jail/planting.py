"""Writing a tree nobody trusts into a fresh /workspace: by descriptor, through no link, as the uid that gets it."""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Final

from tenantry.engines.jail.errors import TreeInvalid
from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.walking import MOST_ENTRIES, MOST_LEVELS, is_text, open_directory

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_MODE: Final = 0o777
_MAX_NAME: Final = 255
_MAX_TARGET: Final = 4095
_MOST_LINK_BYTES: Final = 64 << 20
_LATEST_NS: Final = 1 << 62
_CHUNK: Final = 256 << 10
_OUTPUTS: Final = "outputs"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Kind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """`content` has at least `size` bytes and is read from where it stands; `target` is a link's, as text."""

    path: str
    kind: Kind
    mode: int
    mtime_ns: int
    size: int = 0
    content: IO[bytes] | None = field(default=None, repr=False)
    target: str = ""


class Planter:
    """Writes below `root`, an empty directory but for an empty `outputs`, which stays unless something is to lie there.

    Links come to be when everything else is there, and modes of directories after them. Set-user-id, set-group-id and
    sticky bits are dropped. Blocks of zeros become holes, so that nothing takes more than it took.
    """

    def __init__(self, root: int, *, uid: int | None, max_bytes: int) -> None:
        self._root = root
        self._uid = uid
        self._max_bytes = max_bytes
        self._kinds: dict[tuple[str, ...], Kind] = {(): Kind.DIRECTORY}
        self._implied: set[tuple[str, ...]] = set()
        self._directories: list[tuple[tuple[str, ...], Entry]] = []
        self._links: list[tuple[tuple[str, ...], Entry]] = []
        self._link_bytes = 0
        self.files = 0
        self.bytes = 0
        with filesystem_identity(uid):
            self._has_outputs = _removed(root, _OUTPUTS)

    def add(self, entry: Entry) -> None:
        """Write one entry; raises TreeInvalid for one that would lie outside, twice, below no directory, or not fit."""
        parts = _split(entry.path)
        if not parts and entry.kind is Kind.DIRECTORY:
            return
        self._claim(parts, entry)
        try:
            if entry.kind is Kind.DIRECTORY:
                self._directories.append((parts, entry))
                if parts not in self._implied:
                    self._make_directory(parts, mode=0o700)
            elif entry.kind is Kind.LINK:
                self._hold_link(parts, entry)
            else:
                self._write(parts, entry)
        except OSError as error:
            raise self._explained(error) from error

    def finish(self) -> None:
        try:
            with filesystem_identity(self._uid):
                for parts, entry in self._links:
                    self._link(parts, entry)
                if self._has_outputs and (_OUTPUTS,) not in self._kinds:
                    os.mkdir(_OUTPUTS, 0o755, dir_fd=self._root)
                for parts, entry in sorted(self._directories, key=lambda item: len(item[0]), reverse=True):
                    folder = open_directory(self._root, "/".join(parts))
                    try:
                        os.utime(folder, ns=_moments(entry))
                        os.fchmod(folder, entry.mode & _KEPT_MODE)
                    finally:
                        os.close(folder)
        except OSError as error:
            raise self._explained(error) from error

    def _claim(self, parts: tuple[str, ...], entry: Entry) -> None:
        self.files += 1
        self.bytes += entry.size
        if self.files > MOST_ENTRIES:
            raise TreeInvalid(f"more than {MOST_ENTRIES} entries")
        if entry.size < 0 or self.bytes > self._max_bytes:
            raise self._too_large()
        again = self._kinds.get(parts)
        if again is not None and not (parts in self._implied and entry.kind is Kind.DIRECTORY):
            raise TreeInvalid(f"twice in one tree: {entry.path[:200]!r}")
        self._require_directory(parts[:-1], entry.path)
        self._kinds[parts] = entry.kind

    def _require_directory(self, parts: tuple[str, ...], path: str) -> None:
        kind = self._kinds.get(parts)
        if kind is Kind.DIRECTORY:
            return
        if kind is not None:
            raise TreeInvalid(f"below a file or a link: {path[:200]!r}")
        self._require_directory(parts[:-1], path)
        self._kinds[parts] = Kind.DIRECTORY
        self._implied.add(parts)
        if len(self._implied) > MOST_ENTRIES:
            raise TreeInvalid(f"more than {MOST_ENTRIES} entries")
        try:
            self._make_directory(parts, mode=0o755)
        except OSError as error:
            raise self._explained(error) from error

    def _make_directory(self, parts: tuple[str, ...], *, mode: int) -> None:
        with filesystem_identity(self._uid):
            folder = self._parent(parts)
            try:
                os.mkdir(parts[-1], mode, dir_fd=folder)
            finally:
                os.close(folder)

    def _write(self, parts: tuple[str, ...], entry: Entry) -> None:
        with filesystem_identity(self._uid):
            folder = self._parent(parts)
            try:
                place = os.open(parts[-1], _CREATE, 0o600, dir_fd=folder)
            finally:
                os.close(folder)
        with os.fdopen(place, "wb", buffering=0) as target:
            left = entry.size
            while left and entry.content and (chunk := entry.content.read(min(_CHUNK, left))):
                left -= len(chunk)
                if chunk.count(0) == len(chunk):
                    target.seek(len(chunk), os.SEEK_CUR)
                else:
                    _write_all(place, chunk)
            target.truncate(entry.size)
            with filesystem_identity(self._uid):
                os.utime(place, ns=_moments(entry))
                os.fchmod(place, entry.mode & _KEPT_MODE)

    def _hold_link(self, parts: tuple[str, ...], entry: Entry) -> None:
        size = len(os.fsencode(entry.target))
        self._link_bytes += size
        if not 0 < size <= _MAX_TARGET or not is_text(entry.target) or self._link_bytes > _MOST_LINK_BYTES:
            raise TreeInvalid(f"a link to no path: {entry.path[:200]!r}")
        self._links.append((parts, entry))

    def _link(self, parts: tuple[str, ...], entry: Entry) -> None:
        folder = self._parent(parts)
        try:
            os.symlink(entry.target, parts[-1], dir_fd=folder)
            os.utime(parts[-1], ns=_moments(entry), dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def _parent(self, parts: tuple[str, ...]) -> int:
        return open_directory(self._root, "/".join(parts[:-1]))

    def _explained(self, error: OSError) -> Exception:
        return self._too_large() if error.errno in _FULL else error

    def _too_large(self) -> TreeInvalid:
        return TreeInvalid(f"more than the {self._max_bytes >> 20} MiB it has room for")


def _split(path: str) -> tuple[str, ...]:
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    unsafe = path.startswith("/") or ".." in parts or not is_text(path) or len(parts) > MOST_LEVELS + 1
    if unsafe or any(len(os.fsencode(part)) > _MAX_NAME for part in parts):
        raise TreeInvalid(f"unsafe path: {path[:200]!r}")
    return parts


def _moments(entry: Entry) -> tuple[int, int]:
    moment = min(max(entry.mtime_ns, 0), _LATEST_NS)
    return moment, moment


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _removed(root: int, name: str) -> bool:
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=root)
        return True
    return False
