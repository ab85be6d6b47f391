"""The first keeper of the outermost key: a file of mode 0600 on this machine.

Content: JSON `{"envelope-key-file/1": <base64 of a Tink keyset>}`. Key ids count from 1, each
wrapped secret carries the id of the one that wrapped it.
"""

import base64
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from tenantry.engines.envelope.keyset import DataKey, Keyset
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper, unwrapped
from tenantry.foundation.errors import Fault

_FORMAT: Final = "envelope-key-file/1"
_MAX_BYTES: Final = 64 << 10
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class KeyFile:
    """A KeyWrapper on a key file. Processes that share the file see a rotation when they first meet its new key."""

    def __init__(self, path: Path, keyset: Keyset) -> None:
        self._path = path
        self._keyset = keyset

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raise Fault `key_file_absent`, `key_file_unsafe` or `key_file_damaged`, each with its remedy."""
        return cls(path, _read(path))

    @classmethod
    def ensure(cls, path: Path) -> Self:
        """Open; create it first when absent. Of processes that create at once, one wins and all open its file."""
        if not os.path.lexists(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, Keyset.create(), replace=False)
        return cls.open(path)

    @property
    def keys(self) -> tuple[DataKey, ...]:
        return self._keyset.keys

    async def wrap(self, secret: bytes, *, context: bytes) -> bytes:
        return await KeysetWrapper(self._keyset).wrap(secret, context=context)

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        if not self._keyset.knows(wrapped):
            self._keyset = _read(self._path)
        return unwrapped(self._keyset, wrapped, context)

    def is_current(self, wrapped: bytes) -> bool:
        return self._keyset.is_current(wrapped)

    def rotate(self) -> None:
        """Add a key that wraps from now on; what the former ones wrapped still unwraps."""
        self._change(lambda keyset: keyset.rotated())

    def retire(self, key_id: int) -> None:
        """Destroy a key, and with it what only it wrapped; wrap that anew before (`is_current`)."""
        self._change(lambda keyset: keyset.retired(key_id))

    def _change(self, change: Callable[[Keyset], Keyset]) -> None:
        with _locked(self._path.parent):
            keyset = change(_read(self._path))
            _write(self._path, keyset, replace=True)
            self._keyset = keyset

    def __repr__(self) -> str:
        return f"<KeyFile {self._path}>"


def _read(path: Path) -> Keyset:
    try:
        file = os.open(path, _READ)
    except FileNotFoundError:
        raise Fault("key_file_absent", f"{path} is not there; restore it from its backup") from None
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise _unsafe(path, f"cannot be opened ({why})", f"make it a file of user {os.geteuid()}, mode 0600") from None
    try:
        _check(path, os.fstat(file))
        content = os.read(file, _MAX_BYTES + 1)
    finally:
        os.close(file)
    try:
        held = json.loads(content)
        return Keyset.parse(base64.b64decode(held[_FORMAT], validate=True))
    except (ValueError, TypeError, KeyError, Fault):
        # None of the causes is told: they quote what they could not read.
        raise Fault("key_file_damaged", f"{path} is not a key file; restore it from its backup") from None


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unsafe(path, "is not a regular file", f"make it a file of user {os.geteuid()}, mode 0600")
    if status.st_uid != os.geteuid():
        raise _unsafe(path, f"belongs to user {status.st_uid}", f"chown {os.geteuid()} {path}")
    if status.st_mode & 0o177:
        raise _unsafe(path, f"has mode {status.st_mode & 0o7777:04o}", f"chmod 600 {path}; rotate the key")
    folder = path.parent.stat()
    if folder.st_uid not in {0, os.geteuid()}:
        raise _unsafe(path.parent, f"belongs to user {folder.st_uid}", f"chown {os.geteuid()} {path.parent}")
    if folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        raise _unsafe(path.parent, "lets others replace the key file", f"chmod go-w {path.parent}")


def _unsafe(path: Path, what: str, remedy: str) -> Fault:
    return Fault("key_file_unsafe", f"{path} {what}; {remedy}")


def _write(path: Path, keyset: Keyset, *, replace: bool) -> None:
    """Write whole or not at all, durably; without `replace`, an existing file stays."""
    held = {_FORMAT: base64.b64encode(keyset.secret()).decode("ascii")}
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(fresh, _CREATE, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as writing:
            json.dump(held, writing)
            writing.flush()
            os.fsync(file)
        if replace:
            fresh.replace(path)
        else:
            # A hard link, unlike a rename, never takes the place of a file another process has just made.
            with suppress(FileExistsError):
                os.link(fresh, path, follow_symlinks=False)
    finally:
        fresh.unlink(missing_ok=True)
    with _opened(path.parent) as folder:
        os.fsync(folder)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with _opened(folder) as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
