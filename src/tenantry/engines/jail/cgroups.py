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
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from tenantry.engines.jail.types import MIB, Limits

PARENT: Final = "tenantry-jail"
_PERIOD_US: Final = 100_000
OVERHEAD_PIDS: Final = 3  # bwrap's monitor, process 1, and the fork that becomes the program
_CONTROLLERS: Final = ("memory", "pids", "cpu")
_REMOVAL_SECONDS: Final = 5.0
_GROUP_NAME: Final = re.compile(r"(\d+)-[0-9a-f]{12}-\d+")


class CgroupVersion(StrEnum):
    V2 = "v2"
    V1 = "v1"
    NONE = "none"


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
        if self.version is CgroupVersion.V2:
            events = _table(self._file("memory.events"))
            usage = _table(self._file("cpu.stat"))
            return CgroupReading(
                oom_kills=events.get("oom_kill", 0),
                peak_memory_mib=_number(self._file("memory.peak")) / MIB,
                cpu_seconds=usage.get("usage_usec", 0) / 1e6,
            )
        if self.version is CgroupVersion.V1:
            return CgroupReading(
                oom_kills=_table(self._file("memory.oom_control")).get("oom_kill", 0),
                peak_memory_mib=_number(self._file("memory.max_usage_in_bytes")) / MIB,
            )
        return CgroupReading()

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
    own = _own_groups(proc)
    reasons: list[str] = []
    for attempt in (_version_2, _version_1):
        try:
            return attempt(proc, own)
        except (OSError, LookupError) as error:
            reasons.append(str(error))
    return Hierarchy(version=CgroupVersion.NONE, reason="; ".join(reasons))


def group_of(pid: int) -> tuple[Hierarchy, str]:
    """Tell which group a process is in that somebody else made: its parents, and its name in each.

    Raises OSError when the process is gone, LookupError when it has no group of its own for each controller.
    """
    own, here = _own_groups(Path(f"/proc/{pid}")), Path("/proc/self")
    version, kind = (CgroupVersion.V1, "cgroup") if "memory" in own else (CgroupVersion.V2, "cgroup2")
    mounts = _mounts(here, kind)
    places: dict[str, Path] = {}
    for controller in _CONTROLLERS:
        name = controller if version is CgroupVersion.V1 else ""
        mount = next((one for one in mounts if not name or name in one[2]), None)
        if mount is None or own.get(name, "/") == "/":
            raise LookupError(f"process {pid} is in no group of its own for {controller}")
        places[controller] = _below(mount[0], mount[1], own[name])
    names = {place.name for place in places.values()}
    if len(names) != 1:
        raise LookupError(f"process {pid} is in groups of different names: {', '.join(sorted(names))}")
    return Hierarchy(version, {controller: place.parent for controller, place in places.items()}), names.pop()


def join_files_of(pid: int) -> tuple[str, ...]:
    """Name the files by which another process joins every group that one is in, of each hierarchy that is mounted."""
    here, found = Path("/proc/self"), []
    mounts = {kind: _mounts(here, kind) for kind in ("cgroup", "cgroup2")}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        kind, wanted = ("cgroup", set(controllers.split(","))) if controllers else ("cgroup2", set())
        mount = next((one for one in mounts[kind] if wanted <= one[2]), None)
        if mount is not None:
            found.append(f"{_below(mount[0], mount[1], path)}/cgroup.procs")
    return tuple(found)


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


def _own_groups(proc: Path) -> dict[str, str]:
    """Map each controller, and `` for version 2, to the path of this process in it."""
    groups: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _mounts(proc: Path, kind: str) -> list[tuple[Path, str, set[str]]]:
    """List (mount point, root of the mount, options) of cgroup file systems of one kind."""
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if tail[0] == kind:
            found.append((Path(fields[4]), fields[3], set(tail[2].split(","))))
    return found


def _below(mount: Path, root: str, path: str) -> Path:
    """Place a group's path below its mount, which may show a part of the tree only."""
    relative = os.path.relpath(path, root) if path.startswith(root) else "."
    return Path(os.path.normpath(mount / relative))


def _version_2(proc: Path, own: dict[str, str]) -> Hierarchy:
    mounts = _mounts(proc, "cgroup2")
    if not mounts or "" not in own:
        raise LookupError("cgroup v2 is not mounted")
    mount, root, _ = mounts[0]
    candidates = [_below(mount, root, own[""])]
    if os.geteuid() == 0 and mount not in candidates:
        candidates.append(mount)
    reasons: list[str] = []
    for place in candidates:
        try:
            missing = set(_CONTROLLERS) - set((place / "cgroup.controllers").read_text().split())
            if missing:
                reasons.append(f"cgroup v2 at {place} has no {', '.join(sorted(missing))} controller")
                continue
            parent = place / PARENT
            _hand_down(place)
            parent.mkdir(mode=0o755, exist_ok=True)
            _write(parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in _CONTROLLERS))
        except OSError as error:
            reasons.append(f"cgroup v2 at {place} is not delegated to us ({error.strerror})")
            continue
        return Hierarchy(version=CgroupVersion.V2, parents=dict.fromkeys(_CONTROLLERS, parent))
    raise LookupError("; ".join(reasons))


def _hand_down(place: Path) -> None:
    """Enable the controllers for the children of `place`, moving its own members to a leaf if it must be empty."""
    enabled = set((place / "cgroup.subtree_control").read_text().split())
    wanted = " ".join(f"+{name}" for name in _CONTROLLERS if name not in enabled)
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
    mounts = _mounts(proc, "cgroup")
    for controller in _CONTROLLERS:
        mount = next((entry for entry in mounts if controller in entry[2]), None)
        if mount is None or controller not in own:
            raise LookupError(f"cgroup v1 has no {controller} controller")
        parent = _below(mount[0], mount[1], own[controller]) / PARENT
        try:
            parent.mkdir(mode=0o755, exist_ok=True)
            trial = parent / f"trial-{os.getpid()}"
            trial.mkdir()
            trial.rmdir()
        except OSError as error:
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
