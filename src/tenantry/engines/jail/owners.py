"""Which supervisor a leftover belongs to, and whether that supervisor still lives.

Each opens a file named by a random instance and keeps it locked; a file nobody holds a lock on tells of one that died.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from tenantry.engines.jail.cgroups import Hierarchy, reclaim, sweep_empty


class Owner:
    """This supervisor's own mark; `instance` begins the name of everything it makes."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.instance = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._path = directory / self.instance
        fresh = directory / f".{self.instance}"  # locked before it has the name others look for
        self._descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        fresh.rename(self._path)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def reclaim_orphans(directory: Path, hierarchy: Hierarchy) -> int:
    """Kill and remove what dead supervisors left; returns how many supervisors that were. Blocks while it waits."""
    dead = 0
    for path, descriptor in abandoned(directory):
        try:
            reclaim(hierarchy, prefix=f"{path.name.lstrip('.')}-")
            path.unlink(missing_ok=True)
            dead += 1
        finally:
            os.close(descriptor)
    sweep_empty(hierarchy)
    return dead


def abandoned(directory: Path) -> Iterator[tuple[Path, int]]:
    """Yield each mark of a supervisor that died, with the descriptor that holds its lock, the caller's to close."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        yield path, descriptor
