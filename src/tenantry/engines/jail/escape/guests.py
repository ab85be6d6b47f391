"""What must hold for a program that was put into a living sandbox as it does for one that a sandbox began with.

Every case of who a program is and what it sees and may do is tried again by one that came in later; some look
otherwise from there.
"""

import os
import signal
import sys
from typing import Final

from tenantry.engines.jail.escape import identity, network, rooms, surface, surroundings
from tenantry.engines.jail.escape.cases import Attempt, Case, Verdict, equal, libc, opening, outcome, read, refused

_KEEPER: Final = "/run/keeper"


def _others() -> list[int]:
    return sorted({int(name) for name in os.listdir("/proc") if name.isdecimal()} - {1, os.getpid()})


def _keeper() -> int:
    """Tell the number of the keeper: it has been here from the first, and in a container it is none of ours."""
    return _others()[0]


def _known_processes() -> Verdict:
    """Process 1, the keeper and itself, whose parent is in no namespace it sees."""
    return len(_others()) <= 1 and os.getppid() == 0, f"1, {_others()}, {os.getpid()} below {os.getppid()}"


def _process_1_survives() -> Verdict:
    failed = outcome(lambda: os.kill(1, signal.SIGKILL))
    return os.path.exists("/proc/1") and len(_others()) == 1, failed or "ignored by process 1"


def _executables_are_inside() -> Verdict:
    """Compare what the keeper and this program run with what lies at their places here."""
    places = {f"/proc/{_keeper()}/exe": _KEEPER, "/proc/self/exe": sys.executable}
    wrong = [link for link, place in places.items() if not os.path.samestat(os.stat(link), os.stat(place))]
    return not wrong, " ".join(wrong)


def _keeper_mount() -> Verdict:
    lines = (line.split() for line in read("/proc/self/mountinfo").splitlines())
    options = {fields[4]: set(fields[5].split(",")) for fields in lines}.get(_KEEPER, set())
    return {"ro", "nosuid", "nodev"} <= options, " ".join(sorted(options))


def _write_by_the_keeper() -> None:
    os.close(os.open(f"/proc/{_keeper()}/exe", os.O_WRONLY))


def _replaced() -> None:
    os.rename(_KEEPER, f"{_KEEPER}.old")


_OTHERWISE: Final[dict[str, Attempt]] = {
    "namespaces.own_processes_only": _known_processes,
    "identity.session_of_its_own": lambda: (os.getsid(0) == os.getpid() == os.getpgrp(), str(os.getsid(0))),
    "signals.kill_process_1": _process_1_survives,
}
_EXPECTED: Final = {
    "namespaces.own_processes_only": "process 1, the keeper and itself",
    "identity.session_of_its_own": "led by itself",
}
_REPEATED: Final = (*identity.CASES, *rooms.CASES, *surroundings.CASES, *surface.CASES, *network.CASES)

CASES: Final = (
    *(Case("exec", case.code, _EXPECTED.get(case.code, case.expected), _OTHERWISE.get(case.code, case.attempt),
           case.needs) for case in _REPEATED if case.attempt is not None),
    Case("exec", "keeper_is_read_only", "the mount says so", _keeper_mount),
    Case("exec", "change_the_keeper", "refused", refused(
        opening(_KEEPER, os.O_WRONLY), _write_by_the_keeper, lambda: os.unlink(_KEEPER),
        lambda: os.chmod(_KEEPER, 0o700), _replaced, lambda: os.truncate(_KEEPER, 0))),
    Case("exec", "executables_are_inside", "those of the sandbox, the keeper's too", _executables_are_inside),
    Case("exec", "parent_is_out_of_reach", "0, which no call takes for it", equal(os.getppid, 0)),
    Case("exec", "memory_of_the_keeper", "refused: no tracing", refused(lambda: libc("ptrace", 16, _keeper(), 0, 0))),
)  # fmt: skip
