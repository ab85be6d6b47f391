"""Opening and moving below a directory that nobody trusts, which may change at any moment: never out of it, and through
no link. openat2(2) answers in one step; on a kernel or below a filter without it every component is opened by itself.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Final

from tenantry.engines.jail.walking import open_directory

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_OPENAT2: Final = 437
_RESOLVE: Final = 1 | 2 | 4 | 8  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_RENAME_NOREPLACE: Final = 1
_ABSENT: Final = frozenset({errno.ENOSYS, errno.EPERM})


class _How(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_below(root: int, parts: Sequence[str], flags: int) -> int:
    """Open what lies there, none of `parts` being `..`; raises OSError, ELOOP or ENOTDIR where a link is on the way."""
    path = "/".join(parts) or "."
    how = _How(flags=flags | os.O_CLOEXEC, mode=0, resolve=_RESOLVE)
    found = int(_LIBC.syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)))
    if found >= 0:
        return found
    number = ctypes.get_errno()
    if number not in _ABSENT:
        raise OSError(number, os.strerror(number), path)
    return open_stepwise(root, parts, flags)


def open_stepwise(root: int, parts: Sequence[str], flags: int) -> int:
    """Do the same, a component at a time."""
    folder = open_directory(root, "/".join(parts[:-1]))
    try:
        return os.open(parts[-1] if parts else ".", flags | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def rename_new(source: str, target: str, *, source_folder: int, target_folder: int) -> None:
    """Rename, unless the new name is taken: FileExistsError."""
    answer = _LIBC.renameat2(source_folder, os.fsencode(source), target_folder, os.fsencode(target), _RENAME_NOREPLACE)
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source)
