"""One cgroup per sandbox: version 2 where a subtree is ours to divide, version 1 otherwise, or none at all.

Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids}.rst. A group is a child of `tenantry-jail`
below the supervisor's own group, so that whatever bounds the supervisor bounds its sandboxes too. Its name carries the
supervisor's instance, by which the next one knows what a dead one left behind.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from tenantry.engines.jail.group_places import group_below, mounts_of, own_groups
from tenantry.engines.jail.kernel import Moved, added, read_moved
from tenantry.engines.jail.types import MIB, Limits

PARENT: Final = "tenantry-jail"
_PERIOD_US: Final = 100_000
OVERHEAD_PIDS: Final = 3  # bwrap's monitor, process 1, and the fork that becomes the program
OVERHEAD_NPROC: Final = OVERHEAD_PIDS + 1  # RLIMIT_NPROC is asked first, and counts no refusals: it stands behind
CONTROLLERS: Final = ("memory", "pids", "cpu")
COUNTER: Final = "cpuacct"  # of version 1, where `cpu` bounds and does not count; taken where it is there
#: Of two limits alike the second is asked first; some kernels (6.18) count neither, so whoever reads adds what is sure.
_V1_MEMORY_HITS: Final = ("memory.failcnt", "memory.memsw.failcnt")
_MOST_LOOKED_AT: Final = 64  # each takes some 20 µs, and a kill waits for them
_REMOVAL_SECONDS, _FREEZING_SECONDS = 5.0, 1.0
_GROUP_NAME: Final = re.compile(r"(\d+)-[0-9a-f]{12}-\d+")


class CgroupVersion(StrEnum):
    V2 = "v2"
    V1 = "v1"
    NONE = "none"


_DYING: Final = {
    CgroupVersion.V2: (("cpu.max", "max"), ("cpu.weight", "10000")),
    CgroupVersion.V1: (("cpu.cfs_quota_us", "-1"), ("cpu.shares", "262144")),
}


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups are made: one directory per controller, all the same one in version 2.

    `reason` says why there is none, for people.
    """

    version: CgroupVersion
    parents: Mapping[str, Path] = field(default_factory=dict)
    reason: str = ""

    @property
    def directories(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.parents.values()))


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """What the kernel counted, read before the group is removed."""

    oom_kills: int = 0
    memory_limit_hits: int = 0
    pids_refused: int = 0
    throttled_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    cpu_seconds: float | None = None


class Cgroup:
    """The group of one sandbox; without a hierarchy it is empty and bounds nothing."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self.version = hierarchy.version
        self._places = {controller: parent / name for controller, parent in hierarchy.parents.items()}
        self.directories = tuple(dict.fromkeys(self._places.values()))

    @property
    def join_files(self) -> tuple[str, ...]:
        return tuple(f"{directory}/cgroup.procs" for directory in self.directories)

    def create(self) -> None:
        """Make the group, unbounded as yet; raises OSError, leaving nothing, when the kernel refuses."""
        try:
            for directory in self.directories:
                directory.mkdir(mode=0o755)
        except OSError:
            self.remove()
            raise

    def bound(self, limits: Limits) -> None:
        """Write its limits; raises OSError when the kernel refuses one."""
        for name, value in self._settings(limits):
            _write(self._file(name), value)

    def values(self) -> dict[str, str]:
        """Read the limits back, by the names of their files."""
        return {name: path.read_text().strip() for name in self._limit_names() if (path := self._file(name)).is_file()}

    def reading(self) -> CgroupReading:
        if self.version is CgroupVersion.NONE:
            return CgroupReading()
        usage, refused = _table(self._file("cpu.stat")), _table(self._file("pids.events")).get("max", 0)
        if self.version is CgroupVersion.V2:
            events = _table(self._file("memory.events"))
            return CgroupReading(
                oom_kills=events.get("oom_kill", 0),
                memory_limit_hits=events.get("max", 0),
                pids_refused=refused,
                throttled_seconds=usage.get("throttled_usec", 0) / 1e6,
                peak_memory_mib=_number(self._file("memory.peak")) / MIB,
                cpu_seconds=usage.get("usage_usec", 0) / 1e6,
            )
        counted = _number(self._file("cpuacct.usage")) if COUNTER in self._places else None
        kills = _table(self._file("memory.oom_control")).get("oom_kill", 0)
        return CgroupReading(
            oom_kills=kills,
            memory_limit_hits=max(kills, sum(_number(self._file(name)) for name in _V1_MEMORY_HITS)),
            pids_refused=refused,
            throttled_seconds=usage.get("throttled_time", 0) / 1e9,
            peak_memory_mib=_number(self._file("memory.max_usage_in_bytes")) / MIB,
            cpu_seconds=None if counted is None else counted / 1e9,
        )

    def moved(self) -> Moved | None:
        """Sum what its processes have read and written until now, of at most 64 of them; None without a group.

        Parents are read before their children (by number), so that who is reaped meanwhile is not counted twice.
        """
        if not self.directories:
            return None
        with contextlib.suppress(OSError):
            return added(filter(None, map(read_moved, sorted(self.members())[:_MOST_LOOKED_AT])))
        return None

    def members(self) -> list[int]:
        """Give the processes in it; raises OSError when it is gone."""
        return [int(pid) for pid in (self.directories[0] / "cgroup.procs").read_text().split()]

    def hurry(self) -> None:
        """Let what has been killed die: not held back until its next period, and before what lives."""
        for name, value in _DYING.get(self.version, ()):
            with contextlib.suppress(OSError):
                _write(self._file(name), value)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold all of it still for the block, in version 2 and where the kernel does so within a second.

        A frozen process can be killed.
        """
        switch = self._file("cgroup.freeze") if self.version is CgroupVersion.V2 else None
        if switch is None or not switch.exists():
            yield
            return
        try:
            with contextlib.suppress(FileNotFoundError):  # it may be removed meanwhile
                _write(switch, "1")
                deadline = time.monotonic() + _FREEZING_SECONDS
                while not _table(self._file("cgroup.events")).get("frozen") and time.monotonic() < deadline:
                    time.sleep(0.001)
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                _write(switch, "0")

    def kill(self) -> None:
        """End every process in the group; version 2 does it in one stroke."""
        if self.version is CgroupVersion.V2 and self._file("cgroup.kill").exists():
            with contextlib.suppress(OSError):
                _write(self._file("cgroup.kill"), "1")
            return
        for directory in self.directories:
            _kill_members(directory)

    def remove(self) -> None:
        """Remove the group, waiting in this thread up to five seconds for the dying; raises OSError when they stay."""
        for directory in self.directories:
            _remove(directory)

    def _file(self, name: str) -> Path:
        place = self._places.get(name.partition(".")[0])
        return (place or self.directories[0]) / name

    def _settings(self, limits: Limits) -> list[tuple[str, str]]:
        memory, pids = str(limits.memory_mib * MIB), str(limits.pids + OVERHEAD_PIDS)
        quota = max(1000, round(limits.cpus * _PERIOD_US))
        if self.version is CgroupVersion.V2:
            settings = [("memory.max", memory), ("pids.max", pids), ("cpu.max", f"{quota} {_PERIOD_US}")]
            optional = [("memory.swap.max", "0"), ("memory.oom.group", "1")]
        elif self.version is CgroupVersion.V1:
            settings = [
                ("memory.limit_in_bytes", memory),
                ("pids.max", pids),
                ("cpu.cfs_period_us", str(_PERIOD_US)),
                ("cpu.cfs_quota_us", str(quota)),
            ]
            optional = [("memory.memsw.limit_in_bytes", memory)]
        else:
            return []
        return settings + [(name, value) for name, value in optional if self._file(name).exists()]

    def _limit_names(self) -> tuple[str, ...]:
        if self.version is CgroupVersion.V2:
            return ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max")
        if self.version is CgroupVersion.V1:
            return (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                "pids.max",
                "cpu.cfs_quota_us",
                "cpu.cfs_period_us",
            )
        return ()


def find_hierarchy(*, proc: Path = Path("/proc/self")) -> Hierarchy:
    """Find where this process may make groups, and make the common parent there.

    Version 2 wins when all three controllers can be handed down; `reason` tells what stood in the way of each.
    """
    own = own_groups(proc)
    reasons: list[str] = []
    for attempt in (_version_2, _version_1):
        try:
            return attempt(proc, own)
        except (OSError, LookupError) as error:
            reasons.append(str(error))
    return Hierarchy(version=CgroupVersion.NONE, reason="; ".join(reasons))


def reclaim(hierarchy: Hierarchy, *, prefix: str) -> int:
    """Kill and remove every group whose name begins with `prefix`; returns how many names were met."""
    names: set[str] = set()
    for parent in hierarchy.directories:
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                names.add(entry.name)
                _kill_members(Path(entry.path))
                with contextlib.suppress(OSError):
                    _remove(Path(entry.path))
    return len(names)


def sweep_empty(hierarchy: Hierarchy) -> int:
    """Remove empty groups of supervisors whose process is gone, of homes that may be gone too; returns how many.

    Nothing is killed: only the lock in a supervisor's home proves its death.
    """
    removed = 0
    for parent in hierarchy.directories:
        for entry in list(os.scandir(parent)):
            name = _GROUP_NAME.fullmatch(entry.name)
            if name and not Path(f"/proc/{name.group(1)}").exists():
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)  # noqa: PTH106 - an entry of a scan, no Path
                    removed += 1
    return removed


def _version_2(proc: Path, own: dict[str, str]) -> Hierarchy:
    mounts = mounts_of(proc, "cgroup2")
    if not mounts or "" not in own:
        raise LookupError("cgroup v2 is not mounted")
    mount, root, _ = mounts[0]
    candidates = [group_below(mount, root, own[""])]
    if os.geteuid() == 0 and mount not in candidates:
        candidates.append(mount)
    reasons: list[str] = []
    for place in candidates:
        try:
            missing = set(CONTROLLERS) - set((place / "cgroup.controllers").read_text().split())
            if missing:
                reasons.append(f"cgroup v2 at {place} has no {', '.join(sorted(missing))} controller")
                continue
            parent = place / PARENT
            _hand_down(place)
            parent.mkdir(mode=0o755, exist_ok=True)
            _write(parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in CONTROLLERS))
        except OSError as error:
            reasons.append(f"cgroup v2 at {place} is not delegated to us ({error.strerror})")
            continue
        return Hierarchy(version=CgroupVersion.V2, parents=dict.fromkeys(CONTROLLERS, parent))
    raise LookupError("; ".join(reasons))


def _hand_down(place: Path) -> None:
    """Enable the controllers for the children of `place`, moving its own members to a leaf if it must be empty."""
    enabled = set((place / "cgroup.subtree_control").read_text().split())
    wanted = " ".join(f"+{name}" for name in CONTROLLERS if name not in enabled)
    if not wanted:
        return
    try:
        _write(place / "cgroup.subtree_control", wanted)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        leaf = place / "supervisor"
        leaf.mkdir(mode=0o755, exist_ok=True)
        for pid in (place / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                _write(leaf / "cgroup.procs", pid)
        _write(place / "cgroup.subtree_control", wanted)


def _version_1(proc: Path, own: dict[str, str]) -> Hierarchy:
    parents: dict[str, Path] = {}
    mounts = mounts_of(proc, "cgroup")
    for controller in (*CONTROLLERS, COUNTER):
        mount = next((entry for entry in mounts if controller in entry[2]), None)
        if mount is None or controller not in own:
            if controller == COUNTER:
                continue
            raise LookupError(f"cgroup v1 has no {controller} controller")
        parent = group_below(mount[0], mount[1], own[controller]) / PARENT
        try:
            parent.mkdir(mode=0o755, exist_ok=True)
            trial = parent / f"trial-{os.getpid()}"
            trial.mkdir()
            trial.rmdir()
        except OSError as error:
            if controller == COUNTER:
                continue
            raise LookupError(f"cgroup v1 at {parent} is not ours to write ({error.strerror})") from None
        parents[controller] = parent
    return Hierarchy(version=CgroupVersion.V1, parents=parents)


def _write(path: Path, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _table(path: Path) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError):
        return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
    return {}


def _number(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return 0


def _kill_members(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)


def _remove(directory: Path) -> None:
    deadline = time.monotonic() + _REMOVAL_SECONDS
    pause = 0.0005
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return
