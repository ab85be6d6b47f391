"""Host uids for sandboxes, one each, exclusive among every process that shares the directory.

The directory is the host's, not the home's: two installations on one host would else give one uid to two sandboxes,
and the one that clears up after a dead worker would kill the other's.

A uid is held by a lock on its file; the lock of a process that died is free at once, but its file still names that
process, so whoever takes it next first makes sure that nothing of that uid is left alive. A uid given back is used
again by the same process last of all.
"""

import fcntl
import os
import signal
from collections import deque
from pathlib import Path
from typing import Final

from tenantry.engines.jail.errors import JailUnavailable

DIRECTORY: Final = Path("/run/tenantry/uids")
FIRST: Final = 200_000
COUNT: Final = 10_000
_RESTING: Final = 32  # this many lie idle before one is used again


class UidPool:
    def __init__(self, *, directory: Path, first: int = FIRST, count: int = COUNT) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._free: deque[int] = deque()
        self._locks: dict[int, int] = {}
        self._untried = iter(range(first, first + count))

    def acquire(self) -> int:
        """Take a uid nobody uses; raises JailUnavailable `uids_exhausted` when the whole range is taken."""
        if len(self._free) > _RESTING:
            return self._free.popleft()
        for uid in self._untried:
            if self._lock(uid):
                return uid
        if self._free:
            return self._free.popleft()
        raise JailUnavailable(
            "uids_exhausted", "every host uid of the pool is in use", remedy="run fewer sandboxes, or widen the pool"
        )

    def release(self, uid: int) -> None:
        """Give back a uid whose processes and files are gone; the lock stays, other processes have theirs."""
        self._free.append(uid)

    def close(self) -> None:
        for descriptor in self._locks.values():
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
        self._locks.clear()
        self._free.clear()

    def _lock(self, uid: int) -> bool:
        descriptor = os.open(self._directory / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if os.fstat(descriptor).st_size and kill_everything_of(uid):
            os.close(descriptor)  # still dying: another uid will do
            return False
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._locks[uid] = descriptor
        return True


def kill_everything_of(uid: int) -> int:
    """Kill every process whose real uid is `uid`, which no person's is; returns how many there were."""
    found = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            handle = os.pidfd_open(int(entry.name))
        except (ProcessLookupError, OSError):
            continue
        try:
            if entry.stat().st_uid == uid:
                found += 1
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            continue
        finally:
            os.close(handle)
    return found
