"""Groups that an engine has made for a container."""

from pathlib import Path

from tenantry.engines.jail.cgroups import CONTROLLERS, COUNTER, CgroupVersion, Hierarchy
from tenantry.engines.jail.group_places import group_below, mounts_of, own_groups


def group_of(pid: int) -> tuple[Hierarchy, str]:
    """Tell which group a process is in that somebody else made: its parents, and its name in each.

    Raises OSError when the process is gone, LookupError when it has no group of its own for each controller.
    """
    own, here = own_groups(Path(f"/proc/{pid}")), Path("/proc/self")
    version, kind = (CgroupVersion.V1, "cgroup") if "memory" in own else (CgroupVersion.V2, "cgroup2")
    mounts = mounts_of(here, kind)
    places: dict[str, Path] = {}
    for controller in (*CONTROLLERS, *((COUNTER,) if COUNTER in own else ())):
        name = controller if version is CgroupVersion.V1 else ""
        mount = next((one for one in mounts if not name or name in one[2]), None)
        if mount is None or own.get(name, "/") == "/":
            raise LookupError(f"process {pid} is in no group of its own for {controller}")
        places[controller] = group_below(mount[0], mount[1], own[name])
    names = {place.name for place in places.values()}
    if len(names) != 1:
        raise LookupError(f"process {pid} is in groups of different names: {', '.join(sorted(names))}")
    return Hierarchy(version, {controller: place.parent for controller, place in places.items()}), names.pop()


def join_files_of(pid: int) -> tuple[str, ...]:
    """Name the files by which another process joins every group that one is in, of each hierarchy that is mounted."""
    here, found = Path("/proc/self"), []
    mounts = {kind: mounts_of(here, kind) for kind in ("cgroup", "cgroup2")}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        kind, wanted = ("cgroup", set(controllers.split(","))) if controllers else ("cgroup2", set())
        mount = next((one for one in mounts[kind] if wanted <= one[2]), None)
        if mount is not None:
            found.append(f"{group_below(mount[0], mount[1], path)}/cgroup.procs")
    return tuple(found)
