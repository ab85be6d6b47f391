"""The receipt of a sandbox under gVisor: what this machine's kernel says of the sandbox's, and that of the program."""

import os
from typing import Final

from tenantry.engines.jail import kernel
from tenantry.engines.jail.gvisor.rooms import Room
from tenantry.engines.jail.gvisor.sentry import describe, version_of
from tenantry.engines.jail.gvisor.steps import ReadBack
from tenantry.engines.jail.receipt import IsolationLevel, Receipt
from tenantry.engines.jail.seccomp import filter_sha256
from tenantry.engines.jail.types import Spec

NAME: Final = "gvisor"
_OWN_NAMESPACES: Final = kernel.read_namespaces(os.getpid())
_ABSENT: Final = "ffffffffffffffff"
"""A mask that was not told counts as full."""


def receipt_of(room: Room, spec: Spec, told: ReadBack, *, engine: str) -> Receipt:
    """Read it; blocks a little. Raises OSError when the sandbox's kernel is gone."""
    pid, group = room.sentry.pid, room.cgroup
    status, namespaces = kernel.read_status(pid), kernel.read_namespaces(pid)
    members = {path.name for path in group.directories}
    version = version_of(room.sentry.program)
    return Receipt(
        backend=NAME,
        backend_version=f"{engine} runsc {version}",
        isolation=IsolationLevel.GVISOR,
        uid=int(status["Uid"].split()[0]),
        gid=int(status["Gid"].split()[0]),
        uid_map=told.uid_map,
        namespaces=namespaces,
        unshared=tuple(sorted(kind for kind, inode in namespaces.items() if inode != _OWN_NAMESPACES.get(kind))),
        capabilities={name: told.status.get(name, _ABSENT) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")},
        no_new_privs=True,  # the stepper has asked, and would have stopped
        seccomp_mode=told.status.get("Seccomp", ""),
        seccomp_filters=1,
        seccomp_sha256=filter_sha256(),
        cgroup_version=group.version.value,
        cgroup_paths=tuple(line for line in kernel.read_cgroups(pid) if line.rpartition("/")[2] in members),
        cgroup_values=group.values(),
        rlimits=dict(told.rlimits),
        image_digest=spec.image.digest,
        image_name=spec.image.name,
        network="none" if spec.network is None else "gateway",
        interfaces=kernel.read_interfaces(pid),
        sentry=describe(room.sentry, status, version=version),
    )
