"""How a fork of the launcher enters a room that a container engine has made; part of that program (launcher.py).

The room is a container whose process 1, the keeper, does nothing. A monitor stays outside and tells the end; its child
joins the container's cgroups and namespaces, makes of its mounts what bubblewrap would make, takes a user namespace of
its own and waits at the barrier; then it becomes the program, under our own filter. No code of the image runs before.
It needs the standard library alone.
"""

import base64
import ctypes
import fcntl
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tenantry.engines.jail import forks
else:  # the launcher has loaded it by its place
    import forks

_CLONE_NEWNS, _CLONE_NEWCGROUP, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_ROOM = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWNET
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 22, 2
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096
_MS_REC, _MS_PRIVATE, _MNT_DETACH = 16384, 1 << 18, 2
_CLOSED = _MS_RDONLY | _MS_NOSUID | _MS_NODEV
_INSTRUCTION_BYTES = 8
_SANDBOX_UID = 1000
_HIGH_FD = 100
_SWEEP_SECONDS = 20
_NOT_STARTED = 125
#: What an engine mounts or lays into every container, and a sandbox has no use for.
_EXTRA_MOUNTS = ("/sys", "/dev/mqueue", "/dev/shm", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/etc/passwd",
                 "/etc/group", "/run/.containerenv", "/run/secrets", "/run", "/tmp", "/var/tmp")  # fmt: skip
_EXTRA_FILES = ("/.dockerenv", "/etc/hostname", "/etc/mtab")


def enter(message: dict[str, Any], descriptors: list[int], *, null: int, seccomp: bytes) -> NoReturn:
    """Be the monitor: put a child into the room, map its user, tell how it ends."""
    command, plan, status, barrier, opener, out, err, keeper = descriptors
    os.close(opener)
    child = 0
    try:
        asked, asking = os.pipe()
        told, telling = os.pipe()
        held = (null, command, plan, status, barrier, out, err, keeper, asked, asking, told, telling)
        parent = os.getppid()
        signal.set_wakeup_fd(-1)
        forks.close_all_but(*held)
        _die_with(parent)
        forks.reset_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.chdir("/")
        forks.checked(forks.LIBC.setns(keeper, _CLONE_NEWPID), "setns: pid")
        child = os.fork()
        if child == 0:
            os.close(asked)
            os.close(telling)
            _Entrant(message, null=null, out=out, err=err, status=status, barrier=barrier).live(
                command, plan, keeper=keeper, seccomp=seccomp, asking=asking, told=told
            )
        forks.close_all_but(status, asked, telling)
        _watch(child, message["uid"], parent=parent, status=status, asked=asked, telling=telling)
    except BaseException as error:  # noqa: BLE001 - a fork must never return into the loop
        if child:
            os.kill(child, signal.SIGKILL)
        _tell(status, **{"launch-error": repr(error), "errno": getattr(error, "errno", None) or 0})
    os._exit(_NOT_STARTED)


def sweep(keeper: int) -> NoReturn:
    """Kill all in the room but its keeper, until nothing is left; ends with 1 when the room itself is gone."""
    try:
        signal.set_wakeup_fd(-1)
        signal.alarm(_SWEEP_SECONDS)
        forks.close_all_but(keeper)
        forks.checked(forks.LIBC.setns(keeper, _CLONE_NEWPID), "setns: pid")
        child = os.fork()
        if child == 0:
            signal.alarm(_SWEEP_SECONDS)
            _kill_all_here()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) and 1)
    except BaseException:  # noqa: BLE001 - a fork must never return into the loop
        os._exit(1)


def _kill_all_here() -> NoReturn:
    """Kill every process this one can name but process 1, of a namespace that is not our parent's."""
    pause = 0.0005
    try:
        while os.getppid() == 0:  # a parent that has a number here would be one of those we kill
            os.kill(-1, signal.SIGKILL)
            time.sleep(pause)
            pause = min(pause * 2, 0.02)
    except ProcessLookupError:
        os._exit(0)
    finally:
        os._exit(1)


def _die_with(parent: int) -> None:
    """Be killed when that one dies, who may have died already; the kernel forgets it when the uid changes."""
    forks.checked(forks.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(_NOT_STARTED)


def _watch(child: int, uid: int, *, parent: int, status: int, asked: int, telling: int) -> NoReturn:
    request = os.read(asked, 4096)
    if request:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{_SANDBOX_UID} {uid} 1"),
                           ("gid_map", f"{_SANDBOX_UID} {uid} 1")):  # fmt: skip
            _write(f"/proc/{child}/{name}", text)
        namespaces = {f"{kind}-namespace": os.stat(f"/proc/{child}/ns/{kind}").st_ino for kind in ("pid", "net")}
        _tell(status, **{"child-pid": child, "folders": json.loads(request), **namespaces})
        forks.drop_to(uid)
        _die_with(parent)
        os.write(telling, b".")
    os.close(telling)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # stopped after this, we have not reaped it
    _, ended = os.waitpid(child, 0)
    said = b""
    while piece := os.read(asked, 64):
        said += piece
    if said == b"x":  # it came to its program
        code = os.waitstatus_to_exitcode(ended)
        _tell(status, **{"exit-code": code if code >= 0 else 128 - code})
    os._exit(0)


class _Entrant:
    def __init__(self, message: dict[str, Any], *, null: int, out: int, err: int, status: int, barrier: int) -> None:
        self._message = message
        self._null, self._out, self._err, self._status, self._barrier = null, out, err, status, barrier

    def live(self, command: int, plan: int, *, keeper: int, seccomp: bytes, asking: int, told: int) -> NoReturn:
        try:
            with os.fdopen(command, "rb") as source:
                words = [os.fsencode(word) for word in json.load(source)]
            with os.fdopen(plan, "rb") as source:
                wanted = json.load(source)
            self._enter(wanted, keeper=keeper, asking=asking, told=told)
            os.chdir(wanted["workdir"])
            environment = {os.fsencode(name): os.fsencode(value) for name, value in wanted["env"].items()}
            forks.arrange([self._null, self._out, self._err])
            forks.limit(self._message["files"])  # not before: it may be lower than the descriptors that are held
            while os.read(self._barrier, 4096):
                pass  # the supervisor furnishes the room, and closes the pipe when the program may run
            _filter(seccomp)
            os.write(asking, b"x")
            try:
                os.execvpe(words[0], words, environment)
            except OSError as error:
                os.write(asking, b"!")
                _tell(self._status, **{"exec-errno": error.errno})
        except BaseException as error:  # noqa: BLE001 - a fork must never return into the loop
            _tell(self._status, **{"launch-error": str(error) or repr(error), "errno": getattr(error, "errno", 0) or 0})
        os._exit(_NOT_STARTED)

    def _enter(self, wanted: dict[str, Any], *, keeper: int, asking: int, told: int) -> None:
        """Become one of the room, in the order in which rights are lost."""
        _die_with(os.getppid())
        forks.join(self._message["join"])
        forks.checked(forks.LIBC.unshare(_CLONE_NEWCGROUP), "unshare: cgroup")  # not every engine makes one
        forks.take_label(self._message["keeper"])
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sys.meta_path.clear()  # from here on the image's files lie where Python would look for modules
        outside = os.stat("self/ns/mnt", dir_fd=proc).st_ino
        forks.checked(forks.LIBC.setns(keeper, _ROOM), "setns: room")
        if os.stat("self/ns/mnt", dir_fd=proc).st_ino == outside:
            raise PermissionError(1, "these are the mounts of the host")
        folders = _furnish(wanted, uid=self._message["uid"])
        forks.limit(self._message["rlimits"])
        os.setgroups([])
        os.setsid()
        forks.checked(forks.LIBC.unshare(_CLONE_NEWUSER), "unshare: user")
        _allow_no_more(proc)
        os.write(asking, json.dumps(folders).encode())
        if not os.read(told, 1):
            os._exit(_NOT_STARTED)
        os.setresgid(*[_SANDBOX_UID] * 3)
        os.setresuid(*[_SANDBOX_UID] * 3)
        forks.give_up_gains()
        forks.drop_capabilities()
        _die_with(0)  # the monitor has no number in here
        os.umask(0o022)


def _allow_no_more(proc: int) -> None:
    """Bound the user namespaces below ours to none; by the host's /proc, since the room's is read-only there."""
    descriptor = os.open("sys/user/max_user_namespaces", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)
        os.close(proc)


def _furnish(wanted: dict[str, Any], *, uid: int) -> dict[str, int]:
    """Make the room's mounts those of a sandbox; returns a descriptor for each folder that is read-only inside.

    Nothing of the image runs yet, and its mount points are directories by its import (skeleton.py).
    """
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    for place in _EXTRA_MOUNTS:
        _detach(place)
    _mount("none", "/", "", _MS_REMOUNT | _MS_BIND)
    for place in _EXTRA_FILES:
        with suppress(OSError):
            os.unlink(place)
    with suppress(OSError):
        os.rmdir("/dev/mqueue")
    devices = [f"/dev/{name}" for name in os.listdir("/dev") if stat.S_ISCHR(os.lstat(f"/dev/{name}").st_mode)]
    for place in devices:
        _mount(place, place, "", _MS_BIND)
        _mount("none", place, "", _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NOEXEC)
    for place in _mounted():
        if place not in (*devices, "/dev/pts", "/proc") and not place.startswith("/proc/"):
            _mount("none", place, "", _MS_REMOUNT | _MS_BIND | _CLOSED)
    folders: dict[str, int] = {}
    for place, size, mode, closed in wanted["rooms"]:
        _make_room(place, f"size={size},mode={mode:o},uid={uid},gid={uid}")
        if place == "/workspace":
            os.mkdir("/workspace/outputs", 0o755)
            os.chown("/workspace/outputs", uid, uid)
        if closed:
            held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            folders[place] = fcntl.fcntl(held, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
            os.close(held)
            _mount(place, place, "", _MS_BIND)  # what the program sees; the supervisor writes below it
            _mount("none", place, "", _MS_REMOUNT | _MS_BIND | _CLOSED)
    for place, content, mode in wanted["shown"]:
        _show(place, base64.b64decode(content), mode)
    return folders


def _make_room(place: str, options: str) -> None:
    if place.startswith("/run/"):
        os.mkdir(place, 0o700)
    _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def _show(place: str, content: bytes, mode: int) -> None:
    """Lay a file over that place, which has no name to be written to by."""
    made = "/run/shown"
    with open(made, "xb") as target:
        target.write(content)
    os.chmod(made, mode)
    if place.startswith("/run/"):
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    _mount(made, place, "", _MS_BIND)
    _mount("none", place, "", _MS_REMOUNT | _MS_BIND | _CLOSED)
    os.unlink(made)


def _mounted() -> Iterator[str]:
    with open("/proc/self/mountinfo", "rb") as source:
        lines = source.read().splitlines()
    for line in lines:
        first, *escaped = line.split()[4].split(b"\\")  # a blank is \040, a backslash \134
        yield os.fsdecode(first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in escaped))


def _detach(place: str) -> None:
    """Take away whatever is mounted there, however often."""
    with suppress(OSError):
        for _ in range(8):
            forks.checked(forks.LIBC.umount2(place.encode(), _MNT_DETACH), place)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    made = forks.LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    forks.checked(made, target)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _filter(program: bytes) -> None:
    wanted = _Filter(len(program) // _INSTRUCTION_BYTES, program)
    forks.checked(forks.LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0), "seccomp")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _tell(status: int, **line: object) -> None:
    os.write(status, json.dumps(line).encode() + b"\n")
