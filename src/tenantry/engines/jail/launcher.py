"""The small process every sandbox is a child of; run as a program (`python -I -S launcher.py FD`), never imported.

Why it exists: bubblewrap's --die-with-parent follows the thread that started it, so that thread must live as long as
the sandboxes, which this single-threaded process is all about; forking it costs half a millisecond whatever the size
of the supervisor; and it may hold a mount namespace of its own, where directories below private ones are bound at a
place any uid can reach. It needs the standard library alone.

It speaks JSON over a SOCK_SEQPACKET socket, descriptors beside it:
    → {op: configure, seccomp, bwrap, libraries, private}    ← {configured: shelf} or {error, errno}
    → {op: expose, token, path}                              ← {exposed: token, path} or {exposed: token, errno}
    → {op: conceal, path}
    → {op: prepare, id, join}   forks a seat: it joins the cgroup, which may take 10 ms, and waits to be launched
    → {op: dismiss, id}         ends a seat, which nobody takes: while it sat, its cgroup could not go
    → {op: launch, id, uid, join, rlimits, files} and seven descriptors: command, args, status, barrier r, barrier w,
      out, err (and more, laid into it by bwrap; with `keeper`, a pidfd of that process, whose container is entered)
    → {op: listen, token, pid, network, addresses, raised}   ← {listening: token} and the sockets, or {…, errno, error}
    → {op: dial, token, pid, network, port}                  ← the same, with one
    → {op: enter, token, id, uid, join} and seven descriptors: channel, door, payload, process 1,
      in, out, err (entering.py)
    → {op: admit, token, id, pid}       takes that child for the program     ← {admitted: token}, {left: token, status}
    → {op: strike, token, number}       a signal to its process group
    → {op: release, id, init}   stops bwrap's monitor, so that nobody reaps process 1, and lets the program start
    → {op: resume, id}          lets the monitor go on
    → {op: kill, id}
                                              ← {ended: id, status, cpu_us, peak_kib, moved, set_up, room_lost}
`ended` comes when the monitor and process 1 are both gone, which means every process of the sandbox is; in a container,
whose process 1 stays, all others have been killed then, or, `room_lost`, somebody has ended the container. When the
supervisor goes, by whatever death, this process goes, and with it every sandbox.
"""

import base64
import contextlib
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tenantry.engines.jail import containing, entering, forks, shelf
else:  # by its place: this program has no packages, and must not take a module of this directory for one of Python's

    def _loaded(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    forks, containing, entering, shelf = map(_loaded, ("forks", "containing", "entering", "shelf"))

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_NOT_LAUNCHED = 125


@dataclass
class _Sandbox:
    monitor: int
    barrier: int
    group: str  # of its cgroup, empty without one
    init: int = 0
    status: int | None = None
    cpu: float = 0.0
    peak_kib: int = 0
    keeper: int = -1
    room_lost: bool = False
    moved: tuple[int, int] | None = (0, 0)
    set_up: tuple[int, int] = (0, 0)


class Launcher:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pid, self._parent = os.getpid(), os.getppid()
        self._sandboxes: dict[str, _Sandbox] = {}
        self._by_pid: dict[int, str] = {}
        self._seats: dict[str, tuple[int, socket.socket]] = {}
        self._listening: dict[int, int] = {}
        self._sweeping: dict[int, str] = {}
        self._guests = entering.Guests(self._tell)
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._filter, self._bwrap = b"", ""
        self._environment: dict[str, str] = {}
        self._shelf = shelf.Shelf()

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
        elif operation in {"listen", "dial"}:
            self._listen(message)
        elif operation == "enter":
            self._enter(message, descriptors)
        elif operation == "admit":
            self._guests.admit(message)
        elif operation == "strike":
            self._guests.strike(message)
        else:
            self._receive_rarer(operation, message)
        return True

    def _receive_rarer(self, operation: str, message: dict[str, Any]) -> None:
        if operation == "configure":
            self._configure(message)
        elif operation == "expose":
            self._expose(message)
        elif operation == "conceal":
            self._shelf.release(message["path"])
        elif operation == "dismiss":
            self._dismiss(message["id"])
        else:
            self._steer(operation, message)

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
                self._shelf.make_private()
                self._bwrap = self._shelf.bind(self._bwrap)
                libraries = self._shelf.bind(libraries) if libraries else libraries
            self._environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        except OSError as error:
            self._tell(error=str(error), errno=error.errno)
        else:
            self._tell(configured=self._shelf.place)

    def _expose(self, message: dict[str, Any]) -> None:
        try:
            self._tell(exposed=message["token"], path=self._shelf.bind(message["path"]))
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

    def _dismiss(self, sandbox_id: str) -> None:
        _, seat = self._seats.pop(sandbox_id, (0, None))
        if seat is not None:
            seat.close()

    def _listen(self, message: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                send = forks.send_connection if message["op"] == "dial" else forks.send_listeners
                send(self._channel, message)
            except BaseException:  # noqa: BLE001 - a fork must never return into the loop
                os._exit(_NOT_LAUNCHED)
            os._exit(0)
        self._listening[pid] = message["token"]

    def _enter(self, message: dict[str, Any], descriptors: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                entering.enter(message, descriptors, self._filter)
            finally:
                os._exit(_NOT_LAUNCHED)
        for descriptor in descriptors:
            os.close(descriptor)
        self._guests.entering(pid, message)

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
        self._sandboxes[sandbox_id] = _Sandbox(
            monitor=pid, barrier=barrier, group=forks.group_of(message["join"]), keeper=keeper
        )
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
            forks.limit(message["files"])  # not before: it may be lower than the descriptors that are arranged
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
            sandbox.set_up = forks.both(forks.moved(sandbox.monitor), forks.moved(sandbox.init)) or (0, 0)
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
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._guests.ends(ended.si_pid)
            moved = forks.moved(ended.si_pid)  # it is told of a zombie and of nobody after
            pid, status, used = os.wait4(ended.si_pid, 0)
            token = self._listening.pop(pid, None)
            if token is not None and status:
                self._tell(listening=token, errno=0, error=f"the fork that binds ended with {status}")
            if pid in self._sweeping:
                self._end_swept(self._sweeping.pop(pid), status)
                continue
            sandbox_id = self._by_pid.pop(pid, "") or self._guests.reaped(pid, status)
            sandbox = self._sandboxes.get(sandbox_id)
            if sandbox is None:
                continue
            sandbox.cpu += used.ru_utime + used.ru_stime
            sandbox.peak_kib = max(sandbox.peak_kib, used.ru_maxrss)
            sandbox.moved = forks.both(sandbox.moved, moved)
            if pid == sandbox.monitor:
                sandbox.status = status
                self._guests.end(sandbox_id)
                self._kill_orphans(sandbox)
                self._open_barrier(sandbox)
            if sandbox.status is not None and not self._is_ours(sandbox.init) and not self._guests.any_in(sandbox_id):
                self._forget(sandbox_id, sandbox)

    def _kill_orphans(self, sandbox: _Sandbox) -> None:
        """Kill what a monitor left to us: its process 1, or whatever would have become it."""
        if sandbox.init:
            if self._is_ours(sandbox.init):
                os.kill(sandbox.init, signal.SIGKILL)
            return
        known = {*self._by_pid, *self._listening, *self._sweeping, *self._guests}
        known.update(pid for pid, _ in self._seats.values())
        for pid in forks.children():
            if pid not in known and forks.is_in(pid, sandbox.group):  # one on its way into another is not known yet
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
            moved=sandbox.moved,
            set_up=sandbox.set_up,
        )


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _channel:
        _channel.set_inheritable(False)
        Launcher(_channel).serve()
