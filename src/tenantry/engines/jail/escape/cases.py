"""What a case is, and short words for trying things. The standard library alone: this runs inside sandboxes too."""

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
Verdict = tuple[bool, str]
Attempt = Callable[[], Verdict]
#: What the supervisor tells the program inside: see selftest.py.
PLAN: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that must not be possible, or must be bounded.

    `expected` is what must come of it, for people. `needs` are what must be there for it to be tried: `root`, `cgroup`,
    or a machine as uname says. One without `attempt` is judged on the host.
    """

    group: str
    name: str
    expected: str
    attempt: Attempt | None = None
    needs: frozenset[str] = frozenset()

    @property
    def code(self) -> str:
        return f"{self.group}.{self.name}"


def outcome(call: Callable[[], object]) -> str:
    """Name of the OSError a call ends in, empty when it worked."""
    try:
        call()
    except OSError as error:
        return name_of(error.errno) if error.errno else type(error).__name__
    return ""


def name_of(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "it worked"


def refused(*calls: Callable[[], object]) -> Attempt:
    """Attempt every call; each must end in an OSError."""

    def attempt() -> Verdict:
        answers = [outcome(call) for call in calls]
        return all(answers), " ".join(answer or "it worked" for answer in answers)

    return attempt


def equal(look: Callable[[], object], wanted: object) -> Attempt:
    """Look, and expect exactly this."""

    def attempt() -> Verdict:
        found = look()
        return found == wanted, repr(found)

    return attempt


def planned(look: Callable[[], object], *keys: str) -> Attempt:
    """Look, and expect exactly what the plan says under these keys."""

    def attempt() -> Verdict:
        wanted: Any = PLAN
        for key in keys:
            wanted = wanted[key]
        found = look()
        return found == wanted, f"{found!r}, not {wanted!r}" if found != wanted else repr(found)

    return attempt


def raw(number: int, *arguments: int) -> int:
    """Errno of a raw system call, 0 when it worked; a process it made ends at once."""
    own = os.getpid()
    ctypes.set_errno(0)
    padded = [ctypes.c_long(argument) for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    answer = _LIBC.syscall(ctypes.c_long(number), *padded)
    number = ctypes.get_errno()
    if os.getpid() != own:
        os._exit(0)
    return number if answer == -1 else 0


def libc(function: str, *arguments: object) -> None:
    """Call a function of libc that answers -1 for failure; raises OSError."""
    ctypes.set_errno(0)
    if getattr(_LIBC, function)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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


def opening(path: str, flags: int) -> Callable[[], None]:
    return lambda: os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))


def status(pid: int | str = "self") -> dict[str, str]:
    """Read the fields of /proc/<pid>/status."""
    with open(f"/proc/{pid}/status") as source:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in source)}


def read(path: str, most: int = 1 << 16) -> str:
    with open(path, "rb") as source:
        return source.read(most).decode(errors="replace")
