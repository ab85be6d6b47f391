"""Where the kernel shows cgroups: which file systems are mounted, and which group a process is in."""

import os
from pathlib import Path


def own_groups(proc: Path) -> dict[str, str]:
    """Map each controller, and `` for version 2, to the path of this process in it."""
    groups: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def mounts_of(proc: Path, kind: str) -> list[tuple[Path, str, set[str]]]:
    """List (mount point, root of the mount, options) of cgroup file systems of one kind."""
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if tail[0] == kind:
            found.append((Path(fields[4]), fields[3], set(tail[2].split(","))))
    return found


def group_below(mount: Path, root: str, path: str) -> Path:
    """Place a group's path below its mount, which may show a part of the tree only."""
    relative = os.path.relpath(path, root) if path.startswith(root) else "."
    return Path(os.path.normpath(mount / relative))
