"""What a sandbox really was, as the kernel tells it, and what must be so before one is trusted."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

_SECCOMP_FILTER: Final = "2"


class IsolationLevel(StrEnum):
    """`cgroup` bounds the sandbox as a whole; `rlimit` only each process of it."""

    CGROUP = "cgroup"
    RLIMIT = "rlimit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Read from process 1 of the sandbox, whose credentials and filter every other process there inherits.

    `uid` is the host's; `namespaces` maps a kind to its inode; `capabilities` are the five masks in hexadecimal;
    `cgroup_values` are read back from the group's files; `seccomp_sha256` is of the bytes handed to the kernel,
    which shows only the mode and how many filters there are. `unshared` names the namespaces that are not the
    supervisor's own. `network` is `none`, or `gateway` when its host listens inside; no interface but `lo` either way.
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
            "it runs as root on the host": self.uid != 0,
            "it runs as the supervisor, which is root": supervisor_uid != 0 or self.uid != supervisor_uid,
            "it has capabilities": bool(held) and not any(held),
            "no-new-privileges is off": self.no_new_privs,
            "no seccomp filter is on": self.seccomp_mode == _SECCOMP_FILTER,
            "it shares a namespace with the host": {"ipc", "mnt", "net", "pid", "user", "uts"} <= set(self.unshared),
            "it is in no cgroup of its own": self.isolation is not IsolationLevel.CGROUP or bool(self.cgroup_paths),
            "it has other network interfaces than lo": self.interfaces == ("lo",),
        }
        return tuple(fault for fault, held in checks.items() if not held)
