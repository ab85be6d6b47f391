"""Tries to get out; run inside a sandbox as a program (`python3 escape.py PLAN`), never imported by the product.

Reads a JSON plan (`calls`: name → [number, expected errno], `judged`: [name, number, arguments, expected errno], `port`
and `socket` of listeners on the host, `canary` hidden in a neighbour, `pids`, `files`, `disk_mib`) and prints one JSON
line per check: {"code", "ok", "detail"}. It needs the standard library alone.
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_MISSING = "absent"
_DEVICES = {
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "pts",
    "shm",
    "ptmx",
    "fd",
    "stdin",
    "stdout",
    "stderr",
    "core",
}
_INT_80 = bytes.fromhex("b8 14 00 00 00 cd 80 c3")  # mov eax, 20 (getpid of i386); int 0x80; ret
_ADDRESSES = (
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1",
    "169.254.169.254", "fd00:ec2::254", "10.0.0.1", "172.17.0.1", "192.168.0.1", "1.1.1.1", "2606:4700:4700::1111",
)  # fmt: skip


def syscall(number: int, *arguments: int) -> int:
    """Errno of a raw call, 0 when it worked."""
    ctypes.set_errno(0)
    padded = [ctypes.c_long(argument) for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    return ctypes.get_errno() if _LIBC.syscall(ctypes.c_long(number), *padded) == -1 else 0


def name_of(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "it worked"


def error_of(attempt: Callable[[], object]) -> str:
    """Name of the OSError an attempt ends in, empty when it succeeds."""
    try:
        attempt()
    except OSError as error:
        return name_of(error.errno or 0) if error.errno else type(error).__name__
    return ""


def refused(*attempts: Callable[[], object]) -> tuple[bool, str]:
    answers = [error_of(attempt) for attempt in attempts]
    return all(answers), " ".join(answer or "it worked" for answer in answers)


def ending_of(child: Callable[[], object]) -> int:
    """Signal that ended a fork which runs `child`, 0 when it lived."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# Who it is


def identity() -> tuple[bool, str]:
    ids = (*os.getresuid(), *os.getresgid())
    mapped = Path("/proc/self/uid_map").read_text().split()
    alone = mapped[2:] == ["1"] and set(os.getgroups()) <= {os.getgid(), 65534}
    return 0 not in ids and alone, f"{ids} {mapped} {os.getgroups()}"


def capabilities() -> tuple[bool, str]:
    """See that no set holds any but the bounding one, which no-new-privileges makes void."""
    masks = {name: value for name, value in status().items() if name.startswith("Cap") and name != "CapBnd"}
    return all(int(mask, 16) == 0 for mask in masks.values()), " ".join(masks.values())


def no_new_privileges() -> tuple[bool, str]:
    return status()["NoNewPrivs"] == "1", ""


def seccomp_on() -> tuple[bool, str]:
    return status()["Seccomp"] == "2", ""


def becoming_root() -> tuple[bool, str]:
    return refused(lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]))


def own_processes_only() -> tuple[bool, str]:
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    return len(pids) <= len(("init", "program", "two more")) + 1 and os.getppid() in {0, 1, *pids}, f"{pids}"


def signals_stay_inside() -> tuple[bool, str]:
    return refused(lambda: os.kill(os.getppid() + 100_000, 0), lambda: os.kill(300, 0))


def descriptors() -> tuple[bool, str]:
    held = [number for number in range(64) if not error_of(lambda: os.fstat(number))]
    return held == [0, 1, 2], f"{held}"


# What it sees and may write


def root_is_read_only() -> tuple[bool, str]:
    places = ["/x", "/usr/x", "/etc/x", "/dev/x", "/var/x", "/proc/x", "/sys/x", "/usr/bin/x"]
    refusals, detail = refused(*(lambda place=place: Path(place).write_text("") for place in places))
    mounted = [place for place in ("/", "/usr", "/etc", "/dev") if not os.statvfs(place).f_flag & os.ST_RDONLY]
    return refusals and not mounted, f"{detail} {mounted}"


def system_files_are_read_only() -> tuple[bool, str]:
    def append(place: str) -> None:
        os.close(os.open(place, os.O_WRONLY | os.O_APPEND))

    places = [
        "/etc/passwd",
        "/etc/resolv.conf",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/hostname",
    ]
    return refused(*(lambda place=place: append(place) for place in places))


def host_is_not_there() -> tuple[bool, str]:
    places = [
        "/root",
        "/boot",
        "/etc/shadow",
        "/var/lib",
        "/var/log",
        "/run/docker.sock",
        "/sys/kernel",
        "/sys/fs",
        "/home",
    ]
    seen = [place for place in map(Path, places) if place.exists() and (not place.is_dir() or any(place.iterdir()))]
    return not seen, " ".join(map(str, seen))


def kernel_memory_is_closed() -> tuple[bool, str]:
    return refused(
        *(lambda name=name: Path(f"/proc/{name}").open("rb").close() for name in ("kcore", "kmsg", "kpagecount"))
    )


def devices() -> tuple[bool, str]:
    extra = sorted(set(os.listdir("/dev")) - _DEVICES)
    blocks = (
        [name for name in os.listdir("/dev") if stat.S_ISBLK(os.lstat(f"/dev/{name}").st_mode)] if not extra else []
    )
    return not extra and not blocks, " ".join((*extra, *blocks))


def making_devices() -> tuple[bool, str]:
    return refused(
        lambda: os.mknod("/tmp/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
        lambda: os.mknod("/workspace/disk", stat.S_IFBLK | 0o666, os.makedev(254, 0)),
    )


def neighbours_files() -> tuple[bool, str]:
    """Look for the neighbour's canary wherever a file or an environment can be read."""
    canary = PLAN["canary"]
    places = [Path(top) for top in ("/workspace", "/tmp", "/run", "/inputs", "/dev/shm", "/var", "/etc")]
    for top in places:
        for directory, _, names in os.walk(top):
            for name in names:
                if _holds(Path(directory, name), canary):
                    return False, f"{directory}/{name}"
    environments = [path for path in Path("/proc").glob("[0-9]*/environ") if _holds(path, canary)]
    return not environments, " ".join(map(str, environments))


def _holds(path: Path, canary: str) -> bool:
    try:
        with path.open("rb") as source:
            return path.name != "plan.json" and canary.encode() in source.read(1 << 20)
    except OSError:
        return False


# The network


def only_loopback() -> tuple[bool, str]:
    names = [name for _, name in socket.if_nameindex()]
    return names == ["lo"], " ".join(names)


def no_address_answers() -> tuple[bool, str]:
    reached = []
    for address in _ADDRESSES:
        for port in (PLAN["port"], 80, 443, 53):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as link:
                link.settimeout(0.2)
                if not error_of(lambda: link.connect((address, port))):
                    reached.append(f"{address}:{port}")
    return not reached, " ".join(reached)


def no_datagram_leaves() -> tuple[bool, str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        return refused(lambda: link.sendto(b"x", ("1.1.1.1", 53)), lambda: link.sendto(b"x", ("169.254.169.254", 80)))


def names_do_not_resolve() -> tuple[bool, str]:
    return refused(
        lambda: socket.getaddrinfo("example.com", 443), lambda: socket.getaddrinfo("metadata.google.internal", 80)
    )


def hosts_unix_sockets() -> tuple[bool, str]:
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        return refused(lambda: abstract.connect("\0" + PLAN["socket"]), lambda: named.connect("/run/docker.sock"))


def tunnels() -> tuple[bool, str]:
    return refused(
        lambda: os.open("/dev/net/tun", os.O_RDWR),
        lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        lambda: socket.socket(40, socket.SOCK_STREAM),  # AF_VSOCK: no network namespace confines it
        lambda: socket.socket(38, socket.SOCK_SEQPACKET),  # AF_ALG
    )


# The kernel's surface


def refused_calls() -> tuple[bool, str]:
    wrong = [
        f"{name}={name_of(answer)}"
        for name, (number, expected) in PLAN["calls"].items()
        if (answer := syscall(number)) != expected
    ]
    return not wrong, " ".join(wrong)


def judged_calls() -> tuple[bool, str]:
    wrong = [
        f"{name}{arguments}={name_of(answer)}"
        for name, number, arguments, expected in PLAN["judged"]
        if (answer := syscall(number, *arguments)) != expected
    ]
    return not wrong, " ".join(wrong)


def other_call_tables() -> tuple[bool, str]:
    """Try the 32-bit table by `int 0x80` and the x32 one, which must kill; only x86-64 has them."""
    if platform.machine() != "x86_64":
        return True, "not this machine's"

    def old_table() -> None:
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(_INT_80)
            view = (ctypes.c_char * 4096).from_buffer(page)
            ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(view))()

    endings = (ending_of(old_table), ending_of(lambda: syscall(0x40000000 + 39)))
    return endings == (signal.SIGSYS, signal.SIGSYS), f"{endings}"


# Bombs


def fork_bomb() -> tuple[bool, str]:
    children: list[int] = []
    try:
        for _ in range(PLAN["pids"] * 4):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError as error:
        return len(children) < PLAN["pids"] + 4, f"{name_of(error.errno or 0)} after {len(children)}"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return False, f"{len(children)} children"


def descriptor_bomb() -> tuple[bool, str]:
    held: list[int] = []
    try:
        for _ in range(PLAN["files"] * 4):
            held.append(os.open("/dev/null", os.O_RDONLY))  # noqa: PERF401 - it is meant to fail
    except OSError as error:
        return len(held) <= PLAN["files"], f"{name_of(error.errno or 0)} after {len(held)}"
    finally:
        for descriptor in held:
            os.close(descriptor)
    return False, f"{len(held)} descriptors"


def disk_bomb() -> tuple[bool, str]:
    """Fill /workspace in pieces, since one file has a limit of its own, then try one sparse giant."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    piece, written, answer = b"\1" * (1 << 20), 0, "it worked"
    paths = [Path(f"/workspace/bomb{number}") for number in range(4)]
    try:
        for path in paths:
            with path.open("wb", buffering=0) as target:
                for _ in range(PLAN["disk_mib"]):
                    written += target.write(piece)
    except OSError as error:
        answer = name_of(error.errno or 0)
    for path in paths:
        path.unlink(missing_ok=True)
    giant = error_of(lambda: os.truncate(os.open("/workspace/giant", os.O_CREAT | os.O_RDWR), 1 << 40))
    return answer == "ENOSPC" and bool(giant) and written <= PLAN["disk_mib"] << 20, f"{answer} at {written >> 20} MiB"


def core_dumps() -> tuple[bool, str]:
    return resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, ""


CHECKS: tuple[Callable[[], tuple[bool, str]], ...] = (
    identity, capabilities, no_new_privileges, seccomp_on, becoming_root, own_processes_only, signals_stay_inside,
    descriptors, root_is_read_only, system_files_are_read_only, host_is_not_there, kernel_memory_is_closed, devices,
    making_devices, neighbours_files, only_loopback, no_address_answers, no_datagram_leaves, names_do_not_resolve,
    hosts_unix_sockets, tunnels, refused_calls, judged_calls, other_call_tables, fork_bomb, descriptor_bomb, disk_bomb,
    core_dumps,
)  # fmt: skip
PLAN: dict[str, Any] = {}


def main() -> None:
    PLAN.update(json.loads(Path(sys.argv[1]).read_text()))
    for check in CHECKS:
        started = time.monotonic()
        try:
            ok, detail = check()
        except Exception as error:  # noqa: BLE001 - a check that breaks is a check that failed
            ok, detail = False, repr(error)
        seconds = round(time.monotonic() - started, 3)
        sys.stdout.write(json.dumps({"code": check.__name__, "ok": ok, "detail": detail, "seconds": seconds}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
