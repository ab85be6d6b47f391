"""What the host sees of a living sandbox: its launcher, bwrap's monitor, its cgroup, its receipt."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.engines.jail import kernel
from tenantry.engines.jail.cgroups import OVERHEAD_PIDS, CgroupVersion, Hierarchy
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import MIB, Limits

_ROOT: Final = frozenset({"root"})
_CGROUP: Final = frozenset({"cgroup"})
_BUBBLEWRAP: Final = frozenset({"bubblewrap"})
_ENGINE: Final = frozenset({"engine"})
_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_INT, _PIPE, _CHLD, _XFSZ = 2, 13, 17, 25
_ORDINARY: Final = ("pipe:", "/dev/null", "anon_inode:", "/memfd:")
_LOOKS_AT_DESCRIPTORS: Final = 100
#: NS_GET_PARENT of ioctl_ns(2), then setns(2), which only a process of one thread may for a user namespace.
_ASK_ABOVE: Final = """
import ctypes, fcntl, os, sys
above = fcntl.ioctl(os.open(f"/proc/{sys.argv[1]}/ns/user", os.O_RDONLY), 0xb702)
ctypes.CDLL(None).setns(above, 0x10000000) == 0 or sys.exit("not to be entered")
print(open("/proc/sys/user/max_user_namespaces").read())
"""
_ASK: Final = """
import ctypes, os, sys
own = os.open(f"/proc/{sys.argv[1]}/ns/user", os.O_RDONLY)
ctypes.CDLL(None).setns(own, 0x10000000) == 0 or sys.exit("not to be entered")
print(open("/proc/sys/user/max_user_namespaces").read())
"""
_PERIOD_US: Final = 100_000


@dataclass(frozen=True, slots=True)
class View:
    """A living sandbox from outside: the process numbers, on the host, of launcher, monitor and what is below it.

    That is process 1, or in a container, whose process 1 is the engine's child, the program.
    """

    launcher: int
    monitor: int
    init: int
    receipt: Receipt
    limits: Limits
    hierarchy: Hierarchy
    canary: str

    def status(self, pid: int, name: str) -> str:
        return kernel.read_status(pid).get(name, "")

    def environment(self, pid: int) -> bytes:
        return Path(f"/proc/{pid}/environ").read_bytes()


Look = Callable[[View], Verdict]


def find_chain(init: int) -> tuple[int, int]:
    """Find launcher and monitor above process 1 of a sandbox, by its number on the host."""
    monitor = int(kernel.read_status(init)["PPid"])
    return int(kernel.read_status(monitor)["PPid"]), monitor


def find_init(receipt: Receipt) -> int:
    """Find process 1 of a sandbox by its pid namespace: the one that is number 1 there; raises LookupError."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):  # noqa: PTH208 - numbers alone
        try:
            inside = kernel.read_status(pid).get("NSpid", "").split()
            if inside[-1:] == ["1"] and kernel.read_namespaces(pid)["pid"] == receipt.namespaces["pid"]:
                return pid
        except OSError:
            continue
    raise LookupError("the sandbox has no process 1")


def find_program(receipt: Receipt) -> int:
    """Find what was put into a container: in its pid namespace and another user namespace than the keeper's."""
    wanted = {kind: receipt.namespaces[kind] for kind in ("pid", "user")}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):  # noqa: PTH208 - numbers alone
        with suppress(OSError):
            above = int(kernel.read_status(pid)["PPid"])
            if wanted.items() <= kernel.read_namespaces(pid).items() and not _is_inside(above, wanted["pid"]):
                return pid
    raise LookupError("the sandbox has no program")


def _is_inside(above: int, namespace: int) -> bool:
    return kernel.read_namespaces(above)["pid"] == namespace


def _of(which: str, name: str, wanted: str) -> Look:
    def look(view: View) -> Verdict:
        found = view.status(getattr(view, which), name)
        return found == wanted, found

    return look


def _empty(which: str, name: str) -> Look:
    def look(view: View) -> Verdict:
        found = view.status(getattr(view, which), name)
        return int(found, 16) == 0, found

    return look


def _monitor_is_somebody_else(view: View) -> Verdict:
    found = set(view.status(view.monitor, "Uid").split()) | set(view.status(view.monitor, "Gid").split())
    return len(found) == 1 and found.isdisjoint({"0", str(os.getuid())}), " ".join(found)


def _monitor_is_us(view: View) -> Verdict:
    found = set(view.status(view.monitor, "Uid").split())
    return found == {str(os.getuid())} and "0" not in found, " ".join(found)


def _signals(view: View) -> Verdict:
    """See that none is ignored or blocked but SIGCHLD, which the monitor itself reads from a descriptor."""
    ignored, blocked = (int(view.status(view.monitor, name), 16) for name in ("SigIgn", "SigBlk"))
    wrong = [number for number in (_INT, _PIPE, _CHLD, _XFSZ) if ignored & 1 << number - 1]
    return not wrong and not blocked & ~(1 << _CHLD - 1), f"{ignored:x} {blocked:x}"


def _command_line(view: View) -> Verdict:
    words = Path(f"/proc/{view.monitor}/cmdline").read_bytes().split(b"\0")
    return words[:4] == [b"bwrap", b"--args", b"3", b"--"], b" ".join(words[:5]).decode(errors="replace")


def _bare(which: str) -> Look:
    def look(view: View) -> Verdict:
        names = [entry.partition(b"=")[0] for entry in view.environment(getattr(view, which)).split(b"\0") if entry]
        return set(names) <= {b"LD_LIBRARY_PATH", b"LC_CTYPE"}, b" ".join(names).decode(errors="replace")

    return look


def _in_the_root(which: str) -> Look:
    def look(view: View) -> Verdict:
        found = str(Path(f"/proc/{getattr(view, which)}/cwd").readlink())
        return found == "/", found

    return look


def _no_core(which: str) -> Look:
    return lambda view: ((found := kernel.read_limits(getattr(view, which))["core"]) == "0", found)


def _descriptors(view: View) -> Verdict:
    """See that the monitor holds no socket, nor anything of the supervisor: pipes, /dev/null, events of its own.

    Just after the start it lists its own descriptors to close those it needs no more: that passes.
    """
    strange: list[str] = []
    for _ in range(_LOOKS_AT_DESCRIPTORS):
        strange = [name for name in _held_by(view.monitor) if not name.startswith(_ORDINARY)]
        if not strange:
            break
        time.sleep(0.01)
    return not strange, " ".join(strange)


def _held_by(pid: int) -> list[str]:
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(path.readlink()))
    return found


def _launcher_mounts(view: View) -> Verdict:
    """Find the launcher's shelf, a tmpfs of one MiB that any uid may walk through, in its namespace alone."""
    own = kernel.read_namespaces(view.launcher)["mnt"] != kernel.read_namespaces(os.getpid())["mnt"]
    shelves, outside = _shelves(view.launcher), _shelves(os.getpid())
    return own and bool(shelves) and not shelves & outside, f"{sorted(shelves)} {sorted(outside)}"


def _shelves(pid: int) -> set[str]:
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {fields[4] for fields in lines if fields[-3] == "tmpfs" and "size=1024k,mode=711" in fields[-1]}


def _joined(view: View) -> Verdict:
    wanted = len(view.hierarchy.directories)
    return len(view.receipt.cgroup_paths) >= wanted > 0, f"{len(view.receipt.cgroup_paths)} of {wanted}"


def _bounded(version_1: str, version_2: str, wanted: Callable[[Limits], tuple[str, str]]) -> Look:
    """Compare a file of the group with what its limits ask for, by the version of cgroups there is."""

    def look(view: View) -> Verdict:
        second = view.hierarchy.version is CgroupVersion.V2
        name = version_2 if second else version_1
        found = view.receipt.cgroup_values.get(name)
        optional = "swap" in name or "memsw" in name or "oom" in name  # of kernels that count swap
        return found == wanted(view.limits)[second] or (optional and found is None), f"{name}={found}"

    return look


def _memory(limits: Limits) -> tuple[str, str]:
    return (str(limits.memory_mib * MIB),) * 2


def _tasks(limits: Limits) -> tuple[str, str]:
    return (str(limits.pids + OVERHEAD_PIDS),) * 2


def _processor(limits: Limits) -> tuple[str, str]:
    quota = str(round(limits.cpus * _PERIOD_US))
    return quota, f"{quota} {_PERIOD_US}"


def _no_command_line_tells(view: View) -> Verdict:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if view.canary.encode() in path.read_bytes():
                return False, str(path)
        except OSError:
            continue
    return True, ""


def _chain_does_not_tell(view: View) -> Verdict:
    held = [pid for pid in (view.launcher, view.monitor) if view.canary.encode() in view.environment(pid)]
    return not held, str(held or "")


def _no_more_user_namespaces(view: View) -> Verdict:
    """Ask the user namespace above the sandbox's how many it may have below it, from within that one."""
    words = [sys.executable, "-I", "-S", "-c", _ASK_ABOVE, str(view.init)]
    said = subprocess.run(words, capture_output=True, text=True, check=False, env={}, timeout=30)
    return said.stdout.strip() == "1", said.stdout.strip() or said.stderr.strip()[-100:]


def _no_user_namespaces(view: View) -> Verdict:
    """Ask the program's own user namespace how many it may have below it, from within."""
    words = [sys.executable, "-I", "-S", "-c", _ASK, str(view.init)]
    said = subprocess.run(words, capture_output=True, text=True, check=False, env={}, timeout=30)
    return said.stdout.strip() == "0", said.stdout.strip() or said.stderr.strip()[-100:]


def _fault_free(view: View) -> Verdict:
    faults = view.receipt.faults(supervisor_uid=os.geteuid())
    return not faults, "; ".join(faults)


_LOOKS: Final[tuple[tuple[str, str, str, frozenset[str], Look], ...]] = (
    ("chain", "launcher_no_new_privs", "on", frozenset(), _of("launcher", "NoNewPrivs", "1")),
    ("chain", "launcher_bounding_set", "empty", _ROOT, _empty("launcher", "CapBnd")),
    ("chain", "launcher_ambient_set", "empty", frozenset(), _empty("launcher", "CapAmb")),
    ("chain", "launcher_environment", "nothing of the supervisor's", frozenset(), _bare("launcher")),
    ("chain", "launcher_mounts", "in a namespace of its own, and no shelf of it outside", _ROOT | _BUBBLEWRAP,
     _launcher_mounts),
    ("chain", "launcher_core", "0", frozenset(), _no_core("launcher")),
    ("chain", "monitor_uid", "one of its own, neither root nor the supervisor", _ROOT, _monitor_is_somebody_else),
    ("chain", "monitor_uid_unprivileged", "the supervisor's, which is not root", frozenset({"user"}), _monitor_is_us),
    ("chain", "monitor_groups", "none", _ROOT, _of("monitor", "Groups", "")),
    *(("chain", f"monitor_{name.lower()}", "empty", _ROOT, _empty("monitor", name)) for name in _SETS),
    ("chain", "monitor_no_new_privs", "on", frozenset(), _of("monitor", "NoNewPrivs", "1")),
    ("chain", "monitor_umask", "022", frozenset(), _of("monitor", "Umask", "0022")),
    ("chain", "monitor_signals", "none ignored or blocked that would keep it alive", frozenset(), _signals),
    ("chain", "monitor_command_line", "options by descriptor", _BUBBLEWRAP, _command_line),
    ("chain", "monitor_environment", "nothing of the supervisor's", frozenset(), _bare("monitor")),
    ("chain", "monitor_directory", "/", frozenset(), _in_the_root("monitor")),
    ("chain", "monitor_core", "0", frozenset(), _no_core("monitor")),
    ("chain", "monitor_descriptors", "pipes and events alone", frozenset(), _descriptors),
    ("chain", "no_more_user_namespaces", "the one it is in is the last", _BUBBLEWRAP, _no_more_user_namespaces),
    ("chain", "no_user_namespaces", "the one it is in may have none", _ENGINE, _no_user_namespaces),
    ("chain", "groups", "none of the host's, for what runs inside", _ROOT, _of("init", "Groups", "")),
    ("chain", "receipt", "without a fault", frozenset(), _fault_free),
    ("limits", "cgroup_joined", "in every hierarchy", _CGROUP, _joined),
    ("limits", "cgroup_memory", "as asked", _CGROUP, _bounded("memory.limit_in_bytes", "memory.max", _memory)),
    ("limits", "cgroup_swap", "none beyond the memory", _CGROUP, _bounded(
        "memory.memsw.limit_in_bytes", "memory.swap.max", lambda limits: (_memory(limits)[0], "0"))),
    ("limits", "cgroup_oom_group", "all of it goes, where the kernel can", _CGROUP | _BUBBLEWRAP, _bounded(
        "memory.oom.group", "memory.oom.group", lambda _: ("1", "1"))),
    ("limits", "cgroup_pids", "as asked", _CGROUP, _bounded("pids.max", "pids.max", _tasks)),
    ("limits", "cgroup_cpu", "as asked", _CGROUP, _bounded("cpu.cfs_quota_us", "cpu.max", _processor)),
    ("limits", "cgroup_cpu_period", "100 ms", _CGROUP, _bounded(
        "cpu.cfs_period_us", "cpu.max", lambda limits: (str(_PERIOD_US), _processor(limits)[1]))),
    ("secrets", "no_command_line_of_the_host", "the canary is on none", frozenset(), _no_command_line_tells),
    ("secrets", "not_in_the_chain", "neither launcher nor monitor has it in its environment", frozenset(),
     _chain_does_not_tell),
    ("secrets", "not_in_the_receipt", "the canary is not in it", frozenset(), lambda view: (
        view.canary not in str(view.receipt.as_record()), "")),
)  # fmt: skip
CASES: Final = tuple(Case(group, name, expected, needs=needs) for group, name, expected, needs, _ in _LOOKS)


def look(view: View) -> Iterator[tuple[str, Verdict]]:
    """Judge each case of this module by its code."""
    for case, (*_, judge) in zip(CASES, _LOOKS, strict=True):
        try:
            yield case.code, judge(view)
        except (OSError, ValueError, LookupError) as error:
            yield case.code, (False, repr(error))
