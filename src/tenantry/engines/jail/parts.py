"""What a sandbox holds of the machine while it lives."""

import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tenantry.engines.jail.cgroups import Cgroup
from tenantry.engines.jail.types import Spec
from tenantry.foundation.clock import Clock


@dataclass(slots=True, kw_only=True)
class Parts:
    """Each to be given back by `close`; `clear` takes its container away.

    `join` are the files by which a process joins its groups; `in_container` says that an engine made its namespaces.
    """

    spec: Spec
    uid: int | None
    cgroup: Cgroup
    join: Sequence[str]
    threads: ThreadPoolExecutor
    clock: Clock
    give_back: Callable[[], None]
    in_container: bool = False
    clear: Callable[[], Awaitable[None]] | None = None
    status_pipe: int = -1
    barrier: int = -1
    workspace: int = -1
    init: int = -1
    init_pid: int = 0
    rlimits: Sequence[tuple[int, int]] = ()
    init_report: dict[str, object] = field(default_factory=dict)

    def close_descriptors(self) -> None:
        for name in ("status_pipe", "barrier", "workspace", "init"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)
