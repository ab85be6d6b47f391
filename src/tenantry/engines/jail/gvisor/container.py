"""What is asked of the engine for a sandbox under gVisor. Of a spec nothing gets here but the numbers of its limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname
from typing import Final

from tenantry.engines.jail import overheads
from tenantry.engines.jail.bubblewrap import RUN_BYTES, room_for
from tenantry.engines.jail.certificates import MOST_CERTIFICATES
from tenantry.engines.jail.types import CERTIFICATES, MIB, Bind, Spec

#: What lies in the image of every container: its process 1, and the program that others begin as.
KEEPER, STEPPER = ".keeper", ".stepper"
#: Runs as nobody inside, and so as somebody else than any program there.
KEEPER_UID: Final = 65534
_PERIOD_US: Final = 100_000
WORKSPACE: Final = "/workspace"
#: Places that are shown read-only where a spec has something for them: their names among a room's folders.
GIVEN: Final = {"inputs": "/inputs", "secrets": "/run/secrets", "authority": dirname(CERTIFICATES)}
RESOLVER: Final = "resolv.conf"
_GIVEN_STEP: Final = 32 * MIB


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes two containers alike, so that one waits for a sandbox that is not yet known.

    Memory and tasks are those of the group.
    """

    image: str
    binds: tuple[Bind, ...]
    runtime: str
    memory_mib: int
    tasks: int
    cpus: float
    disk_mib: int
    tmp_mib: int
    shm_mib: int
    writable: bool
    given: tuple[str, ...]
    given_mib: int
    networked: bool

    @classmethod
    def of(cls, image: str, spec: Spec, *, runtime: str) -> "Shape":
        limits = spec.limits
        there = {"inputs": spec.inputs, "secrets": spec.secret_files, "authority": spec.authority is not None}
        return cls(
            image=image,
            binds=spec.image.binds,
            runtime=runtime,
            memory_mib=overheads.memory_mib(limits),
            tasks=overheads.tasks(limits),
            cpus=limits.cpus,
            disk_mib=limits.disk_mib,
            tmp_mib=limits.tmp_mib,
            shm_mib=limits.shm_mib,
            writable=spec.workspace_writable,
            given=tuple(name for name, present in there.items() if present),
            given_mib=math.ceil(_given_bytes(spec) / _GIVEN_STEP) * _GIVEN_STEP // MIB,
            networked=spec.network is not None,
        )


def _given_bytes(spec: Spec) -> int:
    return room_for((*spec.inputs, *spec.secret_files)) + (MOST_CERTIFICATES if spec.authority is not None else 0)


def container_config(
    shape: Shape, *, uid: int, labels: Mapping[str, str], folders: Mapping[str, Path]
) -> dict[str, object]:
    """Describe the container: the keeper alone, with no capability and no network; `folders` are where its files lie.

    What its programs may write to is owned by `uid`.
    """
    return {
        "Image": shape.image,
        "Entrypoint": [f"/{KEEPER}"],
        "Cmd": [],
        "Env": [],
        "User": f"{KEEPER_UID}:{KEEPER_UID}",
        "Hostname": "sandbox",
        "WorkingDir": "/",
        "Labels": dict(labels),
        "AttachStdin": True,
        "OpenStdin": True,
        "StdinOnce": True,  # the engine closes it when the supervisor is gone: then the keeper ends, and all of it
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": _host_config(shape, uid=uid, folders=folders),
    }


def _host_config(shape: Shape, *, uid: int, folders: Mapping[str, Path]) -> dict[str, object]:
    memory = shape.memory_mib * MIB
    return {
        "Runtime": shape.runtime,
        "AutoRemove": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Privileged": False,
        "NetworkMode": "none",
        "IpcMode": "none",  # /dev/shm is one of the places below
        "CgroupnsMode": "private",
        "UsernsMode": "host",  # the runtime gives its kernel one of its own
        "Memory": memory,
        "MemorySwap": memory,
        "CpuPeriod": _PERIOD_US,
        "CpuQuota": max(1000, round(shape.cpus * _PERIOD_US)),
        "PidsLimit": shape.tasks,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],  # a program gets those of its spec when it is put in
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "Tmpfs": {
            "/tmp": _room(shape.tmp_mib * MIB, mode=0o1777),  # noqa: S108 - the sandbox's
            "/dev/shm": _room(shape.shm_mib * MIB, mode=0o1777),  # noqa: S108 - the same
            "/run": _room(RUN_BYTES, mode=0o755, uid=uid),
        },
        "Mounts": [
            *(_mount(bind.source, str(Path("/") / bind.target)) for bind in shape.binds),
            _mount(folders["workspace"], WORKSPACE, writable=shape.writable),
            *(_mount(folders[name], GIVEN[name]) for name in shape.given),
            *([_mount(folders[RESOLVER], f"/etc/{RESOLVER}")] if shape.networked else []),
        ],
    }


def _room(size: int, *, mode: int, uid: int = 0) -> str:
    return f"rw,exec,nosuid,nodev,size={size},mode={mode:o},uid={uid},gid={uid}"


def _mount(source: Path, target: str, *, writable: bool = False) -> dict[str, object]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": not writable,
        "BindOptions": {"Propagation": "rprivate"},
    }
