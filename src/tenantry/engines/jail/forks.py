"""What forks of the launcher do between fork and exec, or instead of an exec; part of that program (launcher.py).

It needs the standard library alone, and nothing here returns into the launcher's loop by itself.
"""

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
from typing import Any, Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_LAST_CAPABILITY = 63
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701
_HIGH_FD = 64
_FIRST_OWN_FD = 3
_MOST_FDS = 1 << 20  # close_range(2) does not mind
_MESSAGE_BYTES = 1 << 16
_BACKLOG = 128
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_LOOPBACK = "127.0.0.1"
_LISTEN_SECONDS = 10
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine, -1)
_MOST_SIGNALS = 64
_SIGACTION_BYTES = 32  # all 0: the default, no flags, nothing masked


def checked(result: int, path: str = "") -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def checked_call(number: int, *arguments: int) -> int:
    """Make a system call by its number; raises OSError."""
    result = int(LIBC.syscall(number, *(ctypes.c_long(argument) for argument in arguments)))
    checked(result)
    return result


def children() -> list[int]:
    """Every process whose parent this one is."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as source:
                    parent = int(source.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getpid():
                found.append(int(name))
    return found


def moved(pid: int) -> tuple[int, int] | None:
    """Bytes read and written by a process and its reaped children (proc_pid_io(5)); None when the kernel refuses."""
    try:
        with open(f"/proc/{pid}/io", "rb") as source:
            lines = source.read().split(b"\n")
        return int(lines[0].split()[1]), int(lines[1].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def both(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    return (one[0] + other[0], one[1] + other[1]) if one and other else None


def receive_with_descriptors(channel: socket.socket) -> tuple[bytes, list[int]]:
    body, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 16)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # recv_fds of Python 3.11 drops its flags, MSG_CMSG_CLOEXEC too
    return body, descriptors


def close_all_but(*kept: int) -> None:
    lowest = _FIRST_OWN_FD
    for descriptor in sorted(kept):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, _MOST_FDS)


def join(paths: list[str]) -> None:
    for path in paths:
        group = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(group, b"0")
        os.close(group)


def group_of(join_files: list[str]) -> str:
    """Name the cgroup of a sandbox, the same in every hierarchy; empty when there is none."""
    return join_files[0].split("/")[-2] if join_files else ""


def is_in(pid: int, group: str) -> bool:
    """Say whether a process is in that group; without a group any may be."""
    try:
        with open(f"/proc/{pid}/cgroup") as source:
            return not group or any(line.rstrip("\n").endswith(f"/{group}") for line in source)
    except OSError:
        return False


def limit(limits: list[list[int]]) -> None:
    """Set soft and hard alike, never above the hard limit we have: not every root may raise one."""
    for number, value in limits:
        _, hard = resource.getrlimit(number)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (bound, bound))


def drop_to(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    drop_capabilities()


def drop_capabilities() -> None:
    checked(LIBC.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()))


def give_up_gains() -> None:
    """Gain no capability by any program from here on; without CAP_SETPCAP the bounding set stays as it is."""
    checked(LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    checked(LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    for capability in range(_LAST_CAPABILITY + 1):  # EINVAL past the last
        LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def take_label(pid: int) -> None:
    """Wear the security label of that process of a container from the program on, where there are labels."""
    try:
        with open(f"/proc/{pid}/attr/current", "rb") as source:
            label = source.read().strip(b"\0\n ")
    except OSError:
        return
    if label in {b"", b"unconfined", b"kernel"}:
        return
    named = label if os.path.exists("/sys/fs/selinux/enforce") else b"exec " + label.partition(b" (")[0]
    with open("/proc/self/attr/exec", "wb", buffering=0) as target:
        target.write(named)


def reset_signals() -> None:
    """Heed every signal as a new program does, whatever whoever started us ignores.

    By the system call: libc keeps two for itself, and a parent that spawns (`make`) passes them on ignored.
    """
    for number in range(1, _MOST_SIGNALS + 1):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            checked(LIBC.syscall(_RT_SIGACTION, number, bytes(_SIGACTION_BYTES), None, _MOST_SIGNALS // 8))


def arrange(wanted: list[int]) -> None:
    """Give the descriptors the numbers from 0 in this order; everything else is close-on-exec."""
    lifted = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for descriptor in wanted]
    for number, descriptor in enumerate(lifted):
        os.dup2(descriptor, number, inheritable=True)


def send_listeners(channel: socket.socket, message: dict[str, Any]) -> None:
    """Enter the sandbox's network, bind what is asked for, and send it to the supervisor, or the reason why not."""
    signal.alarm(_LISTEN_SECONDS)
    signal.set_wakeup_fd(-1)
    close_all_but(channel.fileno())  # barriers above all: a copy of one would hold it closed
    answer: dict[str, object] = {"listening": message["token"]}
    made: list[socket.socket] = []
    try:
        _enter_network(message["pid"], message["network"])
        if message.get("raised"):
            _raise_loopback()
        made.extend(_bound(datagrams, address, port) for datagrams, address, port in message["addresses"])
    except OSError as error:
        made.clear()
        answer |= {"errno": error.errno, "error": str(error)}
    socket.send_fds(channel, [json.dumps(answer).encode()], [one.fileno() for one in made])


def send_connection(channel: socket.socket, message: dict[str, Any]) -> None:
    """Enter the sandbox's network, connect, and send the connection to the supervisor, or the reason why not."""
    signal.alarm(_LISTEN_SECONDS)
    signal.set_wakeup_fd(-1)
    close_all_but(channel.fileno())
    answer: dict[str, object] = {"listening": message["token"]}
    made: list[socket.socket] = []
    try:
        _enter_network(message["pid"], message["network"])
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.connect((_LOOPBACK, message["port"]))
        made.append(one)
    except OSError as error:
        answer |= {"errno": error.errno, "error": str(error)}
    socket.send_fds(channel, [json.dumps(answer).encode()], [one.fileno() for one in made])


def _enter_network(pid: int, inode: int) -> None:
    """Join the network namespace of process `pid`, which must be the one of that inode.

    As root we have what it takes over every namespace below ours. Otherwise the user namespace that owns it is
    entered first: it is ours, since a process of our uid made it, and gives all capabilities inside of it alone.
    """
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(network).st_ino != inode:
        raise ProcessLookupError(3, f"process {pid} is not in the sandbox's network")
    if os.geteuid() != 0:
        checked(LIBC.setns(fcntl.ioctl(network, _NS_GET_USERNS), _CLONE_NEWUSER), "setns: user")
    checked(LIBC.setns(network, _CLONE_NEWNET), "setns: net")


def _raise_loopback() -> None:
    """Bring up `lo` (netdevice(7)), which not every runtime does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(asking, _SIOCGIFFLAGS, request))
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _bound(datagrams: bool, address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)
    made.bind((address, port))
    if not datagrams:
        made.listen(_BACKLOG)
    return made
