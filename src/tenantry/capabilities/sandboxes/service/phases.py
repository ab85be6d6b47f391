"""The programs of one job, one after the other, each in a fresh sandbox: a /workspace goes from one to the next.

Whoever comes later is not trusted by who was before, nor the other way round: another uid, other namespaces, an
environment, secrets and connections of its own. What they share is a tree, carried by descriptor, and the job's limits.
"""

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from tenantry.capabilities.sandboxes.service.ending import end_of, killed_end, phase_end, spent_end
from tenantry.capabilities.sandboxes.service.job_limits import disk_mib_of
from tenantry.capabilities.sandboxes.service.job_secrets import OpenedSecrets
from tenantry.capabilities.sandboxes.service.output import JobOutput
from tenantry.capabilities.sandboxes.service.phase_run import PhaseRun, Ran, WhileItRuns
from tenantry.capabilities.sandboxes.types import Job, JobEnd, JobInput, JobPhase, JobStatus
from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Ending, ImageRoot, InputFile, Limits, Spec
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.settings import JobSettings

_LEAST_SECONDS: Final = 0.001
_HIGHEST: Final = frozenset({"peak_memory_mib"})

StillWanted = Callable[[], Awaitable[Job | JobEnd]]
"""Looks at the job again before a phase begins: as it is now, or the end it comes to instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """What the programs of a job are given, opened; each gets what is its own."""

    environments: Mapping[Phase, Mapping[str, str]] = dataclasses.field(repr=False)
    inputs: Sequence[JobInput] = dataclasses.field(repr=False)
    secrets: Mapping[Phase, OpenedSecrets] = dataclasses.field(repr=False)


class JobPhases:
    """Made for one attempt; `run` is awaited once, `kill` and `narrow` may come at any time."""

    def __init__(
        self,
        job: Job,
        given: Given,
        *,
        jail: Backend,
        root: Callable[[JobPhase], Awaitable[ImageRoot]],
        still_wanted: StillWanted,
        output: JobOutput,
        settings: JobSettings,
        clock: Clock,
        workspace: Fill | None = None,
        while_it_runs: WhileItRuns | None = None,
    ) -> None:
        self._job = job
        self._given = given
        self._jail = jail
        self._root = root
        self._still_wanted = still_wanted
        self._output = output
        self._settings = settings
        self._clock = clock
        self._workspace = workspace
        self._while_it_runs = while_it_runs
        self._several = len(job.programs) > 1
        self._current: PhaseRun | None = None
        self._killed: str | None = None
        self._began_at: float | None = None
        self._output_bytes = 0
        self._ran: dict[Phase, Ran] = {}
        self.last: PhaseRun | None = None
        """The one that has what the job leaves."""

    def kill(self, reason: str) -> None:
        """Kill what runs, and begin nothing more; the first reason counts."""
        self._killed = self._killed or reason
        if self._current is not None:
            self._current.kill(reason)

    def narrow(self, asked: Sequence[Connection]) -> None:
        """Let what runs connect to no more than this; what begins later is looked at then."""
        if self._current is not None:
            self._current.narrow(asked)

    async def run(self, stack: contextlib.AsyncExitStack) -> JobEnd:
        """Run them until one fails or the last has ended; the sandboxes are cleared away with the stack.

        Raises TenantryError when one could not be started; what the others used is told by `usage` even then.
        """
        *others, last = self._job.programs
        for program in others:
            end = await self._run_one(program, stack)
            if end.status is not JobStatus.SUCCEEDED:
                return end
        return await self._run_one(last, stack)

    @property
    def usage(self) -> dict[str, Any]:
        """What all of them used; of several also what each did."""
        ran = {phase: each for phase, each in self._ran.items() if self._counts(each)}
        if not self._several:
            return next((dict(each.usage) for each in ran.values()), {})
        names = dict.fromkeys(name for each in ran.values() for name in each.usage)
        total = {name: _together(name, [each.usage.get(name, 0) for each in ran.values()]) for name in names}
        return total | {"phases": {phase.value: dict(each.usage) for phase, each in ran.items()}} if ran else {}

    @property
    def receipt(self) -> Mapping[str, Any] | None:
        """What the kernel said of it; of several by the name of the phase."""
        receipts = {phase.value: each.receipt for phase, each in self._ran.items() if each.receipt is not None}
        if not self._several:
            return next(iter(receipts.values()), None)
        return {"phases": receipts} if receipts else None

    def _counts(self, ran: Ran) -> bool:
        return not self._several or ran.outcome.ending is not Ending.NOT_STARTED

    async def _run_one(self, program: JobPhase, stack: contextlib.AsyncExitStack) -> JobEnd:
        before, root = self.last, await self._root(program)
        if self._began_at is None:
            self._began_at = self._clock.monotonic()
        left = self._job.limits.timeout_seconds - (self._clock.monotonic() - self._began_at)
        if left < _LEAST_SECONDS:
            return spent_end(self._job, program.phase)
        workspace = before.left if before is not None else self._workspace
        spec = self._spec(program, root, seconds=left, workspace=workspace)
        if self._killed is not None:
            return killed_end(self._killed)
        run = self._current = PhaseRun(
            spec,
            network=[each for each in self._job.network if each.phase is program.phase],
            jail=self._jail,
            output=self._output,
            settings=self._settings,
            injections=self._secrets(program).injections,
            while_it_runs=self._while_it_runs,
        )
        stack.push_async_callback(run.close)
        # From here on news reach it; what came before is seen by looking.
        if (refused := await self._look(run)) is not None:
            return refused
        if self._several:
            self._output.begin_part(f"phase {program.phase} begins")
        if await run.start() or before is None:
            self.last = run
            if before is not None:
                await before.close()
        ran = self._ran[program.phase] = await run.wait()
        self._output_bytes += ran.outcome.usage.output_bytes
        if not self._several:
            return end_of(ran.outcome, killed=self._killed)
        return phase_end(ran.outcome, phase=program.phase, killed=self._killed)

    async def _look(self, run: PhaseRun) -> JobEnd | None:
        if not self._ran:
            return None
        found = await self._still_wanted()
        if isinstance(found, JobEnd):
            return found
        if self._killed is not None:
            return killed_end(self._killed)
        run.narrow(found.network)
        return None

    def _secrets(self, program: JobPhase) -> OpenedSecrets:
        return self._given.secrets.get(program.phase, OpenedSecrets())

    def _spec(self, program: JobPhase, root: ImageRoot, *, seconds: float, workspace: Fill | None) -> Spec:
        limits, phase = self._job.limits, program.phase
        secrets = self._secrets(program)
        return Spec(
            image=root,
            command=program.command,
            keep=self._job.sandbox_id is not None,
            env={**self._given.environments.get(phase, {}), **secrets.environment, **secrets.placeholders},
            inputs=tuple(InputFile(each.path, each.content) for each in self._given.inputs if program.inputs),
            secret_files=secrets.files,
            limits=Limits(
                cpus=limits.cpus,
                memory_mib=limits.memory_mib,
                pids=limits.pids,
                timeout_seconds=min(seconds, program.timeout_seconds or seconds),
                output_bytes=limits.output_bytes - self._output_bytes,
                disk_mib=disk_mib_of(limits),
            ),
            workspace=workspace,
            workspace_writable=program.writable,
        )


def _together(name: str, values: Sequence[float | None]) -> float | None:
    """Sum up, or say that it is not known where it is not of one of them."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return max(known) if name in _HIGHEST else sum(known)
