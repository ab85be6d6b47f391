"""One running program, from its launch to the moment nothing of it is left."""

import asyncio
import contextlib
import errno
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self, TypeVar

from tenantry.engines.jail.artifacts import Artifacts, collect
from tenantry.engines.jail.cgroups import Cgroup, CgroupReading
from tenantry.engines.jail.errors import SandboxBusy
from tenantry.engines.jail.kernel import open_process
from tenantry.engines.jail.launch import Death, LauncherClient
from tenantry.engines.jail.output import OutputPump
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import Ending, Outcome, Spec, Usage
from tenantry.foundation.clock import Clock

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_MISSING = {errno.ENOENT, errno.ENOTDIR}
_Result = TypeVar("_Result")


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a sandbox holds of the machine, each part to be given back by `close`; `clear` takes its container away."""

    spec: Spec
    uid: int | None
    cgroup: Cgroup
    threads: ThreadPoolExecutor
    clock: Clock
    give_back: Callable[[], None]
    clear: Callable[[], Awaitable[None]] | None = None
    status_pipe: int = -1
    barrier: int = -1
    workspace: int = -1
    init: int = -1
    init_pid: int = 0
    init_report: dict[str, object] = field(default_factory=dict)

    def close_descriptors(self) -> None:
        for name in ("status_pipe", "barrier", "workspace", "init"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)


class Sandbox:
    """Made by `Jail.start`. Await `wait`, then perhaps `artifacts`, then always `close` (or use `async with`)."""

    def __init__(self, sandbox_id: str, *, parts: Parts, launcher: LauncherClient) -> None:
        self.id = sandbox_id
        self._parts = parts
        self._launcher = launcher
        self._ending: Ending | None = None
        self._detail = ""
        self._callback_error: Exception | None = None
        self._started_at = parts.clock.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._life: asyncio.Task[Outcome] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._dead = False
        self._receipt: Receipt | None = None
        self.verified = False

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
        return await self.in_thread(
            lambda: collect(root, patterns=globs, max_files=max_files, max_bytes=max_bytes, uid=self._parts.uid)
        )

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
        if self._parts.init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._parts.init, signal.SIGKILL)  # process 1 takes its namespace along
        self._launcher.kill(self.id)

    def fail_output(self, error: Exception) -> None:
        self._callback_error = error
        self.end(Ending.KILLED, "the receiver of its output failed")

    async def in_thread(self, call: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._parts.threads, call)

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
        usage = Usage(
            cpu_seconds=end.cpu_seconds if reading.cpu_seconds is None else reading.cpu_seconds,
            peak_memory_mib=reading.peak_memory_mib or end.peak_memory_mib,
            wall_seconds=wall,
            output_bytes=pump.total,
        )
        return self._judge(end, reading, usage, pump.last_error_text.decode("utf-8", "replace"))

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
            detail=f"{'command not found' if missing else 'command cannot be executed'}: {self._parts.spec.command[0]}",
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
