"""What a sandbox really was, as the kernel tells it, and what must be so before one is trusted."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

_SECCOMP_FILTER: Final = "2"
_CAP_SYS_PTRACE: Final = 1 << 19


class IsolationLevel(StrEnum):
    """`rlimit` bounds each process of a sandbox, `cgroup` all of it, `gvisor` that too, behind a kernel of its own."""

    RLIMIT = "rlimit"
    CGROUP = "cgroup"
    GVISOR = "gvisor"

    def reaches(self, least: str) -> bool:
        """Say whether it is at least that level; raises ValueError for a word that is none."""
        order = list(IsolationLevel)
        return order.index(self) >= order.index(IsolationLevel(least))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Read from process 1 of the sandbox, whose credentials and filter every other process there inherits.

    `uid` is the host's; `namespaces` maps a kind to its inode; `capabilities` are the five masks in hexadecimal;
    `cgroup_values` are read back from the group's files; `seccomp_sha256` is of the bytes handed to the kernel,
    which shows only the mode and how many filters there are. `unshared` names the namespaces that are not the
    supervisor's own. `network` is `none`, or `gateway` when its host listens inside; no interface but `lo` either way.

    At level `gvisor` process 1 is not this kernel's. Uid, namespaces, groups and interfaces are those of the sandbox's
    kernel, as this machine's sees it, and `sentry` tells more of that; map, masks, filter and limits are what the
    sandbox's kernel said of the process that became the program.
    """

    backend: str
    backend_version: str
    isolation: IsolationLevel
    uid: int
    gid: int
    uid_map: str
    namespaces: Mapping[str, int] = field(default_factory=dict)
    unshared: tuple[str, ...] = ()
    capabilities: Mapping[str, str] = field(default_factory=dict)
    no_new_privs: bool = False
    seccomp_mode: str = ""
    seccomp_filters: int = 0
    seccomp_sha256: str = ""
    cgroup_version: str = "none"
    cgroup_paths: tuple[str, ...] = ()
    cgroup_values: Mapping[str, str] = field(default_factory=dict)
    rlimits: Mapping[str, str] = field(default_factory=dict)
    image_digest: str = ""
    image_name: str = ""
    network: str = "none"
    interfaces: tuple[str, ...] = ()
    sentry: Mapping[str, str] = field(default_factory=dict)

    def as_record(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(self).items()}

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the record."""
        text = json.dumps(self.as_record(), sort_keys=True, separators=(",", ":"), default=list)
        return hashlib.sha256(text.encode()).hexdigest()

    def faults(self, *, supervisor_uid: int) -> tuple[str, ...]:
        """List what makes this no sandbox; the jail kills one that has any."""
        held = [int(mask, 16) for name, mask in self.capabilities.items() if name != "CapBnd"]
        checks = {
            "it has capabilities": bool(held) and not any(held),
            "no-new-privileges is off": self.no_new_privs,
            "no seccomp filter is on": self.seccomp_mode == _SECCOMP_FILTER,
            "it is in no cgroup of its own": self.isolation is IsolationLevel.RLIMIT or bool(self.cgroup_paths),
            "it has other network interfaces than lo": self.interfaces == ("lo",),
        }
        guest = self.isolation is IsolationLevel.GVISOR
        checks |= self._checks_of_sentry() if guest else self._checks_of_process(supervisor_uid)
        return tuple(fault for fault, held in checks.items() if not held)

    def _checks_of_process(self, supervisor_uid: int) -> dict[str, bool]:
        return {
            "it runs as root on the host": self.uid != 0,
            "it runs as the supervisor, which is root": supervisor_uid != 0 or self.uid != supervisor_uid,
            "it shares a namespace with the host": {"ipc", "mnt", "net", "pid", "user", "uts"} <= set(self.unshared),
        }

    def _checks_of_sentry(self) -> dict[str, bool]:
        """Judge its kernel, which may hold what counts inside a user namespace of its own, and nothing outside of one.

        In the host's, as it is where it uses the host's sockets, it may be root by number, and trace what it can name,
        which is what is in a pid namespace of its own.
        """
        apart = "user" in self.unshared
        masks = [int(self.sentry.get(name, "-1"), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
        own = _CAP_SYS_PTRACE if "pid" in self.unshared else 0
        mine = {"ipc", "mnt", "net", "uts"} | (set() if apart else {"pid"})
        return {
            "its kernel runs as root on the host": self.uid != 0 or not apart,
            "its kernel has capabilities on the host": min(masks) >= 0 and (apart or not any(m & ~own for m in masks)),
            "its kernel can gain privileges": self.sentry.get("no_new_privs") == "1",
            "its kernel has no seccomp filter": self.sentry.get("seccomp_mode") == _SECCOMP_FILTER,
            "its kernel shares a namespace with the host": mine <= set(self.unshared),
        }
