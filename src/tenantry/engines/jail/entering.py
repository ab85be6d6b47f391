"""How a fork of the launcher enters a living sandbox and becomes a program there; part of that program (launcher.py).

The order is the point. It is made unreadable to others before it joins anything, so that nobody inside looks at its
memory or descriptors between the joining and the exec (CVE-2016-9962); it closes all but what it needs, so no
directory of the host is held (CVE-2024-21626); namespaces are opened, and compared by their inodes with those the
sandbox is known by, before any is entered; whoever enters them holds no right outside: first it is the sandbox's uid,
without capabilities, and what it then has it has by owning the sandbox's user namespace. The one that is in the process
namespace is the launcher's own child (CLONE_PARENT), without capabilities from its first instruction on.

It needs the standard library alone, and nothing here returns into the launcher's loop by itself.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from tenantry.engines.jail import forks
else:
    import forks  # the launcher has put it where Python looks first

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
_CLONE_PARENT = 0x8000
_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine, -1)
_CLONE_NEWUSER = 0x10000000
_NS_GET_USERNS = 0xB701
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
#: In the order in which they are entered, `user` after all of them; mnt is the last that is found by a path outside.
_KINDS: Final = {
    "ipc": 0x08000000, "uts": 0x04000000, "net": 0x40000000, "cgroup": 0x02000000, "pid": 0x20000000, "mnt": 0x00020000,
}  # fmt: skip
_SECONDS = 10
_KEEPER = b"/run/keeper"
_SANDBOX_UID = 1000
_FILTER_INSTRUCTION_BYTES = 8
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_LEFT = 0


class _NoProgramError(Exception):
    """What a shell would say of the command, and its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def enter(message: dict[str, Any], descriptors: list[int], seccomp: bytes) -> None:
    """Enter, and become the program; returns only when it failed, after it has said so on the channel.

    `descriptors` are channel, door, payload, a handle of process 1, input, output, errors. What is said on the channel
    is believed, so it ends with this program; the door is what its successor (keeper.py) holds, into which everybody
    inside can look.
    """
    channel, door, payload, init, *streams = descriptors
    try:
        _shut(descriptors)
        with os.fdopen(payload, "rb") as source:
            wanted = json.load(source)
        _go_in(message, wanted, init)
        pid = forks.checked_call(_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
        if pid:
            _say(channel, pid=pid)
            os._exit(_LEFT)
        _stand_at_the_door(channel, door, wanted, streams, seccomp)
    except _NoProgramError as error:
        _say(channel, error=str(error), exit_code=error.code)
    except BaseException as error:  # noqa: BLE001 - a fork must never return into the loop
        _say(channel, error=repr(error))


def _shut(descriptors: list[int]) -> None:
    """Be of no use to anybody who gets hold of this process."""
    signal.alarm(_SECONDS)
    signal.set_wakeup_fd(-1)
    _be_unreadable()
    sys.meta_path.clear()  # from here on a module would be one of the image's
    forks.close_all_but(*descriptors)


def _go_in(message: dict[str, Any], wanted: dict[str, Any], init: int) -> None:
    places = _opened(wanted["pid"], init, wanted["namespaces"])
    forks.join(message["join"])
    if wanted["in_container"]:
        _join_container(places, wanted["pid"])
    else:
        if message["uid"] is not None:
            forks.drop_to(message["uid"])
        _join_namespaces(places)
    _drop_capabilities()
    _be_unreadable()  # whoever changes its identity is made readable or not as the machine is set


def _say(channel: int, **answer: object) -> None:
    os.write(channel, json.dumps(answer).encode())


def _be_unreadable() -> None:
    forks.checked(forks.LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def _opened(pid: int, init: int, namespaces: dict[str, int]) -> dict[str, int]:
    """Open the namespaces of process 1, which must be alive and in the very ones that are named."""
    opened = {}
    for kind in (*_KINDS, "user"):
        opened[kind] = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(opened[kind]).st_ino != namespaces[kind]:
            raise ProcessLookupError(3, f"process {pid} is in another {kind} namespace than its sandbox")
    alive = select.poll()
    alive.register(init, select.POLLIN)
    if alive.poll(0):
        raise ProcessLookupError(3, "the sandbox is dead")
    os.close(init)
    return opened


def _join_namespaces(places: dict[str, int]) -> None:
    """Enter the user namespace that owns the others, which is ours by our uid, then those, then the innermost one."""
    owner = fcntl.ioctl(places["net"], _NS_GET_USERNS)
    forks.checked(forks.LIBC.setns(owner, _CLONE_NEWUSER), "setns: owner")
    _be_unreadable()
    for kind, flag in _KINDS.items():
        forks.checked(forks.LIBC.setns(places[kind], flag), f"setns: {kind}")
    if os.fstat(owner).st_ino != os.fstat(places["user"]).st_ino:
        forks.checked(forks.LIBC.setns(places["user"], _CLONE_NEWUSER), "setns: user")
    for descriptor in (owner, *places.values()):
        os.close(descriptor)


def _join_container(places: dict[str, int], pid: int) -> None:
    """Enter namespaces that an engine has made, which root alone may; the user namespace of the program takes it all.

    Its one uid is the sandbox's. Nobody inside sees this fork: it is in no process namespace of theirs.
    """
    forks.take_label(pid)
    os.setgroups([])  # the user namespace allows it no more
    for kind, flag in _KINDS.items():
        forks.checked(forks.LIBC.setns(places[kind], flag), f"setns: {kind}")
    forks.checked(forks.LIBC.setns(places["user"], _CLONE_NEWUSER), "setns: user")
    for descriptor in places.values():
        os.close(descriptor)
    os.setresgid(*[_SANDBOX_UID] * 3)
    os.setresuid(*[_SANDBOX_UID] * 3)


def _drop_capabilities() -> None:
    """Give up all five sets: entering a user namespace gave every capability in it, the bounding set full."""
    for capability in range(_LAST_CAPABILITY + 1):  # EINVAL past the last
        forks.LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    forks.checked(forks.LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    forks.checked(forks.LIBC.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()))
    forks.checked(forks.LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _stand_at_the_door(channel: int, door: int, wanted: dict[str, Any], streams: list[int], seccomp: bytes) -> NoReturn:
    """Be what the program will be, and stand at the door (keeper.py), which waits to be let in."""
    os.setsid()
    forks.checked(forks.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if wanted["terminal"]:
        streams = [_terminal(channel, *wanted["terminal"])] * 3
    _go_to(wanted["workdir"])
    environment = {os.fsencode(name): os.fsencode(value) for name, value in wanted["env"].items()}
    command = [os.fsencode(word) for word in wanted["command"]]
    words = [b"keeper", _found(command[0], environment.get(b"PATH", b"")), *command]
    forks.arrange([*streams, door])
    forks.limit(wanted["rlimits"])
    forks.reset_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _filter(seccomp)
    os.execve(_KEEPER, words, environment)


def _terminal(channel: int, rows: int, columns: int) -> int:
    """Make a terminal of the sandbox's own, ours to be controlled by; its other end goes to the supervisor."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    terminal = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    with socket.socket(fileno=os.dup(channel)) as way:
        socket.send_fds(way, [json.dumps({"terminal": True}).encode()], [master])
    os.close(master)
    return terminal


def _go_to(workdir: str) -> None:
    """Go there by its path inside, and see that it is a place inside (CVE-2024-21626)."""
    try:
        os.chdir(workdir)
        here = os.getcwd()
    except OSError as error:
        raise _NoProgramError(_NOT_EXECUTABLE, f"cannot start in {workdir}: {error.strerror}") from None
    if not here.startswith("/"):
        raise _NoProgramError(_NOT_EXECUTABLE, f"cannot start in {workdir}: it is outside")


def _found(name: bytes, path: bytes) -> bytes:
    """Find a program as execvp(3) does: a name with a slash is its own place."""
    seen = False
    for directory in [b""] if b"/" in name else path.split(b":"):
        place = name if b"/" in name else (directory or b".") + b"/" + name
        with contextlib.suppress(OSError):
            seen = seen or stat.S_ISREG(os.stat(place).st_mode)
            if stat.S_ISREG(os.stat(place).st_mode) and os.access(place, os.X_OK):
                return place
    told = "command cannot be executed" if seen else "command not found"
    raise _NoProgramError(_NOT_EXECUTABLE if seen else _NOT_FOUND, f"{told}: {os.fsdecode(name)}")


def _filter(code: bytes) -> None:
    """Put the filter on: struct sock_fprog is a number of instructions and where they lie."""
    held = ctypes.create_string_buffer(code, len(code))
    length = len(code) // _FILTER_INSTRUCTION_BYTES
    program = ctypes.create_string_buffer(struct.pack("@HP", length, ctypes.addressof(held)))
    forks.checked(forks.LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0))


@dataclass
class _Guest:
    token: int
    sandbox_id: str
    admitted: bool


class Guests:
    """The launcher's own list of who was put into which sandbox: forks on their way in, and programs."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._by_pid: dict[int, _Guest] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._by_pid))

    def entering(self, pid: int, message: dict[str, Any]) -> None:
        self._by_pid[pid] = _Guest(message["token"], message["id"], admitted=False)

    def admit(self, message: dict[str, Any]) -> None:
        """Take a child for the program of that token; one that has ended by now was never let in."""
        try:
            os.waitid(os.P_PID, message["pid"], os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            self._tell(left=message["token"], status=-1)
            return
        self._by_pid[message["pid"]] = _Guest(message["token"], message["id"], admitted=True)
        self._tell(admitted=message["token"])

    def strike(self, message: dict[str, Any]) -> None:
        """Send a signal to the process group of a program, which is not reaped yet, so its number is its own."""
        for pid, guest in self._by_pid.items():
            if guest.token == message["token"] and guest.admitted:
                _signal_group(pid, message["number"])

    def end(self, sandbox_id: str) -> None:
        for pid, guest in self._by_pid.items():
            if guest.sandbox_id == sandbox_id:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def any_in(self, sandbox_id: str) -> bool:
        return any(guest.sandbox_id == sandbox_id for guest in self._by_pid.values())

    def ends(self, pid: int) -> None:
        """Take along the process group of a program that has ended and is not reaped yet."""
        guest = self._by_pid.get(pid)
        if guest and guest.admitted:
            _signal_group(pid, signal.SIGKILL)

    def reaped(self, pid: int, status: int) -> str:
        """Tell of an end; returns the sandbox it was in, empty for a process that is no guest."""
        guest = self._by_pid.pop(pid, None)
        if guest is None:
            return ""
        if guest.admitted:
            self._tell(left=guest.token, status=status)
        return guest.sandbox_id


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
