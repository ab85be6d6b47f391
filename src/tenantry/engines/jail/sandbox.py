"""One running program, from its launch to the moment nothing of it is left."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import BinaryIO, Final, Self, TypeVar

from tenantry.engines.jail.artifacts import Artifacts, collect
from tenantry.engines.jail.bubblewrap import program_of
from tenantry.engines.jail.cgroups import CgroupReading
from tenantry.engines.jail.entrance import Place
from tenantry.engines.jail.errors import ExecsExhausted, SandboxBusy, SandboxEnded, SpecInvalid
from tenantry.engines.jail.exec_types import ExecSpec
from tenantry.engines.jail.execution import Execution, close_all
from tenantry.engines.jail.files import SandboxFiles
from tenantry.engines.jail.kernel import Moved, open_process
from tenantry.engines.jail.launch import Death, LauncherClient
from tenantry.engines.jail.output import OutputPump
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.trees import SavedTree, pack
from tenantry.engines.jail.types import HOST_PORTS, MOST_PORT, Ending, Outcome, Usage
from tenantry.foundation.threads import in_own_thread

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_MISSING = {errno.ENOENT, errno.ENOTDIR}
#: Programs put into one sandbox that run at a time, beside its own.
MOST_EXECS: Final = 32
_FIRST: Final = -20
_Result = TypeVar("_Result")


class Sandbox:
    """Made by `Jail.start`. Await `wait`, then perhaps `artifacts`, then always `close` (or use `async with`)."""

    def __init__(self, sandbox_id: str, *, parts: Parts, launcher: LauncherClient) -> None:
        self.id = sandbox_id
        self._parts = parts
        self._launcher = launcher
        self._ending: Ending | None = None
        self._detail = ""
        self._before_kill: Moved | None = None
        self._callback_error: Exception | None = None
        self._started_at = parts.clock.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._life: asyncio.Task[Outcome] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._dead = False
        self._receipt: Receipt | None = None
        self._executions: set[Execution] = set()
        self._entering: set[asyncio.Future[None]] = set()
        self._files: SandboxFiles | None = None
        self._saving = asyncio.Lock()
        self.verified = False
        self.filled: SavedTree | None = None

    @property
    def receipt(self) -> Receipt | None:
        """What the kernel said of it; None when it died before there was anything to read."""
        return self._receipt

    async def wait(self) -> Outcome:
        """Wait for its death: every process of it is gone and all output delivered. May be awaited again.

        Raises what `on_output` raised, once it is dead. Cancelling the wait leaves the sandbox running.
        """
        if self._life is None:
            raise RuntimeError("a sandbox is waited for after its start")
        outcome = await asyncio.shield(self._life)
        if self._callback_error is not None:
            raise self._callback_error
        return outcome

    def kill(self, reason: str = "") -> None:
        """Kill all of it at once; `reason` becomes the outcome's detail. Without effect on a dead one."""
        self.end(Ending.KILLED, reason)

    async def artifacts(self, globs: Sequence[str], *, max_files: int = 1000, max_bytes: int = 256 << 20) -> Artifacts:
        """Find what it left in /workspace that matches; raises SandboxBusy while it lives, SpecInvalid for a pattern.

        Patterns are relative to /workspace, and /outputs is its `outputs`: `outputs/**`, `report.json`, `**/*.log`.
        The files can be read until `close`.
        """
        if not self._dead or self._closing is not None:
            raise SandboxBusy("artifacts")
        root = self._parts.workspace
        if root < 0:
            return Artifacts([], [])
        return await in_own_thread(
            lambda: collect(root, patterns=globs, max_files=max_files, max_bytes=max_bytes, uid=self._parts.uid)
        )

    async def exec(self, wanted: ExecSpec) -> Execution:
        """Start one more program in it, which is verified before it runs; only in a sandbox that is kept.

        One that cannot be started is an Execution too, whose outcome is `not_started`. Raises SandboxEnded,
        ExecsExhausted above 32 at a time, SpecInvalid when the sandbox is not kept, JailUnavailable (retry is safe).
        """
        receipt, life = self._living("exec")
        if not self._parts.spec.keep:
            raise SpecInvalid("keep", "only a sandbox that is kept takes another program")
        if len(self._executions) + len(self._entering) >= MOST_EXECS:
            raise ExecsExhausted(MOST_EXECS)
        entered = asyncio.get_running_loop().create_future()
        self._entering.add(entered)
        try:
            execution = await self._enter(wanted, receipt, life)
        finally:
            self._entering.discard(entered)
            entered.set_result(None)
        return execution

    async def _enter(self, wanted: ExecSpec, receipt: Receipt, life: asyncio.Task[Outcome]) -> Execution:
        parts = self._parts
        init = os.dup(parts.init)  # the sandbox may be closed before it is sent
        try:
            place = Place(
                sandbox_id=self.id,
                spec=parts.spec,
                uid=parts.uid,
                cgroup=parts.cgroup,
                join=parts.join,
                in_container=parts.in_container,
                rlimits=parts.rlimits,
                init=init,
                init_pid=parts.init_pid,
                receipt=receipt,
                launcher=self._launcher,
            )
            execution = await Execution.start(place, wanted, over=life, on_close=self._executions.discard)
        finally:
            os.close(init)
        self._executions.add(execution)
        return execution

    def _living(self, verb: str) -> tuple[Receipt, asyncio.Task[Outcome]]:
        """Return its receipt and its life; raises SandboxEnded for one that is not alive, or never was."""
        life = self._life
        ended = life is None or life.done() or self._ending is not None or self._closing is not None
        if ended or life is None or not self.verified or self._receipt is None:
            raise SandboxEnded(verb)
        return self._receipt, life

    async def dial(self, port: int) -> socket.socket:
        """Connect to 127.0.0.1:`port` inside; non-blocking, the caller's to close.

        Raises OSError when refused, SandboxEnded. Where its host listens for it nothing of the sandbox answers: those
        ports are refused too.
        """
        (receipt, _), network = self._living("dial"), self._parts.spec.network
        if network is not None and port in network.listened | HOST_PORTS:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"port {port} is its host's")
        if not 1 <= port <= MOST_PORT:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"there is no port {port}")
        return await self._launcher.dial(port, pid=self._parts.init_pid, inode=receipt.namespaces["net"])

    @property
    def files(self) -> SandboxFiles:
        """Its /workspace, while it lives and after, until `close`; raises SandboxEnded when it never began."""
        if self._files is None:
            if self._life is None or self._parts.workspace < 0 or self._closing is not None:
                raise SandboxEnded("files")
            root, uid = os.dup(self._parts.workspace), self._parts.uid
            self._files = SandboxFiles(root, uid=uid, in_thread=self.in_thread, over=self._life)
        return self._files

    async def save(self, target: BinaryIO, *, max_bytes: int) -> SavedTree:
        """Write an archive of /workspace that a `Fill` takes, while it lives or after.

        A living one stands still meanwhile where the kernel can freeze it (cgroup v2); otherwise each file is as it is
        met. What is above `max_bytes` is left out and told. `target` is written to and flushed in a thread of its own,
        which may wait for whoever takes that; the next save waits for it. Raises SandboxEnded once closed, OSError
        where `target` does.
        """
        await self._saving.acquire()
        try:
            saving = self._saved(target, max_bytes=max_bytes)
        except BaseException:
            self._saving.release()
            raise
        saving.add_done_callback(lambda _: self._saving.release())
        return await asyncio.shield(saving)

    def _saved(self, target: BinaryIO, *, max_bytes: int) -> asyncio.Future[SavedTree]:
        if self._parts.workspace < 0 or self._closing is not None:
            raise SandboxEnded("save")
        root, uid, group = os.dup(self._parts.workspace), self._parts.uid, self._parts.cgroup

        def work() -> SavedTree:
            try:
                with group.frozen():
                    saved = pack(root, uid, target, max_bytes=max_bytes)
                target.flush()
                return saved
            finally:
                os.close(root)

        return in_own_thread(work)

    def remains(self) -> tuple[int, int | None] | None:
        """Give what it left in /workspace, by a new descriptor that is the taker's to close, and the uid to read it as.

        None when it never had a /workspace. Raises SandboxBusy while it lives and once it is closed.
        """
        if not self._dead or self._closing is not None:
            raise SandboxBusy("what it left")
        root = self._parts.workspace
        return (os.dup(root), self._parts.uid) if root >= 0 else None

    async def close(self) -> None:
        """Kill it if need be and give back everything it held; idempotent, and finished even when cancelled.

        Raises OSError when the kernel keeps something of it alive; its uid then stays taken.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # For the jail that starts it

    def live(self, *, death: Awaitable[Death], carried: Awaitable[object], pump: OutputPump) -> None:
        self._life = asyncio.create_task(self._live(death, carried, pump))

    def admit(self, receipt: Receipt) -> None:
        self._receipt = receipt

    def start_clock(self) -> None:
        seconds = self._parts.spec.limits.timeout_seconds
        self._timer = asyncio.get_running_loop().call_later(
            seconds, self.end, Ending.TIMED_OUT, f"it ran longer than {seconds:g} s"
        )

    def end(self, ending: Ending, detail: str = "") -> None:
        """Kill it for a reason; the first reason given stays."""
        if self._dead:
            return
        if self._ending is None:
            self._ending, self._detail = ending, detail
            self._before_kill = self._parts.cgroup.moved()
        if self._parts.init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._parts.init, signal.SIGKILL)  # process 1 takes its namespace along
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._parts.init_pid, _FIRST)  # before it takes them, they run
        self._launcher.kill(self.id)
        self._parts.cgroup.hurry()

    def fail_output(self, error: Exception) -> None:
        self._callback_error = error
        self.end(Ending.KILLED, "the receiver of its output failed")

    def in_thread(self, call: Callable[[], _Result]) -> asyncio.Future[_Result]:
        return asyncio.get_running_loop().run_in_executor(self._parts.threads, call)

    async def _live(self, death: Awaitable[Death], carried: Awaitable[object], pump: OutputPump) -> Outcome:
        end = await death
        wall = self._parts.clock.monotonic() - self._started_at
        if self._timer:
            self._timer.cancel()
        if end.status is None:
            self._kill_without_launcher()
            await self.in_thread(self._parts.cgroup.kill)
            self._ending, self._detail = self._ending or Ending.KILLED, self._detail or "the launcher died"
        await carried
        reading = await self.in_thread(self._parts.cgroup.reading)
        if end.room_lost and self._ending is None and not reading.oom_kills:
            self._ending, self._detail = Ending.KILLED, "its container was ended by somebody else"
        self._dead = True
        usage = self._usage(end, reading, wall_seconds=wall, output_bytes=pump.total)
        return self._judge(end, reading, usage, pump.last_error_text.decode("utf-8", "replace"))

    def _usage(self, end: Death, reading: CgroupReading, *, wall_seconds: float, output_bytes: int) -> Usage:
        read, written = self._total(end)
        return Usage(
            cpu_seconds=end.cpu_seconds if reading.cpu_seconds is None else reading.cpu_seconds,
            peak_memory_mib=reading.peak_memory_mib or end.peak_memory_mib,
            wall_seconds=wall_seconds,
            output_bytes=output_bytes,
            read_bytes=read,
            written_bytes=written,
            oom_kills=reading.oom_kills,
            memory_limit_hits=reading.memory_limit_hits,
            pids_refused=reading.pids_refused,
            throttled_seconds=reading.throttled_seconds,
        )

    def _total(self, end: Death) -> Moved | tuple[None, None]:
        """Tell the higher of two sums that are never too high: of all who were reaped, and of all before the kill.

        What the kernel kills with process 1 is reaped by nobody, and in no sum.
        """
        sums = [each for each in (end.moved, self._before_kill) if each is not None]
        if not sums:
            return None, None
        read, written = (max(parts) for parts in zip(*sums, strict=True))
        return max(0, read - end.set_up[0]), max(0, written - end.set_up[1])

    def _kill_without_launcher(self) -> None:
        """Kill process 1 by what bwrap reported, if the launcher died before this sandbox was entered."""
        parts = self._parts
        for line in read_lines(parts.status_pipe):
            parts.init_report |= line
        pid = parts.init_report.get("child-pid")
        if parts.init < 0 and isinstance(pid, int):
            with contextlib.suppress(OSError):
                parts.init = open_process(pid, pid_namespace=parts.init_report.get("pid-namespace"))
        if parts.init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(parts.init, signal.SIGKILL)

    def _judge(self, end: Death, reading: CgroupReading, usage: Usage, said: str) -> Outcome:
        exit_code, failure, refused = self._read_report()
        if self._ending is not None:
            return Outcome(ending=self._ending, exit_code=None, usage=usage, detail=self._detail)
        if reading.oom_kills:
            detail = (
                f"the kernel killed {reading.oom_kills} of its processes at {self._parts.spec.limits.memory_mib} MiB"
            )
            return Outcome(ending=Ending.OUT_OF_MEMORY, exit_code=exit_code, usage=usage, detail=detail)
        if exit_code is not None:
            return Outcome(ending=Ending.EXITED, exit_code=exit_code, usage=usage)
        if failure:
            return Outcome(ending=Ending.NOT_STARTED, exit_code=None, usage=usage, detail=failure)
        program = program_of(self._parts.spec)[0]
        said = said.strip().rpartition("\n")[2]
        if refused is None and not self.verified:
            return Outcome(
                ending=Ending.NOT_STARTED, exit_code=None, usage=usage, detail=said or f"the monitor: {end.status}"
            )
        missing = refused in _MISSING if refused is not None else "No such file" in said or "Not a directory" in said
        return Outcome(
            ending=Ending.NOT_STARTED,
            exit_code=_NOT_FOUND if missing else _NOT_EXECUTABLE,
            usage=usage,
            detail=f"{'command not found' if missing else 'command cannot be executed'}: {program}",
        )

    def _read_report(self) -> tuple[int | None, str, int | None]:
        """Read the rest of the status: the exit code, told only if the program ran, what failed, the errno of exec."""
        lines = read_lines(self._parts.status_pipe) if self._parts.status_pipe >= 0 else []
        for line in lines:
            if isinstance(code := line.get("exit-code"), int):
                return code, "", None
            if "launch-error" in line:
                return None, f"the launcher could not start it: {line['launch-error']}", None
            if isinstance(number := line.get("exec-errno"), int):
                return None, "", number
        return None, str(self._parts.init_report.get("launch-error", "")), None

    async def _close(self) -> None:
        if self._life is not None and not self._life.done():
            self.end(Ending.KILLED, "closed")
        if self._life is not None:
            await asyncio.wait([self._life])
        while self._entering:
            await asyncio.wait(self._entering)
        await close_all(list(self._executions))
        if self._files is not None:
            self._files.close()
        await self.in_thread(self._parts.close_descriptors)
        if self._parts.clear is not None:
            await self._parts.clear()
        await self.in_thread(self._parts.cgroup.remove)
        self._parts.give_back()


def read_lines(pipe: int) -> list[dict[str, object]]:
    """Read what a non-blocking pipe of JSON lines holds now."""
    held = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(pipe, 1 << 16):
            held += piece
    return [json.loads(line) for line in held.splitlines() if line.strip()]
