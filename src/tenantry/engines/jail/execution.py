"""A program that was put into a living sandbox: its output, its input, its end."""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Protocol

from tenantry.engines.jail.cgroups import Cgroup
from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.exec_types import ExecOutcome, ExecSpec, TerminalSize
from tenantry.engines.jail.output import ready_to_read, writable
from tenantry.engines.jail.types import Ending, Outcome, Stream

_CHUNK: Final = 1 << 16
_END_OF_FILE: Final = b"\x04"
_DEATH_SECONDS: Final = 0.2


class Entered(Protocol):
    """Somebody put in: `refusal` is the outcome of one that never ran, `left` is of another's wait status."""

    token: int
    pid: int
    terminal: int
    left: asyncio.Future[int | None]
    refusal: ExecOutcome | None


class Entrance(Protocol):
    """A living sandbox that programs are put into (entrance.py, or gvisor/visiting.py)."""

    @property
    def cgroup(self) -> Cgroup: ...

    async def bring_in(self, wanted: ExecSpec, *, streams: Sequence[int]) -> Entered: ...

    def strike(self, token: int, number: int) -> None: ...


class Execution:
    """Made by `Sandbox.exec`. Read it to its end, then `wait`; always `close`. Bound to the sandbox's event loop."""

    def __init__(
        self,
        place: Entrance,
        wanted: ExecSpec,
        guest: Entered,
        *,
        over: asyncio.Future[Outcome],
        on_close: Callable[["Execution"], None],
    ) -> None:
        self._place = place
        self._wanted = wanted
        self._guest = guest
        self._over = over
        self._on_close = on_close
        self._sources: dict[Stream, int] = {}
        self._input = -1
        self._left = wanted.output_bytes
        self._ending: tuple[Ending, str] | None = None
        self._reading = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._cgroup = place.cgroup
        self._oom_kills_before = self._oom_kills()
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def start(
        cls,
        place: Entrance,
        wanted: ExecSpec,
        *,
        over: asyncio.Future[Outcome],
        on_close: Callable[["Execution"], None],
    ) -> "Execution":
        """Bring the program in; `over` is the sandbox's end, `on_close` is called when nothing is held any more."""
        if wanted.terminal:
            guest = await place.bring_in(wanted, streams=())
            execution = cls(place, wanted, guest, over=over, on_close=on_close)
            if guest.terminal >= 0:
                execution._hold(guest.terminal, {Stream.STDOUT: guest.terminal})
            return execution
        (their_in, our_in), (our_out, their_out), (our_err, their_err) = _three_pipes()
        try:
            guest = await place.bring_in(wanted, streams=(their_in, their_out, their_err))
        except BaseException:
            for descriptor in (our_in, our_out, our_err):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (their_in, their_out, their_err):
                os.close(descriptor)
        execution = cls(place, wanted, guest, over=over, on_close=on_close)
        execution._hold(our_in, {Stream.STDOUT: our_out, Stream.STDERR: our_err})
        return execution

    def _hold(self, writer: int, sources: dict[Stream, int]) -> None:
        for descriptor in (writer, *sources.values()):
            os.set_blocking(descriptor, False)
        self._input, self._sources = writer, sources
        if self._wanted.timeout_seconds is not None:
            told = f"it ran longer than {self._wanted.timeout_seconds:g} s"
            self._timer = asyncio.get_running_loop().call_later(
                self._wanted.timeout_seconds, self._end, Ending.TIMED_OUT, told
            )

    @property
    def pid(self) -> int:
        """Its number on the host, 0 when it never came in; somebody else's once it has ended."""
        return self._guest.pid

    async def read(self) -> tuple[Stream, bytes] | None:
        """Wait for what it says next; None when it has ended and all of it was read. One reader at a time.

        A program whose output nobody reads waits for a reader. What a process of another session says after the
        program's end is not waited for.
        """
        async with self._reading:
            while self._sources:
                ended = self._life.done()
                for stream in list(self._sources):
                    chunk = self._take(stream)
                    if chunk:
                        self._sources[stream] = self._sources.pop(stream)  # the other one is first next time
                        return stream, chunk
                if ended:
                    break
                if self._sources:
                    await ready_to_read(list(self._sources.values()), self._life)
            if not self._life.done():
                await asyncio.wait([self._life])
            return None

    def _take(self, stream: Stream) -> bytes:
        """Read what is there now and may be told; a source that is at its end is taken off the list."""
        try:
            chunk = os.read(self._sources[stream], _CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # of a terminal whose last holder is gone
                raise
            chunk = b""
        if not chunk:
            self._drop(stream)
            return b""
        kept = chunk[: self._left]
        self._left -= len(kept)
        if len(kept) < len(chunk):
            self._end(Ending.OUTPUT_LIMIT, f"more than {self._wanted.output_bytes} bytes")
        return kept

    def _drop(self, stream: Stream) -> None:
        descriptor = self._sources.pop(stream)
        if descriptor != self._input:
            os.close(descriptor)

    async def write(self, data: bytes) -> None:
        """Hand over all of `data` as its input; raises BrokenPipeError when it reads no more."""
        left = memoryview(data)
        while left:
            if self._input < 0 or self._life.done():
                raise BrokenPipeError(errno.EPIPE, "it reads no more")
            try:
                left = left[os.write(self._input, left) :]
            except BlockingIOError:
                ready = asyncio.ensure_future(writable(asyncio.get_running_loop(), self._input))
                try:
                    await asyncio.wait([ready, self._life], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ready.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await ready
            except OSError as error:
                raise BrokenPipeError(errno.EPIPE, "it reads no more") from error

    def close_stdin(self) -> None:
        """End its input; a terminal is sent its end-of-file character. Idempotent."""
        if self._input < 0:
            return
        if self._wanted.terminal:
            with contextlib.suppress(OSError):
                os.write(self._input, _END_OF_FILE)
            return
        os.close(self._input)
        self._input = -1

    def resize(self, size: TerminalSize) -> None:
        """Give its terminal another size, which its foreground is told; raises SpecInvalid when it has none."""
        if not self._wanted.terminal:
            raise SpecInvalid("terminal", "one that was started with a terminal")
        if self._input >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send a signal to its process group; without effect once it has ended. Raises SpecInvalid for no signal."""
        if not 1 <= number < signal.NSIG:
            raise SpecInvalid("signal", f"a number from 1 to {signal.NSIG - 1}")
        self._place.strike(self._guest.token, number)

    async def wait(self) -> ExecOutcome:
        """Wait for its end; may be awaited again, and cancelled without effect."""
        return await asyncio.shield(self._life)

    async def close(self) -> None:
        """Kill what is left of its process group and give back its descriptors; idempotent."""
        if not self._life.done():
            self._end(Ending.KILLED, "closed")
        await asyncio.shield(self._life)
        async with self._reading:
            for descriptor in {self._input, *self._sources.values()} - {-1}:
                os.close(descriptor)
            self._input, self._sources = -1, {}
        self._on_close(self)

    def _oom_kills(self) -> int:
        return self._cgroup.reading().oom_kills

    def _end(self, ending: Ending, detail: str) -> None:
        if self._ending is None and not self._life.done():
            self._ending = (ending, detail)
            self._place.strike(self._guest.token, signal.SIGKILL)

    def _refusal(self) -> ExecOutcome | None:
        return self._guest.refusal

    async def _live(self) -> ExecOutcome:
        status = await asyncio.shield(self._guest.left) if self._refusal() is None else None
        if self._timer:
            self._timer.cancel()
        if (refusal := self._refusal()) is not None:  # some entrances tell it no sooner
            return refusal
        if self._ending is not None:
            return ExecOutcome(ending=self._ending[0], exit_code=None, detail=self._ending[1])
        if status is None or status == -1:
            return ExecOutcome(ending=Ending.KILLED, exit_code=None, detail="the sandbox ended")
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            if self._oom_kills() > self._oom_kills_before:
                told = "the kernel killed it for its memory"
                return ExecOutcome(ending=Ending.OUT_OF_MEMORY, exit_code=128 - code, detail=told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DEATH_SECONDS):
                    await asyncio.shield(self._over)
                    return ExecOutcome(ending=Ending.KILLED, exit_code=None, detail="the sandbox ended")
        return ExecOutcome(ending=Ending.EXITED, exit_code=code if code >= 0 else 128 - code)


def _three_pipes() -> list[tuple[int, int]]:
    with ExitStack() as stack:
        made = []
        for _ in range(3):
            made.append(os.pipe2(os.O_CLOEXEC))
            for descriptor in made[-1]:
                stack.callback(os.close, descriptor)
        stack.pop_all()
    return made


async def close_all(executions: Sequence[Execution]) -> None:
    await asyncio.gather(*(execution.close() for execution in executions))
