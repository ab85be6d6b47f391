"""The small process every sandbox is a child of; run as a program (`python -I -S launcher.py FD`), never imported.

Why it exists: bubblewrap's --die-with-parent follows the thread that started it, so that thread must live as long as
the sandboxes, which this single-threaded process is all about; forking it costs half a millisecond whatever the size
of the supervisor; and it may hold a mount namespace of its own, where directories below private ones are bound at a
place any uid can reach. It needs the standard library alone.

It speaks JSON over a SOCK_SEQPACKET socket, descriptors beside it:
    → {op: configure, seccomp, bwrap, libraries, private}    ← {configured: shelf} or {error, errno}
    → {op: expose, token, path}                              ← {exposed: token, path} or {exposed: token, errno}
    → {op: prepare, id, join}   forks a seat: it joins the cgroup, which may take 10 ms, and waits to be launched
    → {op: launch, id, uid, join, rlimits} and seven descriptors: command, args, status, barrier r, barrier w, out, err
      (and an eighth: with a network resolv.conf; with `keeper`, a pidfd of that process, whose container is entered)
    → {op: listen, token, pid, network, addresses}           ← {listening: token} and the sockets, or {…, errno, error}
    → {op: release, id, init}   stops bwrap's monitor, so that nobody reaps process 1, and lets the program start
    → {op: resume, id}          lets the monitor go on
    → {op: kill, id}
                                                             ← {ended: id, status, cpu_us, peak_kib, room_lost}
`ended` comes when the monitor and process 1 are both gone, which means every process of the sandbox is; in a container,
whose process 1 stays, all others have been killed then, or, `room_lost`, somebody has ended the container. When the
supervisor goes, by whatever death, this process goes, and with it every sandbox.
"""

import base64
import contextlib
import ctypes
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tenantry.engines.jail import containing, forks
else:  # by its place: this program has no packages, and must not take a module of this directory for one of Python's

    def _loaded(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    forks, containing = _loaded("forks"), _loaded("containing")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
_PLACES = ("/mnt", "/srv", "/media", "/tmp", "/opt")
_NOT_LAUNCHED = 125


@dataclass
class _Sandbox:
    monitor: int
    barrier: int
    init: int = 0
    status: int | None = None
    cpu: float = 0.0
    peak_kib: int = 0
    keeper: int = -1
    room_lost: bool = False


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    made = forks.LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    forks.checked(made, target)


class Launcher:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pid, self._parent = os.getpid(), os.getppid()
        self._sandboxes: dict[str, _Sandbox] = {}
        self._by_pid: dict[int, str] = {}
        self._seats: dict[str, tuple[int, socket.socket]] = {}
        self._listening: dict[int, int] = {}
        self._sweeping: dict[int, str] = {}
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._filter, self._bwrap = b"", ""
        self._environment: dict[str, str] = {}
        self._shelf, self._under, self._exposures = "", -1, 0

    def serve(self) -> None:
        """Answer until the supervisor is gone."""
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        parent = os.pidfd_open(self._parent)
        for source in (self._channel.fileno(), reader.fileno(), parent):
            poll.register(source, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if reader.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    reader.recv(4096)
                self._reap()
            if parent in ready or (self._channel.fileno() in ready and not self._receive()):
                break
        self._end_everything()

    def _end_everything(self) -> None:
        """Kill until no child is left: a sandbox whose monitor dies is ours next, since we are the subreaper.

        bwrap binds its child's life to its own only late in the setup, so its --die-with-parent is not enough; and no
        barrier may open by our end, so they are held until the last.
        """
        for sandbox in self._sandboxes.values():
            if sandbox.keeper >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(sandbox.keeper, signal.SIGKILL)
        while True:
            for pid in forks.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED)
            except ChildProcessError:
                return

    def _receive(self) -> bool:
        body, descriptors = forks.receive_with_descriptors(self._channel)
        if not body:
            return False
        message: dict[str, Any] = json.loads(body)
        operation = message["op"]
        if operation == "launch":
            self._launch(message, body, descriptors)
        elif operation == "prepare":
            self._prepare(message)
        elif operation == "listen":
            self._listen(message)
        elif operation == "configure":
            self._configure(message)
        elif operation == "expose":
            self._expose(message)
        else:
            self._steer(operation, message)
        return True

    def _tell(self, **answer: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(json.dumps(answer).encode())

    def _configure(self, message: dict[str, Any]) -> None:
        self._filter = base64.b64decode(message["seccomp"])
        self._bwrap = message["bwrap"]
        try:
            os.umask(0o022)  # whatever the supervisor's is, other uids must reach the shelf
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            forks.checked(forks.LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
            forks.give_up_gains()
            libraries = message["libraries"]
            if message["private"]:
                self._make_private()
                self._bwrap = self._bind(self._bwrap)
                libraries = self._bind(libraries) if libraries else libraries
            self._environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        except OSError as error:
            self._tell(error=str(error), errno=error.errno)
        else:
            self._tell(configured=self._shelf)

    def _make_private(self) -> None:
        """Take a mount namespace of our own, with a place in it any uid can walk to."""
        forks.checked(forks.LIBC.unshare(_CLONE_NEWNS))
        _mount("none", "/", "", _MS_REC | _MS_SLAVE)
        for place in _PLACES:
            if os.path.isdir(place) and not os.path.islink(place):
                self._shelf = place
                self._under = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0711,size=1m")
                return
        raise FileNotFoundError(2, f"none of {' '.join(_PLACES)} is a directory we may shadow")

    def _bind(self, path: str) -> str:
        """Bind `path` read-only below the shelf, also when the shelf hides it from everybody else here."""
        if path.startswith(f"{self._shelf}/"):
            source = os.open(path.removeprefix(f"{self._shelf}/"), os.O_PATH | os.O_CLOEXEC, dir_fd=self._under)
        else:
            source = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            self._exposures += 1
            above = f"{self._shelf}/{self._exposures}"
            os.mkdir(above, 0o711)
            target = f"{above}/{os.path.basename(path)}"
            if stat.S_ISDIR(os.fstat(source).st_mode):
                os.mkdir(target, 0o755)
            else:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            _mount(f"/proc/self/fd/{source}", target, "", _MS_BIND)
            _mount("none", target, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        finally:
            os.close(source)
        return target

    def _expose(self, message: dict[str, Any]) -> None:
        try:
            self._tell(exposed=message["token"], path=self._bind(message["path"]))
        except OSError as error:
            self._tell(exposed=message["token"], errno=error.errno)

    def _prepare(self, message: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._wait_seated(message, theirs)
        theirs.close()
        self._seats[message["id"]] = (pid, ours)

    def _wait_seated(self, message: dict[str, Any], channel: socket.socket) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            forks.close_all_but(self._null, channel.fileno())  # barriers above all: a copy of one would hold it closed
            forks.join(message["join"])
            body, descriptors = forks.receive_with_descriptors(channel)
            if body:
                self._become(json.loads(body), descriptors, joined=True)
        finally:
            os._exit(_NOT_LAUNCHED)

    def _listen(self, message: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                forks.send_listeners(self._channel, message)
            except BaseException:  # noqa: BLE001 - a fork must never return into the loop
                os._exit(_NOT_LAUNCHED)
            os._exit(0)
        self._listening[pid] = message["token"]

    def _launch(self, message: dict[str, Any], body: bytes, descriptors: list[int]) -> None:
        sandbox_id = message["id"]
        pid, seat = self._seats.pop(sandbox_id, (0, None))
        if seat is not None:
            with seat:
                try:
                    socket.send_fds(seat, [body], descriptors)
                except OSError:
                    pid = 0  # it could not join: try again where the failure is told
        if pid == 0:
            pid = os.fork()
            if pid == 0:
                self._become(message, descriptors, joined=False)
        barrier, keeper = descriptors[4], descriptors[7] if "keeper" in message else -1
        for descriptor in descriptors:
            if descriptor not in (barrier, keeper):
                os.close(descriptor)
        self._sandboxes[sandbox_id] = _Sandbox(monitor=pid, barrier=barrier, keeper=keeper)
        self._by_pid[pid] = sandbox_id

    def _become(self, message: dict[str, Any], descriptors: list[int], *, joined: bool) -> NoReturn:
        """Turn this fork into bwrap: cgroup, limits, identity, descriptors, in the order in which rights are lost."""
        if "keeper" in message:
            containing.enter(message, descriptors, null=self._null, seccomp=self._filter)
        command, args, status, barrier, _, out, err, *more = descriptors
        try:
            if not joined:
                forks.join(message["join"])
            forks.limit(message["rlimits"])
            if message["uid"] is not None:
                forks.drop_to(message["uid"])
            forks.checked(forks.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
            if os.getppid() != self._pid:
                os._exit(_NOT_LAUNCHED)
            with os.fdopen(command, "rb") as source:
                words = [os.fsencode(word) for word in json.load(source)]
            program, filter_end = os.pipe()
            os.write(filter_end, self._filter)
            os.close(filter_end)
            forks.reset_signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.chdir("/")
            forks.arrange([self._null, out, err, args, program, status, barrier, *more])
            os.execve(self._bwrap, [b"bwrap", b"--args", b"3", b"--", *words], self._environment)
        except BaseException as error:  # noqa: BLE001 - a fork must never return into the loop
            number = error.errno if isinstance(error, OSError) else 0
            os.write(status, json.dumps({"launch-error": repr(error), "errno": number}).encode() + b"\n")
        os._exit(_NOT_LAUNCHED)

    def _steer(self, operation: str, message: dict[str, Any]) -> None:
        sandbox = self._sandboxes.get(message["id"])
        if sandbox is None:
            return
        alive = sandbox.status is None  # not reaped, so its pid is still its own
        if operation == "release":
            sandbox.init = message["init"]
            self._by_pid[sandbox.init] = message["id"]
            if alive:
                os.kill(sandbox.monitor, signal.SIGSTOP)
            self._open_barrier(sandbox)
        elif alive:
            os.kill(sandbox.monitor, signal.SIGCONT if operation == "resume" else signal.SIGKILL)

    def _open_barrier(self, sandbox: _Sandbox) -> None:
        if sandbox.barrier >= 0:
            os.close(sandbox.barrier)
            sandbox.barrier = -1

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            token = self._listening.pop(pid, None)
            if token is not None and status:
                self._tell(listening=token, errno=0, error=f"the fork that binds ended with {status}")
            if pid in self._sweeping:
                self._end_swept(self._sweeping.pop(pid), status)
                continue
            sandbox_id = self._by_pid.pop(pid, "")
            sandbox = self._sandboxes.get(sandbox_id)
            if sandbox is None:
                continue
            sandbox.cpu += used.ru_utime + used.ru_stime
            sandbox.peak_kib = max(sandbox.peak_kib, used.ru_maxrss)
            if pid == sandbox.monitor:
                sandbox.status = status
                self._kill_orphans(sandbox)
                self._open_barrier(sandbox)
            if sandbox.status is not None and not self._is_ours(sandbox.init):
                self._forget(sandbox_id, sandbox)

    def _kill_orphans(self, sandbox: _Sandbox) -> None:
        """Kill what a monitor left to us: its process 1, or whatever would have become it."""
        if sandbox.init:
            if self._is_ours(sandbox.init):
                os.kill(sandbox.init, signal.SIGKILL)
            return
        known = {*self._by_pid, *self._listening, *self._sweeping, *(pid for pid, _ in self._seats.values())}
        for pid in forks.children():
            if pid not in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _is_ours(self, init: int) -> bool:
        """Say whether process 1 is still to be reaped: when its monitor dies first, it becomes our child."""
        if init not in self._by_pid:
            return False
        try:
            os.waitid(os.P_PID, init, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _end_swept(self, sandbox_id: str, status: int) -> None:
        sandbox = self._sandboxes[sandbox_id]
        sandbox.room_lost = bool(status)
        os.close(sandbox.keeper)
        sandbox.keeper = -1
        self._forget(sandbox_id, sandbox)

    def _forget(self, sandbox_id: str, sandbox: _Sandbox) -> None:
        if sandbox.keeper >= 0:
            pid = os.fork()
            if pid == 0:
                containing.sweep(sandbox.keeper)
            self._sweeping[pid] = sandbox_id
            return
        del self._sandboxes[sandbox_id]
        if self._by_pid.get(sandbox.init) == sandbox_id:
            del self._by_pid[sandbox.init]
        self._tell(
            ended=sandbox_id,
            status=sandbox.status,
            cpu_us=round(sandbox.cpu * 1e6),
            peak_kib=sandbox.peak_kib,
            room_lost=sandbox.room_lost,
        )


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _channel:
        _channel.set_inheritable(False)
        Launcher(_channel).serve()
