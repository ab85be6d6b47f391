"""What a kernel of its own takes of a sandbox's group, beside its programs, as the overhead of a pod is."""

from typing import Final

from tenantry.engines.jail.types import Limits

#: Memory of gVisor's kernel and its file server.
OVERHEAD_MIB: Final = 48
_TASKS: Final = 512
#: Threads of the host for each task inside: a platform may use many for one.
_TASKS_FOR_ONE: Final = 64


def memory_mib(limits: Limits) -> int:
    """Bound of the group, for programs of these limits."""
    return limits.memory_mib + OVERHEAD_MIB


def tasks(limits: Limits) -> int:
    """Bound of the group, far above what programs of these limits need: their own kernel bounds them."""
    return _TASKS + limits.pids * _TASKS_FOR_ONE
