"""What a program's way into a gVisor sandbox is made of: the steps that stepper.py takes there, in their order.

They make of a process of the runtime's what containing.py makes of a fork: no descriptor but three, a session, a user
namespace with one uid in it, no right, the limits, the directory, the filter; then it becomes the program.
"""

import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.engines.jail.bubblewrap import SANDBOX_UID, environment_of
from tenantry.engines.jail.exec_types import ExecSpec
from tenantry.engines.jail.gvisor.stepper import ADDRESS, GO_ON, IGNORE, REPORT, REPORT_FD, STEP_BYTES, STOP
from tenantry.engines.jail.seccomp import build_filter
from tenantry.engines.jail.types import Spec, os_bytes

_NUMBERS: Final = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "recvmsg": 47, "execve": 59, "kill": 62, "chdir": 80, "umask": 95,
        "setsid": 112, "setresuid": 117, "setresgid": 119, "capset": 126, "prctl": 157, "exit_group": 231,
        "openat": 257, "ppoll": 271, "unshare": 272, "dup3": 292, "prlimit64": 302,
    },
    "aarch64": {
        "dup3": 24, "chdir": 49, "openat": 56, "close": 57, "read": 63, "write": 64, "ppoll": 73, "capset": 91,
        "exit_group": 94, "unshare": 97, "kill": 129, "setresuid": 147, "setresgid": 149, "setsid": 157, "umask": 166,
        "prctl": 167, "recvmsg": 212, "execve": 221, "prlimit64": 261,
    },
}  # fmt: skip
#: What is reported when everything else has been done, just before the program.
BEGUN: Final = (0, 0)
#: What is reported when it stands at the barrier, with READ_BACK_BYTES behind it; then it waits for one byte.
AT_BARRIER: Final = (1, 0)
#: What is reported when it has become nothing.
GAVE_UP: Final = (2, 0)
_STATUS_BYTES, _MAP_BYTES = 4096, 128
_LIMITS: Final = {
    "cpu": resource.RLIMIT_CPU, "fsize": resource.RLIMIT_FSIZE, "core": resource.RLIMIT_CORE,
    "nproc": resource.RLIMIT_NPROC, "nofile": resource.RLIMIT_NOFILE, "memlock": resource.RLIMIT_MEMLOCK,
    "as": resource.RLIMIT_AS,
}  # fmt: skip
_LIMIT: Final = struct.Struct("<QQ")
READ_BACK_BYTES: Final = _STATUS_BYTES + _MAP_BYTES + _LIMIT.size * len(_LIMITS)
_AT_FDCWD: Final = -100
_CLONE_NEWUSER: Final = 0x10000000
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS, _FILTER_MODE = 22, 24, 38, 39, 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES: Final = 64
_INSTRUCTION_BYTES: Final = 8
_NEXT_FD: Final = REPORT_FD + 1
_UNLIMITED: Final = (1 << 64) - 1
_UNSETTABLE: Final = frozenset({resource.RLIMIT_MSGQUEUE})
"""Limits that gVisor refuses to set; it has no queues that they would bound."""
_NOT_FOUND: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class _Pointer:
    offset: int


_Value = int | _Pointer


class Steps:
    """Collects steps, and what they point to, for one stepper."""

    def __init__(self, machine: str = "") -> None:
        self._numbers = _NUMBERS[machine or platform.machine()]
        self._steps: list[tuple[int, int, Sequence[_Value], int, str]] = []
        self._data = bytearray()
        self._points: list[tuple[int, _Pointer]] = []

    def call(self, name: str, *arguments: _Value, wanted: int = 0, mode: int = STOP, told: str = "") -> None:
        """Add a system call; `told` is what people read of it where it is answered otherwise than `wanted`."""
        self._steps.append((self._numbers[name], mode, arguments, wanted, told or name))

    def data(self, content: bytes) -> _Pointer:
        at = len(self._data)
        self._data += content + bytes(-len(content) % 8)
        return _Pointer(at)

    def text(self, text: str) -> _Pointer:
        return self.data(os_bytes(text) + b"\0")

    def pointers(self, found: Iterable[_Pointer]) -> _Pointer:
        """Lay down an array of pointers with a null behind it."""
        held = list(found)
        at = self.data(bytes(8 * (len(held) + 1)))
        self._points += [(at.offset + 8 * number, one) for number, one in enumerate(held)]
        return at

    def filter(self, program: bytes) -> _Pointer:
        """Lay down a struct sock_fprog."""
        at = self.data(struct.pack("<HxxxxxxQ", len(program) // _INSTRUCTION_BYTES, 0))
        self._points.append((at.offset + 8, self.data(program)))
        return at

    def message(self, *, descriptors: int) -> _Pointer:
        """Lay down a struct msghdr for one byte with that many descriptors beside it."""
        control = bytes(16 + (4 * descriptors + 7) // 8 * 8)
        parts = self.data(bytes(1)), self.data(struct.pack("<QQ", 0, 1)), self.data(control)
        self._points.append((parts[1].offset, parts[0]))
        at = self.data(struct.pack("<QQQQQQQ", 0, 0, 0, 1, 0, len(control), 0))
        self._points += [(at.offset + 16, parts[1]), (at.offset + 32, parts[2])]
        return at

    def write_file(self, path: str, content: bytes, *, mode: int = STOP) -> None:
        flags = os.O_WRONLY | os.O_CLOEXEC
        self.call("openat", _AT_FDCWD, self.text(path), flags, 0, wanted=_NEXT_FD, mode=mode, told=path)
        self.call("write", _NEXT_FD, self.data(content), len(content), wanted=len(content), mode=mode, told=path)
        self.call("close", _NEXT_FD, mode=mode)

    def encoded(self) -> bytes:
        """Give what is sent to the stepper."""
        base = ADDRESS + STEP_BYTES * len(self._steps)

        def value(given: _Value) -> int:
            return base + given.offset if isinstance(given, _Pointer) else given & (1 << 64) - 1

        body = bytearray()
        for number, mode, arguments, wanted, _ in self._steps:
            padded = (*map(value, arguments), 0, 0, 0, 0, 0, 0)[:6]
            body += struct.pack("<II6Qq", number, mode, *padded, wanted)
        data = bytearray(self._data)
        for at, target in self._points:
            struct.pack_into("<Q", data, at, value(target))
        body += data
        return struct.pack("<Q", len(body)) + body

    def told(self, address: int) -> str:
        """Name the step at that address."""
        number = (address - ADDRESS) // STEP_BYTES
        return self._steps[number][4] if 0 <= number < len(self._steps) else "an unknown step"


Bounds = Sequence[tuple[int, int]]
"""Limits of a process: kind and value."""


def steps_of(spec: Spec, *, uid: int, rlimits: Bounds, files: Bounds) -> Steps:
    """List the way in of a spec's program, by the uid that owns its files; the parameters are those of a launch."""
    environment = {"PWD": spec.workdir, **environment_of(spec)}
    steps = _way_in(spec.workdir, uid=uid, rlimits=rlimits, files=files, streams=2)
    if spec.keep:
        steps.call("ppoll", 0, 0, 0, 0, mode=IGNORE)  # until somebody ends it
        steps.call("exit_group", 0)
    else:
        _become(steps, spec.command, environment)
    return steps


def steps_of_exec(spec: Spec, wanted: ExecSpec, *, uid: int, rlimits: Bounds, files: Bounds) -> Steps:
    """List the way in of one more program, which takes its input too."""
    workdir = wanted.workdir or spec.workdir
    steps = _way_in(workdir, uid=uid, rlimits=rlimits, files=files, streams=3)
    _become(steps, wanted.command, {"PWD": workdir, **environment_of(spec), **wanted.env})
    return steps


def steps_of_signal(group: int, number: int) -> Steps:
    """Send a signal to a process group, as whose files they are: nobody else's processes are met by it."""
    steps = Steps()
    steps.call("kill", -group, number, mode=IGNORE)
    steps.call("exit_group", 0)
    return steps


def _way_in(workdir: str, *, uid: int, rlimits: Bounds, files: Bounds, streams: int) -> Steps:
    steps = Steps()
    steps.call("dup3", 0, REPORT_FD, os.O_CLOEXEC, wanted=REPORT_FD)
    _take_streams(steps, streams)
    steps.call("setsid", mode=IGNORE)  # it may lead one already
    steps.call("umask", 0o022, mode=IGNORE)  # it answers with the old one
    _own_namespace(steps, uid)
    steps.call("setresgid", *[SANDBOX_UID] * 3)
    steps.call("setresuid", *[SANDBOX_UID] * 3)
    for kind, most in rlimits:
        _limit(steps, kind, most, mode=IGNORE if kind in _UNSETTABLE else STOP)
    _give_up_rights(steps)
    steps.call("chdir", steps.text(workdir), told=workdir)
    for kind, most in files:
        _limit(steps, kind, most)
    steps.call("prctl", _PR_SET_SECCOMP, _FILTER_MODE, steps.filter(build_filter()), told="seccomp")
    _read_back(steps)
    _report(steps, BEGUN)
    return steps


def _take_streams(steps: Steps, streams: int) -> None:
    """Take its output and errors from the socket, or its input too, past the runtime, whose words get into none."""
    steps.call("recvmsg", REPORT_FD, steps.message(descriptors=streams), 0, wanted=1, told="its streams")
    first = 3 - streams
    for number in range(first, 3):
        taken = _NEXT_FD + number - first
        steps.call("dup3", taken, number, 0, wanted=number)
        steps.call("close", taken)
    if first:
        steps.call("openat", _AT_FDCWD, steps.text("/dev/null"), os.O_RDWR | os.O_CLOEXEC, 0, wanted=_NEXT_FD)
        steps.call("dup3", _NEXT_FD, 0, 0)
        steps.call("close", _NEXT_FD)


def _own_namespace(steps: Steps, uid: int) -> None:
    """Take a user namespace with one uid in it, for which it needs no right."""
    steps.call("unshare", _CLONE_NEWUSER, told="unshare: user")
    steps.write_file("/proc/self/setgroups", b"deny", mode=IGNORE)  # gVisor has no such file, and asks for none
    for kind in ("uid_map", "gid_map"):
        steps.write_file(f"/proc/self/{kind}", f"{SANDBOX_UID} {uid} 1".encode())


def _give_up_rights(steps: Steps) -> None:
    for capability in range(_CAPABILITIES):
        steps.call("prctl", _PR_CAPBSET_DROP, capability, mode=IGNORE)  # EINVAL past the last
    nothing = steps.data(bytes(24))
    steps.call("capset", steps.data(struct.pack("<II", _CAPABILITY_VERSION_3, 0)), nothing)
    steps.call("prctl", _PR_SET_NO_NEW_PRIVS, 1)
    steps.call("prctl", _PR_GET_NO_NEW_PRIVS, wanted=1)


def _read_back(steps: Steps) -> None:
    """Ask the sandbox's kernel what this process has become, report it, and wait until that has been judged."""
    area = steps.data(bytes(READ_BACK_BYTES))
    places = (("status", area, _STATUS_BYTES), ("uid_map", _Pointer(area.offset + _STATUS_BYTES), _MAP_BYTES))
    for name, place, size in places:
        path = f"/proc/self/{name}"
        steps.call("openat", _AT_FDCWD, steps.text(path), os.O_RDONLY | os.O_CLOEXEC, 0, wanted=_NEXT_FD, told=path)
        steps.call("read", _NEXT_FD, place, size, mode=IGNORE)
        steps.call("close", _NEXT_FD)
    for number, kind in enumerate(_LIMITS.values()):
        at = _Pointer(area.offset + _STATUS_BYTES + _MAP_BYTES + number * _LIMIT.size)
        steps.call("prlimit64", 0, kind, 0, at, told=f"limit {kind}")
    _report(steps, AT_BARRIER)
    steps.call("write", REPORT_FD, area, READ_BACK_BYTES, wanted=READ_BACK_BYTES)
    steps.call("read", REPORT_FD, steps.data(bytes(1)), 1, wanted=1, told="the barrier")


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the sandbox's own kernel says of the process that becomes the program, under the names of procfs."""

    status: Mapping[str, str]
    uid_map: str
    rlimits: Mapping[str, str]

    @classmethod
    def parsed(cls, told: bytes) -> "ReadBack":
        text = told[:_STATUS_BYTES].rstrip(b"\0").decode(errors="replace")
        lines = (line.partition(":") for line in text.splitlines())
        mapped = told[_STATUS_BYTES : _STATUS_BYTES + _MAP_BYTES].rstrip(b"\0").decode(errors="replace")
        bounds = [soft for soft, _ in _LIMIT.iter_unpack(told[_STATUS_BYTES + _MAP_BYTES :])]
        return cls(
            status={name: value.strip() for name, _, value in lines},
            uid_map=" ".join(mapped.split()),
            rlimits={
                name: "unlimited" if soft == _UNLIMITED else str(soft)
                for name, soft in zip(_LIMITS, bounds, strict=True)
            },
        )


def _limit(steps: Steps, kind: int, most: int, *, mode: int = STOP) -> None:
    bound = steps.data(struct.pack("<QQ", most, most))
    steps.call("prlimit64", 0, kind, bound, 0, mode=mode, told=f"limit {kind}")


def _become(steps: Steps, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Try each place that PATH names, as execvp(3) does; what it is answered is told, and judged by `refusal_of`."""
    argv = steps.pointers(steps.text(word) for word in words)
    env = steps.pointers(steps.text(f"{name}={value}") for name, value in environment.items())
    places = [""] if "/" in words[0] else [f"{place}/" for place in environment.get("PATH", os.defpath).split(":")]
    for place in places:
        steps.call("execve", steps.text(f"{place}{words[0]}"), argv, env, mode=GO_ON)
    _report(steps, GAVE_UP)
    steps.call("exit_group", 127)


def _report(steps: Steps, mark: tuple[int, int]) -> None:
    steps.call("write", REPORT_FD, steps.data(REPORT.pack(*mark)), REPORT.size, wanted=REPORT.size)


def refusal_of(answers: Sequence[int]) -> int:
    """Give the errno of a program that no place had: the first that is no mere absence, else the last."""
    return next((answer for answer in answers if answer not in _NOT_FOUND), answers[-1])
