"""Who a program inside is, what it holds, and that it becomes nobody else."""

import ctypes
import os
import resource
import signal
import subprocess
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
    planned,
    read,
    refused,
    status,
)

SANDBOX_UID: Final = 1000
FIRST_OF_THE_POOL: Final = 200_000
_PR_GET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_SECUREBITS, _PR_SET_MM, _PR_CAP_AMBIENT = 2, 22, 28, 35, 47
_INHERITED: Final = ("Uid", "CapEff", "CapPrm", "Seccomp:", "NoNewPrivs")
_PR_GET_NO_NEW_PRIVS: Final = 39
_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")
LIMITS: Final = ("core", "nofile", "fsize", "cpu", "memlock", "msgqueue", "nproc", "as")
_KINDS: Final = {  # by name, for typeshed knows fewer than Linux has
    "core": 4, "nofile": 7, "fsize": 1, "cpu": 0, "memlock": 8, "msgqueue": 12, "nproc": 6, "as": 9,
}  # fmt: skip


def _masks_are_empty(name: str) -> Attempt:
    return lambda: (int(status()[name], 16) == 0, status()[name])


def _capset() -> None:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*([0xFFFFFFFF] * 6))
    libc("capset", header, data)


def _no_new_privs() -> int:
    return int(ctypes.CDLL(None).prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))


def _parent_death_signal() -> Verdict:
    number = ctypes.c_int()
    libc("prctl", _PR_GET_PDEATHSIG, ctypes.byref(number))
    return number.value == signal.SIGKILL, str(number.value)


def _setuid_programs_raise_nothing() -> Verdict:
    for program in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/sudo", "/usr/bin/newuidmap", "/bin/mount"):
        if os.path.exists(program) and not os.statvfs(program).f_flag & os.ST_NOSUID:
            return False, program
    return True, ""


def _a_program_started_inside_is_the_same() -> Verdict:
    said = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=False).stdout
    kept = [line for line in said.splitlines() if line.startswith(_INHERITED)]
    own = [line for line in read("/proc/self/status").splitlines() if line.startswith(_INHERITED)]
    return kept == own and len(kept) >= len(_INHERITED) - 1, " ".join(kept)  # gVisor does not show the last


def _limit(name: str) -> Attempt:
    def attempt() -> Verdict:
        soft, hard = resource.getrlimit(_KINDS[name])
        most = PLAN["rlimits"][name]
        return 0 <= soft <= most and 0 <= hard <= most, f"{soft} {hard}, at most {most}"

    return attempt


def _limit_stays(name: str) -> Attempt:
    def attempt() -> Verdict:
        _, hard = resource.getrlimit(_KINDS[name])
        answers = []
        for more in (hard + 1, resource.RLIM_INFINITY):
            try:
                resource.setrlimit(_KINDS[name], (hard, more))
            except (ValueError, OSError) as error:
                answers.append(type(error).__name__)
        return len(answers) == len((1, 2)), " ".join(answers) or "it worked"

    return attempt


def _signals_are_ordinary() -> Verdict:
    """See that no signal is held back, which could then not end it; CPython itself ignores two."""
    told = status()
    if "SigBlk" not in told:  # of gVisor; libc is asked, which keeps two to itself
        held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        deaf = {each for each in signal.valid_signals() if signal.getsignal(each) == signal.SIG_IGN}
        return not held and deaf <= {signal.SIGPIPE, signal.SIGXFSZ}, f"{held} {deaf}"
    blocked, ignored = int(told["SigBlk"], 16), int(told["SigIgn"], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        ignored &= ~(1 << number - 1)
    return blocked == ignored == 0, f"{blocked:x} {ignored:x}"


def _one_uid_is_mapped() -> Verdict:
    inside, outside, count = read("/proc/self/uid_map").split()
    of_the_pool = PLAN["builder"] != "bubblewrap" and int(outside) >= FIRST_OF_THE_POOL
    return (inside, count) == ("1000", "1") and (outside == "0" or of_the_pool), f"{inside} {outside} {count}"


def _own_session() -> Verdict:
    wanted = 1 if PLAN["builder"] == "bubblewrap" else os.getpid()
    return os.getsid(0) == wanted, f"{os.getsid(0)}"


def _descriptors() -> list[int]:
    return [number for number in range(256) if not outcome(lambda: os.fstat(number))]


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _message_queue() -> None:
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    if library.mq_open(b"/tenantry", os.O_CREAT | os.O_RDWR, 0o600, None) == -1:
        raise OSError(ctypes.get_errno(), "mq_open")


_PR: Final = (_PR_CAP_AMBIENT, 2, 21, 0, 0)
_NOBODY: Final = (0, 1, 65534, 200_000)

CASES: Final = (
    Case("identity", "uids", "all three are 1000", equal(os.getresuid, (SANDBOX_UID,) * 3)),
    Case("identity", "gids", "all three are 1000", equal(os.getresgid, (SANDBOX_UID,) * 3)),
    Case("identity", "no_groups", "no group but its own", lambda: (
        set(os.getgroups()) <= {SANDBOX_UID, 65534}, str(os.getgroups()))),
    Case("identity", "one_uid_is_mapped", "uid 1000, alone, of an intermediate namespace or one of the pool",
         _one_uid_is_mapped),
    Case("identity", "one_gid_is_mapped", "gid 1000, alone", lambda: (
        read("/proc/self/gid_map").split()[::2] == ["1000", "1"], read("/proc/self/gid_map").strip())),
    Case("identity", "setgroups_denied", "the kernel says deny", equal(
        lambda: read("/proc/self/setgroups").strip(), "deny")),
    *(Case("identity", f"{name.lower()}_empty", "no capability in the set", _masks_are_empty(name))
      for name in _CAPABILITIES),
    Case("identity", "no_new_privs", "on", equal(_no_new_privs, 1)),
    Case("identity", "seccomp", "a filter is on", equal(lambda: status()["Seccomp"], "2")),
    Case("identity", "not_traced", "by nobody", equal(lambda: status()["TracerPid"], "0")),
    *(Case("identity", f"become_{uid}", "refused", refused(
        partial(os.setuid, uid), partial(os.setresuid, uid, uid, uid), partial(os.setreuid, -1, uid),
        partial(os.setgid, uid), partial(os.setresgid, uid, uid, uid))) for uid in _NOBODY),
    Case("identity", "join_groups", "refused", refused(lambda: os.setgroups([0]), lambda: os.setgroups([]))),
    Case("identity", "take_capabilities", "refused", refused(_capset)),
    Case("identity", "raise_ambient", "refused", refused(lambda: libc("prctl", *_PR))),
    Case("identity", "securebits", "refused", refused(lambda: libc("prctl", _PR_SET_SECUREBITS, 1, 0, 0, 0))),
    Case("identity", "own_memory_map", "refused", refused(lambda: libc("prctl", _PR_SET_MM, 1, 4096, 0, 0))),
    Case("identity", "strict_mode_over_the_filter", "refused", refused(lambda: libc("prctl", _PR_SET_SECCOMP, 1))),
    *(Case("identity", f"write_{name}", "refused", refused(partial(_write, f"/proc/self/{name}", b"0 0 1\n")))
      for name in ("uid_map", "gid_map", "setgroups")),
    Case("identity", "setuid_programs", "raise nothing: their mounts are nosuid", _setuid_programs_raise_nothing),
    Case("identity", "children_are_the_same", "uid, capabilities, filter as its own",
         _a_program_started_inside_is_the_same),
    Case("identity", "dies_with_its_parent", "SIGKILL when the chain above it dies", _parent_death_signal),
    Case("identity", "session_of_its_own", "led by who started it inside, or by itself", _own_session),
    Case("identity", "no_terminal", "nothing to type into", refused(opening("/dev/tty", os.O_RDWR))),
    Case("identity", "three_descriptors", "0, 1 and 2 are all it holds", equal(_descriptors, [0, 1, 2])),
    Case("identity", "nothing_to_read", "its input is at its end", equal(lambda: os.read(0, 1), b"")),
    Case("identity", "working_directory", "/workspace", equal(os.getcwd, "/workspace")),
    Case("identity", "umask", "022", equal(lambda: os.umask(0o022), 0o022)),
    Case("identity", "signals_are_ordinary", "none blocked or ignored from the start", _signals_are_ordinary),
    Case("identity", "environment", "exactly what was given, and PWD", planned(
        lambda: {name: value for name, value in os.environ.items() if name != "PWD"}, "environment")),
    *(Case("limits", name, "bounded, soft and hard", _limit(name), frozenset({"rlimits"} if name == "as" else ()))
      for name in LIMITS),
    *(Case("limits", f"{name}_stays", "not to be raised", _limit_stays(name),
           frozenset({"rlimits"} if name == "as" else ())) for name in LIMITS),
    Case("limits", "nicer", "refused", refused(lambda: os.nice(-1), lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))),
    Case("limits", "realtime", "refused", refused(
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)))),
    Case("limits", "message_queues", "refused", refused(_message_queue)),
)  # fmt: skip
