"""Steps below a folder that no planted link can lead astray: each name is opened relative to the folder before it."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from tenantry.foundation.errors import Fault, Unavailable
from tenantry.foundation.objects.keys import DIGEST_BYTES
from tenantry.foundation.objects.ports import ObjectEntry

FILE_MARK: Final = ","
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSAFE: Final = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_ATTEMPTS: Final = 8
_Got = TypeVar("_Got")


@contextmanager
def told() -> Iterator[None]:
    """Tell the system's errors as ours, without paths; FileNotFoundError passes, the caller knows what it means."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable("object_store_full", "the object directory has no space left; free some") from None
        if error.errno in _UNSAFE:
            raise Fault(
                "object_path_unsafe", "a link or a stranger's file stands among the objects; remove it"
            ) from None
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise Unavailable("object_store_unavailable", f"the object directory does not answer ({name})") from None


@contextmanager
def descended(root: int, path: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Open the folder at `path` below the open folder `root`; created folders are 0700 and survive a power cut."""
    folder = os.dup(root)
    try:
        for name in path:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                    os.fsync(folder)
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def retried(step: Callable[[], _Got]) -> _Got:
    """Repeat a step whose folder a concurrent delete took away; raises Unavailable `object_write_lost` in the end."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            return step()
    raise Unavailable("object_write_lost", "the tenant's objects were being removed during this write")


def entries(folder: int, prefix: str) -> Iterator[ObjectEntry]:
    """Walk the objects below an open folder in byte order of their keys; links and strangers' files are passed over."""
    with os.scandir(folder) as found:
        names = [_sorting(one) for one in found if not one.name.startswith(FILE_MARK) and not one.is_symlink()]
    for name in sorted(names):
        if name.endswith("/"):
            with suppress(FileNotFoundError), descended(folder, [name[:-1]]) as below:
                yield from entries(below, prefix + name)
            continue
        with suppress(FileNotFoundError):
            status = os.stat(name + FILE_MARK, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_size >= DIGEST_BYTES:
                yield ObjectEntry(prefix + name, status.st_size - DIGEST_BYTES)


def _sorting(entry: "os.DirEntry[str]") -> str:
    # In a bucket `a-b` comes before `a/b`: a folder sorts with its slash, an object without its mark.
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name.removesuffix(FILE_MARK)
