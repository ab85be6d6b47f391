"""What every backend hands to the launcher, and does with what comes back: pipes, files in memory, limits, output."""

import asyncio
import fcntl
import math
import os
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tenantry.engines.jail.cgroups import OVERHEAD_NPROC
from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.launch import Death, memory_file
from tenantry.engines.jail.output import OutputPump
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.types import MIB, Attach, Ending, OnOutput, Spec, Stream

_SMALLEST_PIPE: Final = 4096
_MEMLOCK_BYTES: Final = 64 << 10


@dataclass(slots=True)
class Pipes:
    """Both ends of everything between a sandbox and its supervisor; the inner ends are the launcher's to hold."""

    status: tuple[int, int]
    barrier: tuple[int, int]
    out: tuple[int, int]
    err: tuple[int, int]

    @classmethod
    def open(cls) -> "Pipes":
        with ExitStack() as stack:
            made = []
            for _ in range(4):
                pair = os.pipe2(os.O_CLOEXEC)
                stack.callback(_close, pair)
                made.append(pair)
            stack.pop_all()
        pipes = cls(*made)
        for reader in (pipes.status[0], pipes.out[0], pipes.err[0]):
            os.set_blocking(reader, False)
        os.set_blocking(pipes.barrier[1], False)
        size = fcntl.fcntl(pipes.barrier[1], fcntl.F_SETPIPE_SZ, _SMALLEST_PIPE)
        os.write(pipes.barrier[1], bytes(size))  # full: it takes more only once bwrap has begun to read
        return pipes

    @property
    def inner(self) -> tuple[int, ...]:
        """What the launcher is handed, in its order."""
        return (self.status[1], *self.barrier, self.out[1], self.err[1])

    def close_inner(self) -> None:
        _close((self.status[1], self.barrier[0], self.out[1], self.err[1]))

    def close_all(self) -> None:
        for pair in (self.status, self.barrier, self.out, self.err):
            _close(pair)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@asynccontextmanager
async def opened_pipes(contents: Sequence[bytes]) -> AsyncIterator[tuple[Pipes, list[int]]]:
    """Open the pipes, and a file in memory for each of `contents`, for a launch in this block.

    After it the inner ends and the files are closed here; status and barrier are the sandbox's to close, and the
    outputs too, but when the launch has failed.
    """
    pipes = Pipes.open()
    files: list[int] = []
    try:
        files.extend(memory_file(content) for content in contents)
        yield pipes, files
    except BaseException:
        os.close(pipes.out[0])
        os.close(pipes.err[0])
        raise
    finally:
        pipes.close_inner()
        for descriptor in files:
            os.close(descriptor)


def carry_output(
    sandbox: Sandbox, parts: Parts, pipes: Pipes, *, death: asyncio.Future[Death], on_output: OnOutput
) -> None:
    """Carry both outputs from here on, and let the sandbox live until its death."""
    limit = parts.spec.limits.output_bytes
    pump = OutputPump(
        on_output=on_output,
        limit=limit,
        on_excess=lambda: sandbox.end(Ending.OUTPUT_LIMIT, f"more than {limit} bytes"),
        on_error=sandbox.fail_output,
    )
    carried = asyncio.gather(pump.carry(Stream.STDOUT, pipes.out[0]), pump.carry(Stream.STDERR, pipes.err[0]))
    sandbox.live(death=death, carried=carried, pump=pump)


def check_attached(spec: Spec, attach: Attach | None) -> None:
    if (spec.network is None) != (attach is None):
        raise SpecInvalid("network", "a network needs someone to attach to it, and only a network does")


def rlimits_of(parts: Parts, *, isolation: IsolationLevel) -> list[tuple[int, int]]:
    """Limits of each process; without a cgroup they are all there is, so memory and tasks are bounded here too."""
    limits = parts.spec.limits
    seconds = math.ceil(limits.timeout_seconds * max(1.0, limits.cpus)) + 5
    bounds = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, max(limits.disk_mib, limits.tmp_mib, limits.shm_mib) * MIB),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_MEMLOCK, _MEMLOCK_BYTES),
        (resource.RLIMIT_MSGQUEUE, 0),
    ]
    if parts.uid is not None:  # otherwise the furnisher's to set: this uid is the supervisor's too
        bounds.append((resource.RLIMIT_NPROC, limits.pids + OVERHEAD_NPROC))
    if isolation is IsolationLevel.RLIMIT:
        bounds.append((resource.RLIMIT_AS, limits.memory_mib * MIB))
    return bounds


def files_of(parts: Parts) -> list[tuple[int, int]]:
    """Limits of descriptors, which are set last: they may be lower than what is held until then."""
    return [(resource.RLIMIT_NOFILE, parts.spec.limits.open_files)]
