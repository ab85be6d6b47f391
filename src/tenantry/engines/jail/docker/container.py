"""What is asked of the engine for one sandbox. Of a spec nothing gets here but the numbers of its limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.engines.jail.cgroups import OVERHEAD_PIDS
from tenantry.engines.jail.docker.keeper import PLACE
from tenantry.engines.jail.types import MIB, Bind, Limits

_PERIOD_US: Final = 100_000
#: Bounds of the keeper; a program gets those of its spec when it is put in.
_OF_THE_KEEPER: Final = {"core": 0, "nofile": 64, "nproc": 64}


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes two containers alike, so that one waits for a sandbox that is not yet known."""

    image: str
    binds: tuple[Bind, ...]
    memory_mib: int
    pids: int
    cpus: float

    @classmethod
    def of(cls, image: str, binds: tuple[Bind, ...], limits: Limits) -> "Shape":
        return cls(image, binds, limits.memory_mib, limits.pids, limits.cpus)


def container_config(shape: Shape, *, uid: int, labels: Mapping[str, str], runtime: str | None) -> dict[str, object]:
    """Describe the container: the keeper alone, as `uid`, with no capability, no network and nothing it may write to.

    The program's own file systems, its user namespace and its filter are made when it is put in (containing.py).
    """
    return {
        "Image": shape.image,
        "Entrypoint": [f"/{PLACE}"],
        "Cmd": [],
        "Env": [],
        "User": f"{uid}:{uid}",
        "Hostname": "sandbox",
        "WorkingDir": "/",
        "Labels": dict(labels),
        "AttachStdin": True,
        "OpenStdin": True,
        "StdinOnce": True,  # the engine closes it when the supervisor is gone: then the keeper ends
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": _host_config(shape, runtime=runtime),
    }


def _host_config(shape: Shape, *, runtime: str | None) -> dict[str, object]:
    memory = shape.memory_mib * MIB
    config: dict[str, object] = {
        "AutoRemove": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Privileged": False,
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "UsernsMode": "host",  # the program gets a user namespace of its own, with one uid in it
        "Memory": memory,
        "MemorySwap": memory,
        "CpuPeriod": _PERIOD_US,
        "CpuQuota": max(1000, round(shape.cpus * _PERIOD_US)),
        "PidsLimit": shape.pids + OVERHEAD_PIDS,
        "Ulimits": [{"Name": name, "Soft": most, "Hard": most} for name, most in _OF_THE_KEEPER.items()],
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "Mounts": [_mount(bind) for bind in shape.binds],
    }
    return config if runtime is None else config | {"Runtime": runtime}


def _mount(bind: Bind) -> dict[str, object]:
    return {
        "Type": "bind",
        "Source": str(bind.source),
        "Target": str(Path("/") / bind.target),
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
