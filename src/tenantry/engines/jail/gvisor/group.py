"""The cgroup of a sandbox under gVisor, which is gone soon after its kernel: what it counted is read in time."""

from tenantry.engines.jail.cgroups import Cgroup, CgroupReading, Hierarchy
from tenantry.engines.jail.kernel import Moved


class SentryGroup(Cgroup):
    """What the group bounds and counts is the programs and their kernel together."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        super().__init__(hierarchy, name)
        self._last: CgroupReading | None = None

    def settle(self) -> None:
        """Read it for the last time: `reading` gives that from now on."""
        self._last = super().reading()

    def reading(self) -> CgroupReading:
        return self._last if self._last is not None else super().reading()

    def moved(self) -> Moved | None:
        """Tell nothing: what programs read and write is moved by their kernel, between places of its own too."""
        return None
