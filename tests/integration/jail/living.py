"""Short words for what tests do with a sandbox that is kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tenantry.engines.jail import kernel
from tenantry.engines.jail.exec_types import ExecOutcome, ExecSpec
from tenantry.engines.jail.execution import Execution
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.types import Limits, Spec, Stream


@dataclass
class Done:
    """What a program said and how it ended."""

    outcome: ExecOutcome
    out: str
    err: str


@dataclass
class Room:
    sandbox: Sandbox

    @property
    def first(self) -> int:
        """The number inside of the program that only waits; process 1 is bwrap, or the container's own."""
        parts = self.sandbox._parts
        return int(kernel.read_status(parts.init_pid)["NSpid"].split()[-1]) if parts.in_container else 2

    async def exec(self, *command: str, **fields: Any) -> Done:
        execution = await self.sandbox.exec(ExecSpec(command=command, **fields))
        try:
            return await finished(execution)
        finally:
            await execution.close()

    async def sh(self, script: str, **fields: Any) -> Done:
        return await self.exec("sh", "-c", script, **fields)

    async def start(self, script: str, **fields: Any) -> Execution:
        return await self.sandbox.exec(ExecSpec(command=("sh", "-c", script), **fields))


async def finished(execution: Execution) -> Done:
    said = {stream: bytearray() for stream in Stream}
    while (piece := await execution.read()) is not None:
        said[piece[0]].extend(piece[1])
    out, err = (said[stream].decode(errors="replace") for stream in Stream)
    return Done(await execution.wait(), out, err)


async def heard(execution: Execution, wanted: str) -> str:
    """Read until it has said this."""
    said = ""
    while wanted not in said:
        piece = await execution.read()
        assert piece is not None, said
        said += piece[1].decode(errors="replace")
    return said


@asynccontextmanager
async def kept(prison: Any, **fields: Any) -> AsyncIterator[Room]:
    limits = fields.pop("limits", None) or Limits(timeout_seconds=60, memory_mib=128)
    spec = Spec(image=fields.pop("image", prison.host), keep=True, limits=limits, **fields)
    async with await prison.jail.start(spec, lambda *_: None) as sandbox:
        assert sandbox.verified
        yield Room(sandbox)
