"""Touching a sandbox's files with no more rights than the sandbox has."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@contextmanager
def filesystem_identity(uid: int | None) -> Iterator[None]:
    """Let this thread reach files as `uid` and as a group of that number (setfsuid(2)); `None` changes nothing.

    A root supervisor loses its override of permissions for the block, as the kernel drops the file capabilities with
    the uid. Only this thread changes, so use it in a thread of one's own and never across an await.
    """
    if uid is None or os.geteuid() != 0:
        yield
        return
    _LIBC.setfsgid(uid)
    _LIBC.setfsuid(uid)
    if _LIBC.setfsuid(-1) != uid:  # the call reports no errors; asking with -1 tells what is set
        _LIBC.setfsgid(0)
        raise PermissionError(1, f"cannot take on file system uid {uid}")
    try:
        yield
    finally:
        _LIBC.setfsuid(0)
        _LIBC.setfsgid(0)
        if _LIBC.setfsuid(-1) != 0:
            os.abort()  # a thread that kept a sandbox's identity must not go back to its pool
