"""Devices, /proc and /sys, signals to others, and what may be read of neighbours."""

import ctypes
import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from tenantry.engines.jail.escape.cases import (
    PLAN,
    Attempt,
    Case,
    Verdict,
    equal,
    libc,
    opening,
    outcome,
    read,
    refused,
)

_DEVICES: Final = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_NAMES: Final = {*_DEVICES, "pts", "shm", "ptmx", "fd", "stdin", "stdout", "stderr", "core"}
_HIDDEN: Final = (
    "mem", "kmem", "kmsg", "port", "console", "tty0", "ttyS0", "vcs", "sda", "vda", "nvme0", "nvme0n1", "loop0",
    "loop-control", "mapper/control", "fuse", "cuse", "kvm", "vhost-net", "vhost-vsock", "vsock", "net/tun",
    "userfaultfd", "uinput", "input/event0", "dri/card0", "nvidia0", "snd/controlC0", "hpet", "rtc", "rtc0",
    "nvram", "watchdog", "cpu_dma_latency", "btrfs-control", "autofs", "sgx_enclave", "tpm0", "mqueue",
    "hugepages", "bus/usb", "dma_heap",
)  # fmt: skip
_SETTINGS: Final = (
    "kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "kernel/domainname", "kernel/sysrq", "kernel/panic",
    "kernel/kptr_restrict", "kernel/randomize_va_space", "kernel/yama/ptrace_scope", "kernel/unprivileged_bpf_disabled",
    "kernel/threads-max", "kernel/cap_last_cap", "kernel/perf_event_paranoid", "kernel/dmesg_restrict",
    "vm/overcommit_memory", "vm/drop_caches", "vm/mmap_min_addr", "vm/panic_on_oom", "fs/file-max", "fs/suid_dumpable",
    "fs/protected_symlinks", "fs/protected_hardlinks", "fs/nr_open", "user/max_user_namespaces",
    "net/ipv4/ip_forward", "net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range",
)  # fmt: skip
_SECRET_FILES: Final = (
    "kcore", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "slabinfo", "vmallocinfo", "timer_list",
    "pagetypeinfo", "vmcore",
)  # fmt: skip
_WRITES: Final = ("/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/acpi/wakeup", "/proc/mtrr")
_TOPS: Final = ("/workspace", "/tmp", "/run", "/inputs", "/dev/shm", "/var", "/etc")
_BYTES_OF_PAGEMAP: Final = 8


def _device(name: str, numbers: tuple[int, int]) -> Attempt:
    def attempt() -> Verdict:
        found = os.stat(f"/dev/{name}")
        held = stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) == numbers
        return held, f"{found.st_rdev:x}"

    return attempt


def _no_block_device() -> Verdict:
    found = [path for path, mode in _every_node() if stat.S_ISBLK(mode)]
    return not found, " ".join(found)


def _every_node() -> Iterator[tuple[str, int]]:
    for directory, _, names in os.walk("/dev"):
        for name in names:
            path = f"{directory}/{name}"
            yield path, os.lstat(path).st_mode


def _node(place: str, kind: int) -> Callable[[], None]:
    return lambda: os.mknod(f"{place}/node", kind | 0o666, os.makedev(1, 3))


def _no_addresses() -> Verdict:
    """Without CAP_SYSLOG every address of the kernel's symbols is shown as zero, or the file is not there."""
    try:
        first = read("/proc/kallsyms", 256).splitlines()[:3]
    except OSError as error:
        return True, str(error.errno)
    return all(int(line.split()[0], 16) == 0 for line in first), " ".join(first)


def _no_frame_numbers() -> Verdict:
    """Read a page's entry, which has its frame number in bits 0 to 54, zero without CAP_SYS_ADMIN."""
    page = ctypes.create_string_buffer(b"x" * 4096)
    with open("/proc/self/pagemap", "rb", buffering=0) as source:
        source.seek(ctypes.addressof(page) // os.sysconf("SC_PAGESIZE") * _BYTES_OF_PAGEMAP)
        entry = int.from_bytes(source.read(_BYTES_OF_PAGEMAP), "little")
    return entry & ((1 << 55) - 1) == 0, f"{entry:x}"


def _lower_score() -> None:
    with open("/proc/self/oom_score_adj", "w") as target:
        target.write("-1000")


def _on_the_host(call: Callable[[int], object]) -> None:
    call(_hosts_pid())


def _hosts_pid() -> int:
    return int(PLAN["host_pid"])


def _process_1_survives() -> Verdict:
    failed = outcome(lambda: os.kill(1, signal.SIGKILL))
    return os.path.exists("/proc/1") and os.getppid() == PLAN["parent"], failed or "ignored by process 1"


def _bearers_of(canary: str) -> Iterator[str]:
    for top in _TOPS:
        for directory, _, names in os.walk(top):
            yield from (path for name in names if _holds(path := f"{directory}/{name}", canary))


def _holds(path: str, canary: str) -> bool:
    try:
        return not path.endswith("/plan.json") and canary in read(path, 1 << 20)
    except OSError:
        return False


def _no_file() -> Verdict:
    found = list(_bearers_of(PLAN["canary"]))
    return not found, " ".join(found[:3])


def _nothing_of_processes(name: str) -> Attempt:
    def attempt() -> Verdict:
        places = [f"/proc/{pid}/{name}" for pid in os.listdir("/proc") if pid.isdecimal()]
        found = [path for path in places if _holds(path, PLAN["canary"])]
        return not found, " ".join(found)

    return attempt


def _readable(path: str) -> None:
    """Read, and take nothing to be read for a refusal: an engine lays /dev/null over such files."""
    with open(path, "rb", buffering=0) as source:
        if not source.read(16):
            raise OSError(errno.ENODATA, "empty", path)


_ON_PIDS: Final[dict[str, Callable[[int], object]]] = {
    "signal": lambda pid: os.kill(pid, 0),
    "kill": lambda pid: os.kill(pid, signal.SIGCONT),
    "open": os.pidfd_open,
    "read_affinity": os.sched_getaffinity,
    "renice": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "session": os.getsid,
    "limits": lambda pid: libc("prlimit", pid, 7, None, ctypes.byref((ctypes.c_uint64 * 2)())),
    "directory": lambda pid: os.listdir(f"/proc/{pid}"),
}

CASES: Final = (
    *(Case("devices", name, "{}:{}".format(*numbers), _device(name, numbers)) for name, numbers in _DEVICES.items()),
    *(Case("devices", f"no_{name}", "it is not there", refused(opening(f"/dev/{name}", os.O_RDONLY)))
      for name in _HIDDEN),
    Case("devices", "nothing_else", "known names only", lambda: (
        set(os.listdir("/dev")) <= _NAMES, " ".join(sorted(set(os.listdir("/dev")) - _NAMES)))),
    Case("devices", "no_block_device", "none", _no_block_device),
    Case("devices", "terminals_of_its_own", "none of the host's in /dev/pts", lambda: (
        set(os.listdir("/dev/pts")) <= {"ptmx"}, " ".join(os.listdir("/dev/pts")))),
    *(Case("devices", f"make_{kind}_in_{place}", "refused", refused(_node(place, number)))
      for kind, number in (("character", stat.S_IFCHR), ("block", stat.S_IFBLK))
      for place in ("/workspace", "/tmp", "/dev/shm", "/run", "/dev")),
    *(Case("procfs", f"set_{name}", "refused", refused(opening(f"/proc/sys/{name}", os.O_WRONLY)))
      for name in _SETTINGS),
    *(Case("procfs", f"read_{name}", "refused", refused(partial(_readable, f"/proc/{name}")))
      for name in _SECRET_FILES),
    Case("procfs", "read_stack_of_process_1", "refused", refused(lambda: _readable("/proc/1/stack"))),
    *(Case("procfs", f"write_{path}", "refused", refused(opening(path, os.O_WRONLY))) for path in _WRITES),
    Case("procfs", "no_kernel_addresses", "zeros", _no_addresses),
    Case("procfs", "no_frame_numbers", "zeros", _no_frame_numbers),
    Case("procfs", "no_keys", "none of the host's", lambda: (not read("/proc/keys"), read("/proc/keys", 200))),
    Case("procfs", "be_spared_by_the_oom_killer", "refused", refused(_lower_score)),
    Case("procfs", "sys_is_empty", "empty", equal(lambda: os.listdir("/sys"), [])),
    *(Case("signals", f"{name}_the_host", "refused: no such process", refused(partial(_on_the_host, call)))
      for name, call in _ON_PIDS.items()),
    Case("signals", "kill_process_1", "without effect", _process_1_survives),
    Case("signals", "group_of_the_host", "refused: no such group", refused(
        lambda: os.killpg(_hosts_pid(), 0))),
    Case("secrets", "no_file_of_the_neighbour", "the canary is in no file", _no_file),
    *(Case("secrets", f"no_{name}_of_the_neighbour", "the canary is in none", _nothing_of_processes(name))
      for name in ("environ", "cmdline", "maps", "status", "comm")),
)  # fmt: skip
