"""The kernel's surface: each rule of the filter as a call with the answer it must get, and what must still work.

A rule is tried twice: inside, as the call itself, and on the host, where the filter's bytes are interpreted: for a call
that the kernel refuses anyway only the second tells whether the filter does too.
"""

import ctypes
import mmap
import platform
import signal
import socket
import threading
from dataclasses import dataclass
from functools import partial
from typing import Final

from tenantry.engines.jail.escape.cases import Attempt, Case, Verdict, ending_of, name_of, outcome, raw
from tenantry.engines.jail.syscalls import JUDGED, LAST_REVIEWED, MACHINES

_HORIZON: Final = LAST_REVIEWED + 1
_INT_80: Final = bytes.fromhex("b8 14 00 00 00 cd 80 c3")  # mov eax, 20 (getpid of i386); int 0x80; ret
_X32: Final = 0x40000000
_STREAM, _DGRAM, _MPTCP = 1, 2, 262
_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_HIGH: Final = 1 << 32  # the kernel looks at 32 bits of these arguments, and so must the filter
_NAMESPACES: Final = {
    "newtime": 0x80, "newns": 1 << 17, "newcgroup": 1 << 25, "newuts": 1 << 26, "newipc": 1 << 27, "newuser": 1 << 28,
    "newpid": 1 << 29, "newnet": 1 << 30,
}  # fmt: skip
_FAMILIES: Final = {
    "unspecified": 0, "ax25": 3, "ipx": 4, "appletalk": 5, "netrom": 6, "bridge": 7, "atmpvc": 8, "x25": 9,
    "rose": 11, "decnet": 12, "netbeui": 13, "security": 14, "key": 15, "packet": 17, "ash": 18, "econet": 19,
    "atmsvc": 20, "rds": 21, "sna": 22, "irda": 23, "pppox": 24, "wanpipe": 25, "llc": 26, "infiniband": 27,
    "mpls": 28, "can": 29, "tipc": 30, "bluetooth": 31, "iucv": 32, "rxrpc": 33, "isdn": 34, "phonet": 35,
    "ieee802154": 36, "caif": 37, "alg": 38, "nfc": 39, "vsock": 40, "kcm": 41, "qipcrtr": 42, "smc": 43, "xdp": 44,
    "mctp": 45, "the_next": 46, "high": _HIGH | 40,
}  # fmt: skip
_KINDS: Final = {"stream": 1, "dgram": 2, "raw": 3, "rdm": 4, "seqpacket": 5, "dccp": 6, "packet": 10}
_ALLOWED_KINDS: Final = {
    "unix": (1, {"stream", "dgram", "seqpacket"}),
    "inet": (2, {"stream", "dgram"}),
    "inet6": (10, {"stream", "dgram"}),
    "netlink": (16, {"raw", "dgram"}),
}
_PROTOCOLS: Final = {"icmp": 1, "igmp": 2, "ipip": 4, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136,
                     "raw": 255, "mptcp": _MPTCP}  # fmt: skip
_NETLINK: Final = {
    "usersock": 2, "firewall": 3, "sock_diag": 4, "nflog": 5, "xfrm": 6, "selinux": 7, "iscsi": 8, "audit": 9,
    "fib_lookup": 10, "connector": 11, "netfilter": 12, "ip6_fw": 13, "dnrtmsg": 14, "kobject_uevent": 15,
    "generic": 16,    "scsitransport": 18, "ecryptfs": 19, "rdma": 20, "crypto": 21, "smc": 22,
}  # fmt: skip
_PERSONALITIES: Final = {
    "no_randomisation": 0x0040000,
    "exec_of_readable": 0x0400000,
    "null_page": 0x0100000,
    "linux32": 8,
}
_THREAD: Final = 0x3D0F00  # the flags of pthread_create


@dataclass(frozen=True, slots=True)
class Rule:
    """A call by name or number and what it must be answered: an errno's name, `kill` or `allow`.

    `executed` is off where the call cannot be made with this interpreter; `arch` is another AUDIT_ARCH_* than ours.
    """

    name: str
    call: str | int
    arguments: tuple[int, ...]
    answer: str
    executed: bool = True
    arch: int | None = None
    needs: frozenset[str] = frozenset()

    def number(self, machine: str) -> int:
        return MACHINES[machine].numbers[self.call] if isinstance(self.call, str) else self.call


def _machines_of(call: str) -> frozenset[str]:
    having = [name for name, machine in MACHINES.items() if call in machine.numbers]
    return frozenset(having) if len(having) < len(MACHINES) else frozenset()


def _refused_calls() -> list[Rule]:
    names = sorted({call for machine in MACHINES.values() for call in machine.numbers} - JUDGED)
    return [Rule(f"call_{name}", name, (), "EPERM", needs=_machines_of(name)) for name in names]


def _judged_calls() -> list[Rule]:
    rules = [Rule(f"clone_{name}", "clone", (flag,), "EPERM") for name, flag in _NAMESPACES.items()]
    rules += [Rule(f"ioctl_{name}{suffix}", "ioctl", (0, high | number), "EPERM")
              for name, number in (("tiocsti", 0x5412), ("tioclinux", 0x541C))
              for suffix, high in (("", 0), ("_high", _HIGH))]  # fmt: skip
    rules += [Rule(f"personality_{name}", "personality", (v,), "EPERM") for name, v in _PERSONALITIES.items()]
    return [*rules, Rule("clone3", "clone3", (), "ENOSYS")]


def _sockets() -> list[Rule]:
    rules = [Rule(f"socket_{name}", "socket", (n, 1, 0), "EAFNOSUPPORT") for name, n in _FAMILIES.items()]
    for family, (number, allowed) in _ALLOWED_KINDS.items():
        rules += [Rule(f"socket_{family}_{kind}", "socket", (number, value, 0), "allow" if kind in allowed else "EPERM",
                       executed=kind not in allowed) for kind, value in _KINDS.items()]  # fmt: skip
    for family, number in (("inet", 2), ("inet6", 10)):
        rules += [Rule(f"socket_{family}_protocol_{name}", "socket",
                       (number, _STREAM if value == _MPTCP else _DGRAM, value), "EPROTONOSUPPORT")
                  for name, value in _PROTOCOLS.items()]  # fmt: skip
    rules += [Rule(f"netlink_{name}", "socket", (16, 3, v), "EPROTONOSUPPORT") for name, v in _NETLINK.items()]
    rules += [Rule(f"socketpair_{name}", "socketpair", (n, 1, 0), "EAFNOSUPPORT") for name, n in
              {"inet": 2, "inet6": 10, "netlink": 16, **_FAMILIES}.items()]  # fmt: skip
    return [*rules, Rule("socket_raw_with_flags", "socket", (2, 3 | _CLOEXEC | _NONBLOCK, 255), "EPERM")]


def _tables() -> list[Rule]:
    rules = [Rule(f"call_number_{n:#x}", n, (), "ENOSYS") for n in (_HORIZON, _HORIZON + 100, 0x3FFFFFFF)]
    rules += [Rule(f"x32_{n:#x}", n, (), "kill", needs=frozenset({"x86_64"})) for n in (_X32, _X32 + 39, 0xFFFFFFFF)]
    return rules + [Rule(f"arch_{n:#x}", 1, (), "kill", executed=False, arch=n) for n in (0x40000003, 0x40000028, 0)]


def _work() -> list[Rule]:
    """List what ordinary programs do: a filter that refuses more than it should is found, too."""
    allowed: list[tuple[str, str | int, tuple[int, ...]]] = [
        ("thread", "clone", (_THREAD,)), ("fork", "clone", (17,)), ("socketpair_unix", "socketpair", (1, 1, 0)),
        ("tcp", "socket", (2, 1, 6)), ("udp", "socket", (2, 2 | _CLOEXEC, 17)),
        ("tcp6", "socket", (10, 1 | _NONBLOCK, 6)),
        ("udp6", "socket", (10, 2, 17)),
        ("local", "socket", (1, 1 | _CLOEXEC, 0)), ("routes", "socket", (16, 3 | _CLOEXEC, 0)),
        ("terminal", "ioctl", (0, 0x5401)), ("ordinary", "personality", (0,)),
        ("query", "personality", (0xFFFFFFFF,)), ("the_last_reviewed", LAST_REVIEWED, ()), ("the_first", 0, ()),
    ]  # fmt: skip
    return [Rule(f"work_{name}", call, arguments, "allow", executed=False) for name, call, arguments in allowed]


RULES: Final = (*_refused_calls(), *_judged_calls(), *_sockets(), *_tables(), *_work())


def _tried(rule: Rule) -> Attempt:
    def attempt() -> Verdict:
        number = rule.number(platform.machine())
        if rule.answer == "kill":
            ending = ending_of(lambda: raw(number, *rule.arguments))
            return ending == signal.SIGSYS, f"signal {ending}"
        answer = name_of(raw(number, *rule.arguments))
        return answer == rule.answer, answer

    return attempt


def _old_table() -> Verdict:
    def call() -> None:
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(_INT_80)
            view = (ctypes.c_char * 4096).from_buffer(page)
            ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(view))()

    ending = ending_of(call)  # a kernel without that table ends it by a fault
    return ending in {signal.SIGSYS, signal.SIGSEGV}, f"signal {ending}"


def _threads() -> Verdict:
    done: list[int] = []
    thread = threading.Thread(target=done.append, args=(1,))
    thread.start()
    thread.join()
    return done == [1], str(done)


def _local_links() -> Verdict:
    failed = [outcome(partial(_echo, kind)) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)]
    return not any(failed), " ".join(failed)


def _echo(kind: socket.SocketKind) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        one.send(b"x")
        other.recv(1)


def _loopback() -> Verdict:
    failed = outcome(_through_loopback)
    return not failed, failed


def _through_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        server.accept()[0].close()


CASES: Final = (
    *(Case("kernel", rule.name, rule.answer, _tried(rule) if rule.executed else None, rule.needs) for rule in RULES),
    Case("kernel", "int_0x80", "kill", _old_table, frozenset({"x86_64"})),
    Case("kernel", "threads_run", "allow", _threads),
    Case("kernel", "local_sockets_work", "allow", _local_links),
    Case("kernel", "its_own_loopback_works", "allow", _loopback),
)
