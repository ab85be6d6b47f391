"""One program of a job in a sandbox of its own, with what it may connect to."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from tenantry.capabilities.sandboxes.service.egress import JobEgress
from tenantry.capabilities.sandboxes.service.output import JobOutput
from tenantry.engines.egress import Injection
from tenantry.engines.jail.artifacts import Artifacts
from tenantry.engines.jail.backend import Backend, Running
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Outcome, Spec
from tenantry.engines.rules.types import Connection
from tenantry.foundation.settings import JobSettings

_MOST_SKIPPED_TOLD: Final = 20

_log = structlog.get_logger(__name__)

WhileItRuns = Callable[[Running], Awaitable[Outcome]]
"""What is done while it runs; gives its outcome."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """How it ended, with its usage and its receipt as they are recorded; None where there was nothing to read."""

    outcome: Outcome
    usage: Mapping[str, Any]
    receipt: Mapping[str, Any] | None


class PhaseRun:
    """Made for one sandbox; `start`, then `wait`, then always `close`; `kill` and `narrow` may come at any time."""

    def __init__(
        self,
        spec: Spec,
        *,
        network: Sequence[Connection],
        jail: Backend,
        output: JobOutput,
        settings: JobSettings,
        injections: Sequence[Injection] = (),
        while_it_runs: WhileItRuns | None = None,
    ) -> None:
        self._egress = (
            JobEgress(
                network,
                settings=settings,
                say=output.say,
                injections=injections,
                seconds=spec.limits.timeout_seconds,
            )
            if network
            else None
        )
        self._spec = _connected(spec, self._egress) if self._egress else spec
        self._jail = jail
        self._while_it_runs = while_it_runs or _to_its_end
        self._output = output
        self._sandbox: Running | None = None
        self._killed: str | None = None

    async def start(self) -> bool:
        """Start it, and tell whether its program has begun; raises TenantryError when nothing could be started."""
        egress = self._egress
        sandbox = self._sandbox = await self._jail.start(
            self._spec, self._output.take, attach=egress.attach if egress else None
        )
        if self._killed is not None:
            sandbox.kill(self._killed)
        for skipped in (sandbox.filled.skipped if sandbox.filled else ())[:_MOST_SKIPPED_TOLD]:
            self._output.say(f"{skipped.path!r} of /workspace was not carried on: {skipped.reason}")
        return sandbox.verified

    async def wait(self) -> Ran:
        """Wait for its end; to be called once it has been started."""
        sandbox, egress = self._started, self._egress
        outcome = await self._while_it_runs(sandbox)
        usage = dataclasses.asdict(outcome.usage) | (egress.used() if egress else {})
        return Ran(outcome, usage, sandbox.receipt.as_record() if sandbox.receipt else None)

    @property
    def left(self) -> Fill:
        """What it left in /workspace, for the next one; it may be closed once that has started."""
        return Fill.from_sandbox(self._started)

    @property
    def _started(self) -> Running:
        if self._sandbox is None:
            raise RuntimeError("it is asked of after its start")
        return self._sandbox

    def kill(self, reason: str) -> None:
        self._killed = self._killed or reason
        if self._sandbox is not None:
            self._sandbox.kill(reason)

    def narrow(self, asked: Sequence[Connection]) -> None:
        """Let it connect to no more than this from now on."""
        if self._egress is not None:
            self._egress.narrow(asked)

    async def artifacts(self, globs: Sequence[str], *, max_files: int, max_bytes: int) -> Artifacts:
        """Find what it left, once it has run and until it is closed."""
        if self._sandbox is None:
            return Artifacts([], [])
        return await self._sandbox.artifacts(globs, max_files=max_files, max_bytes=max_bytes)

    async def close(self) -> None:
        """Clear it away; idempotent."""
        sandbox = self._sandbox
        if sandbox is not None:
            try:
                await sandbox.close()
            except OSError as error:
                _log.error("sandbox.remains", sandbox=sandbox.id, reason=error.strerror)
        if self._egress is not None:
            await self._egress.close()


async def _to_its_end(sandbox: Running) -> Outcome:
    return await sandbox.wait()


def _connected(spec: Spec, egress: JobEgress) -> Spec:
    environment = {**egress.environment, **spec.env}
    return dataclasses.replace(spec, network=egress.network, authority=egress.authority, env=environment)
