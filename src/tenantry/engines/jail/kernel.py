"""Reading what the kernel says of a process: /proc/<pid>/{status,ns,cgroup,limits,uid_map,io}, proc_pid_status(5)."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_LIMITS: Final = {
    "Max cpu time": "cpu",
    "Max file size": "fsize",
    "Max core file size": "core",
    "Max processes": "nproc",
    "Max open files": "nofile",
    "Max locked memory": "memlock",
    "Max address space": "as",
    "Max msgqueue size": "msgqueue",
}
_LIMIT_NAME_WIDTH: Final = 26

Moved = tuple[int, int]
"""Bytes that system calls have read and written."""


def read_status(pid: int) -> dict[str, str]:
    """Every field of /proc/<pid>/status; a zombie still has its credentials. Raises OSError when it is gone."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def read_namespaces(pid: int) -> dict[str, int]:
    """Inode of each namespace."""
    return {name: Path(f"/proc/{pid}/ns/{name}").stat().st_ino for name in NAMESPACES}


def read_limits(pid: int) -> dict[str, str]:
    """Soft limits by short name, `unlimited` or a number."""
    found: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]:
        name = _LIMITS.get(line[:_LIMIT_NAME_WIDTH].strip())
        if name:
            found[name] = line[_LIMIT_NAME_WIDTH:].split()[0]
    return found


def read_cgroups(pid: int) -> tuple[str, ...]:
    """Lines of /proc/<pid>/cgroup."""
    return tuple(Path(f"/proc/{pid}/cgroup").read_text().splitlines())


def read_interfaces(pid: int) -> tuple[str, ...]:
    """Names of the network interfaces in that process's network namespace."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        return tuple(sorted(line.partition(":")[0].strip() for line in lines))
    return ()


def read_uid_map(pid: int) -> str:
    """`inside outside count`, the sandbox's only uid."""
    return " ".join(Path(f"/proc/{pid}/uid_map").read_text().split())


def open_process(pid: int, *, pid_namespace: object) -> int:
    """Open a pidfd on a process of that namespace; raises OSError when the number is somebody else's by now."""
    handle = os.pidfd_open(pid)
    try:
        if Path(f"/proc/{pid}/ns/pid").stat().st_ino != pid_namespace:
            raise ProcessLookupError(3, f"process {pid} is not the sandbox's")
    except OSError:
        os.close(handle)
        raise
    return handle


def read_moved(pid: int) -> Moved | None:
    """Read `rchar` and `wchar` of /proc/<pid>/io, with its reaped children's; None when the kernel does not tell."""
    try:
        source = os.open(f"/proc/{pid}/io", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        words = os.read(source, 1024).split()
        return int(words[1]), int(words[3])
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(source)


def added(parts: Iterable[Moved]) -> Moved:
    read = written = 0
    for part in parts:
        read, written = read + part[0], written + part[1]
    return read, written
