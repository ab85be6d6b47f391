"""gVisor's kernel, the sentry, as this machine's kernel shows it: which process it is, how it was started, what it may.

It is trusted with a program only when nothing in its command line loosens what gVisor is for. That is read before any
code of the image runs in it, so nobody has had a hand in it.
"""

import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tenantry.engines.jail.errors import JailUnavailable

_SENTRY, _GOFER, _BOOT = "runsc-sandbox", "runsc-gofer", "boot"
#: Flags of runsc that may differ from their defaults; any other is refused, as whoever added it meant something by it.
_HARMLESS: Final = frozenset({
    "root", "log", "log-fd", "log-format", "systemd-cgroup", "platform", "platform_device_path", "network",
    "cpu-num-from-quota", "oci-seccomp", "directfs", "enable-core-tags", "fdlimit", "dcache", "watchdog-action",
    "gso", "software-gso", "rx-checksum-offload", "tx-checksum-offload", "qdisc", "num-network-channels", "overlay2",
})  # fmt: skip
#: Of a writable root alone, which there is none of; `all:` would keep /workspace from us.
_OVERLAYS: Final = ("none", "root:")


@dataclass(frozen=True, slots=True)
class Sentry:
    """A kernel that runs: its process, the program it is of, where its runtime keeps its state, and its flags."""

    pid: int
    program: Path
    root: str
    flags: Mapping[str, str]

    @property
    def network(self) -> str:
        """`none`, `host` (the sockets of its own network namespace), or `sandbox`, the default."""
        return self.flags.get("network", "sandbox")


def find_sentry(pid: int, container: str) -> Sentry:
    """Look at the process that an engine names as a container's; raises OSError when it is gone.

    Raises JailUnavailable `gvisor_other_runtime` when it is no sentry of that container, `gvisor_flag` when it was
    started with one that is not taken.
    """
    words = _words(pid)
    boot = words.index(_BOOT) if _BOOT in words else 0
    if words[0] != _SENTRY or not boot or words[-1] != container:
        raise JailUnavailable(
            "gvisor_other_runtime",
            f"the engine's container came up as {words[0][:64] or 'nothing'}, not under gVisor",
            remedy="configure the runtime in the engine (/etc/docker/daemon.json, `runtimes`) with the path of runsc",
        )
    flags = dict(_flag(word) for word in words[1:boot])
    _check_flags(flags)
    program = Path(f"/proc/{pid}/exe").readlink()
    if not program.is_file() or not program.samefile(f"/proc/{pid}/exe"):
        raise JailUnavailable(
            "gvisor_replaced", f"{program} is not what runs any more", remedy="try again: it was being upgraded"
        )
    return Sentry(pid=pid, program=program, root=flags["root"], flags=flags)


def _check_flags(flags: Mapping[str, str]) -> None:
    refused = sorted(set(flags) - _HARMLESS)
    overlay = flags.get("overlay2", "none")
    if not overlay.startswith(_OVERLAYS):
        refused.append("overlay2")
    if "root" not in flags or refused:
        raise JailUnavailable(
            "gvisor_flag",
            f"the runtime is started with {', '.join(f'--{name}' for name in refused) or 'no --root'}",
            remedy="leave it out of `runtimeArgs` of that runtime: it loosens a sandbox, or writes down what that does",
        )


def find_gofer(members: list[int], container: str) -> int:
    """Find the file server among the processes of a container's group; raises LookupError."""
    for pid in members:
        try:
            words = _words(pid)
        except OSError:
            continue
        if words[0] == _GOFER and container in " ".join(words):
            return pid
    raise LookupError("the container has no file server of gVisor's")


def version_of(program: Path) -> str:
    """Ask runsc for its version; empty when it does not tell. Blocks a little; raises OSError when it is gone."""
    return _said(program, "--version").partition("\n")[0].removeprefix("runsc version ")


def platform_of(sentry: Sentry) -> str:
    """Tell what it runs programs by, its runtime's default where nothing else was asked for. Blocks a little."""
    default = re.search(r'-platform string\n.*\(default "([a-z]+)"\)', _said(sentry.program, "flags"))
    return sentry.flags.get("platform") or (default[1] if default else "unknown")


def _said(program: Path, word: str) -> str:
    return _said_once(program, program.stat().st_mtime_ns, word)


@cache
def _said_once(program: Path, _made: int, word: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([str(program), word], capture_output=True, text=True, timeout=10, check=False, env={})
        return said.stdout + said.stderr
    return ""


def masks_of(status: Mapping[str, str]) -> dict[str, int]:
    """Give the capability masks of a process by their names."""
    return {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")}


def describe(sentry: Sentry, status: Mapping[str, str], *, version: str) -> dict[str, str]:
    """Tell what the kernel says of it, for a receipt: plain words, by name."""
    told = {
        "version": version,
        "platform": platform_of(sentry),
        "network": sentry.network,
        "uid": status["Uid"].split()[0],
        "seccomp_mode": status.get("Seccomp", ""),
        "no_new_privs": status.get("NoNewPrivs", ""),
    }
    return told | {name: f"{mask:x}" for name, mask in masks_of(status).items()}


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")


def _flag(word: str) -> tuple[str, str]:
    name, _, value = word.lstrip("-").partition("=")
    return name, value or "true"
