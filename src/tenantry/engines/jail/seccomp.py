"""The seccomp filter, assembled here as classic BPF (Documentation/userspace-api/seccomp_filter.rst).

A foreign architecture or the x32 table kills the process. Calls that manage mounts, namespaces, keys, modules, clocks,
other processes' memory or the kernel's programmable parts answer EPERM; `clone3` answers ENOSYS so that libc falls back
to `clone`, whose flags a filter can see; calls newer than the last one reviewed answer ENOSYS. Sockets are AF_UNIX,
AF_INET, AF_INET6 of the ordinary types and AF_NETLINK for reading addresses; AF_VSOCK above all is refused, since no
network namespace confines it. The kernel compares these arguments as 32-bit values, so their low words suffice.
"""

import errno
import hashlib
import platform
import struct
from functools import cache
from typing import Final

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.syscalls import JUDGED, LAST_REVIEWED, MACHINES

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JEQ, _JGT, _JGE, _JSET = 0x15, 0x25, 0x35, 0x45
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RET: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_KILL_PROCESS: Final = 0x80000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # struct seccomp_data

_X32_BIT: Final = 0x40000000
#: CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET, and NEWTIME, which shares a bit with the exit signal.
_NAMESPACES: Final = 0x7E020080
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_SOCKET_KIND: Final = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK
_STREAM, _DGRAM, _SEQPACKET, _RAW = 1, 2, 5, 3
_TCP, _UDP = 6, 17
#: The first call number the filter has not been reviewed for.
NEXT_CALL: Final = LAST_REVIEWED + 1


class _Program:
    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        self.code.append((_LOAD, 0, 0, offset))

    def load_argument(self, index: int) -> None:
        self.load(_ARGUMENTS + 8 * index)

    def give(self, action: int) -> None:
        self.code.append((_RET, 0, 0, action))

    def refuse(self, number: int) -> None:
        self.give(_ERRNO | number)

    def jump(self, kind: int, value: int, *, yes: int = 0, no: int = 0) -> None:
        self.code.append((kind, yes, no, value))

    def mask(self, value: int) -> None:
        self.code.append((_AND, 0, 0, value))

    def unless_one_of(self, values: tuple[int, ...], error: int) -> None:
        """Fall through when the accumulator is one of `values`, refuse otherwise."""
        for index, value in enumerate(values):
            self.jump(_JEQ, value, yes=len(values) - index)
        self.refuse(error)

    def block(self, number: int, body: "_Program") -> None:
        """Run `body`, which must return, for one call."""
        self.jump(_JEQ, number, no=len(body.code))
        self.code += body.code

    def encoded(self) -> bytes:
        return b"".join(struct.pack("<HBBI", *instruction) for instruction in self.code)


@cache
def build_filter(machine: str = "") -> bytes:
    """Assemble the filter for `machine` (as uname says; this one by default).

    Raises JailUnavailable `architecture_unsupported` for machines whose call numbers are not in the tables.
    """
    name = machine or platform.machine()
    target = MACHINES.get(name)
    if target is None:
        raise JailUnavailable(
            "architecture_unsupported",
            f"no seccomp table for {name}",
            remedy=f"run on one of {', '.join(MACHINES)}, or use a container backend",
        )
    program = _Program()
    program.load(_ARCH)
    program.jump(_JEQ, target.audit_arch, yes=1)
    program.give(_KILL_PROCESS)
    program.load(_NUMBER)
    if target.x32:
        program.jump(_JGE, _X32_BIT, no=1)
        program.give(_KILL_PROCESS)
    program.jump(_JGT, LAST_REVIEWED, no=1)
    program.refuse(errno.ENOSYS)
    numbers = target.numbers
    for call in sorted(set(numbers) - JUDGED, key=numbers.__getitem__):
        program.jump(_JEQ, numbers[call], no=1)
        program.refuse(errno.EPERM)
    program.jump(_JEQ, numbers["clone3"], no=1)
    program.refuse(errno.ENOSYS)
    program.block(numbers["clone"], _clone())
    program.block(numbers["ioctl"], _ioctl())
    program.block(numbers["personality"], _personality())
    program.block(numbers["socketpair"], _socketpair())
    program.block(numbers["socket"], _socket())
    program.give(_ALLOW)
    return program.encoded()


def filter_sha256() -> str:
    return hashlib.sha256(build_filter()).hexdigest()


def _clone() -> _Program:
    body = _Program()
    body.load_argument(0)
    body.jump(_JSET, _NAMESPACES, no=1)
    body.refuse(errno.EPERM)
    body.give(_ALLOW)
    return body


def _ioctl() -> _Program:
    """TIOCSTI types into the terminal that started us, TIOCLINUX pastes into a console."""
    body = _Program()
    body.load_argument(1)
    body.jump(_JEQ, _TIOCSTI, yes=1)
    body.jump(_JEQ, _TIOCLINUX, no=1)
    body.refuse(errno.EPERM)
    body.give(_ALLOW)
    return body


def _personality() -> _Program:
    """Asking (0xffffffff) and the ordinary one (0) only: others switch address randomisation off."""
    body = _Program()
    body.load_argument(0)
    body.unless_one_of((0, 0xFFFFFFFF), errno.EPERM)
    body.give(_ALLOW)
    return body


def _socketpair() -> _Program:
    body = _Program()
    body.load_argument(0)
    body.unless_one_of((_UNIX,), errno.EAFNOSUPPORT)
    body.give(_ALLOW)
    return body


def _socket() -> _Program:
    internet = _Program()
    internet.load_argument(1)
    internet.mask(_SOCKET_KIND)
    internet.unless_one_of((_STREAM, _DGRAM), errno.EPERM)
    internet.load_argument(2)
    internet.unless_one_of((0, _TCP, _UDP), errno.EPROTONOSUPPORT)
    internet.give(_ALLOW)

    local = _Program()
    local.load_argument(1)
    local.mask(_SOCKET_KIND)
    local.unless_one_of((_STREAM, _DGRAM, _SEQPACKET), errno.EPERM)
    local.give(_ALLOW)

    netlink = _Program()
    netlink.load_argument(1)
    netlink.mask(_SOCKET_KIND)
    netlink.unless_one_of((_RAW, _DGRAM), errno.EPERM)
    netlink.load_argument(2)
    netlink.unless_one_of((0,), errno.EPROTONOSUPPORT)  # NETLINK_ROUTE: what getifaddrs reads
    netlink.give(_ALLOW)

    body = _Program()
    body.load_argument(0)
    for families, rules in (((_UNIX,), local), ((_NETLINK,), netlink), ((_INET, _INET6), internet)):
        for index, family in enumerate(families):
            last = index == len(families) - 1
            body.jump(_JEQ, family, yes=0 if last else 1, no=len(rules.code) if last else 0)
        body.code += rules.code
    body.refuse(errno.EAFNOSUPPORT)
    return body
