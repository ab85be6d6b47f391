"""One attempt at one job: take it, run it in the jail, report it, clear away.

A normal session takes the job, so that a suspended tenant's is refused by the fence itself; lifecycle sessions write
output and end, so that what ran is reported whatever has become of the tenant meanwhile.
"""

import asyncio
import contextlib
import dataclasses
import traceback
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final, TypeVar
from uuid import UUID

import structlog

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.collecting import collect_artifacts
from tenantry.capabilities.sandboxes.service.ending import (
    LEASE_LOST,
    WORKER_STOPPED,
    end_job,
    failed_end,
    killed_end,
    lost_end,
)
from tenantry.capabilities.sandboxes.service.job_secrets import values_of
from tenantry.capabilities.sandboxes.service.output import JobOutput
from tenantry.capabilities.sandboxes.service.phases import Given, JobPhases
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.service.workshop import Workshop
from tenantry.capabilities.sandboxes.types import Artifact, Job, JobEnd, JobStatus, SealedLine, StartedJob
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.fairqueue.types import Claim
from tenantry.engines.jail.backend import Running
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Outcome
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import TenantScope
from tenantry.kit.masking.known import secrets_of
from tenantry.kit.masking.stream import Mask

_RETRY_SECONDS: Final = 0.2
_MOVE_SECONDS: Final = 3.0
_DATABASE_LAYERS: Final = frozenset({"database", "fence"})

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")


class _OnTheMoveError(Exception):
    """The tenant cannot begin anything now, for longer than a claim should wait."""


class Attempt:
    """Made for one claim; `live` is awaited once, `kill` may come at any time."""

    def __init__(self, workshop: Workshop, claim: Claim, scope: TenantScope) -> None:
        self._workshop = workshop
        self._claim = claim
        self._ticket = claim.ticket
        self._scope = scope
        self._phases: JobPhases | None = None
        self._output: JobOutput | None = None
        self._killed: str | None = None
        self._begun = workshop.clock.monotonic()
        self._mask = Mask()
        self._transient: tuple[bytes, UUID] | None = None
        self._seal_inputs: Callable[[], bytes | None] = _no_inputs
        self._tree_bytes = 0

    def kill(self, reason: str) -> None:
        """Kill what runs; the first reason counts, but a lost lease overrules all: then nothing is reported."""
        self._killed = reason if reason == LEASE_LOST else self._killed or reason
        if self._phases is not None:
            self._phases.kill(reason)
        if reason == LEASE_LOST and self._output is not None:
            self._output.abandon()

    async def narrow(self) -> None:
        """Look at what the job may still connect to, if it may at all."""
        phases = self._phases
        if phases is None:
            return
        async with self._session() as session:
            job = await repository.find_job(session, self._ticket.entry)
        if job is not None:
            phases.narrow(job.network)

    async def live(self) -> bool:
        """Run the claim to its end; False when it was not begun and is to be given back, its tenant being on the move.

        Raises TenantryError when it could not be reported, then the lease decides.
        """
        if self._killed in (LEASE_LOST, WORKER_STOPPED):
            return True  # not begun: the claim lapses and another worker has it
        refusal = "workspace_suspended"
        try:
            started = await self._patiently(self._start, at_most=_MOVE_SECONDS)
        except Denied as error:
            started, refusal = None, error.code
        except _OnTheMoveError:
            return False
        if started is None:
            await self._patiently(lambda: self._settle(refusal))
            return True
        # Reported first, cleared away after: whoever waits need not wait for that.
        async with contextlib.AsyncExitStack() as stack:
            end, artifacts = await self._run_to_end(started, stack)
            if self._killed == LEASE_LOST:
                await self._discard(started.job)
                return True
            end = dataclasses.replace(end, detail=self._mask.text(end.detail))
            lines = await self._output.finish() if self._output else []
            if self._output:
                end = dataclasses.replace(end, log_bytes=self._output.size, log_sha256=self._output.sha256)
            # What the stored key has sealed goes; in mode `full` it stays as it is.
            inputs = self._seal_inputs() if started.job.transient_key is not None else None
            await self._patiently(lambda: self._report(started.job, end, lines, artifacts, inputs))
        return True

    async def _patiently(self, work: Callable[[], Awaitable[_Result]], *, at_most: float = inf) -> _Result:
        """Repeat while the database is away. What ends the patience is the end of the lease, which kills.

        Raises what else is away, and what a repetition does not mend, at once.

        `at_most` is how long, in seconds, a tenant on the move is waited for; then raises _OnTheMoveError.
        """
        begun = self._workshop.clock.monotonic()
        while True:
            try:
                with database_errors():
                    return await work()
            except Unavailable as error:
                if self._killed == LEASE_LOST or error.layer not in _DATABASE_LAYERS:
                    raise
                if error.code == "tenant_read_only" and self._workshop.clock.monotonic() - begun > at_most:
                    raise _OnTheMoveError from error
                _log.warning("job.database_away", job=format_id(Prefix.JOB, self._ticket.entry), code=error.code)
            await asyncio.sleep(_RETRY_SECONDS)

    def _session(self) -> TenantSession:
        return self._workshop.cell.session(self._scope, lifecycle=True)

    async def _start(self) -> StartedJob | None:
        now, entry = self._workshop.clock.now(), self._ticket.entry
        # Made once: a start that is repeated must find its own again.
        self._transient = self._transient or await self._workshop.content.make_transient_key(
            tenant_id=self._scope.tenant_id, job_id=entry
        )
        # Each time anew: the tenant may have moved to a database of its own meanwhile.
        await self._workshop.relay.note(self._claim)
        async with self._workshop.cell.session(self._scope) as session:
            return await repository.start_job(
                session, entry, attempt=self._ticket.attempt, transient=self._transient, now=now
            )

    async def _settle(self, refusal: str) -> None:
        """End a claim that may not start: its tenant or workspace is closed, or an older attempt has it."""
        async with self._session() as session:
            job = await repository.find_job(session, self._ticket.entry, lock=True)
            if not await QUEUE.finish(await session.connection(), ticket=self._ticket, used_slot_seconds=0.0):
                return
            if job is None:
                return
            if job.status is JobStatus.QUEUED:
                await self._end(session, job, JobEnd(JobStatus.CANCELLED, refusal, "its tenant or workspace is closed"))
            elif job.status is JobStatus.RUNNING:  # of an attempt before this one, whose report would be refused
                await self._end(session, job, lost_end(job))

    async def _end(
        self,
        session: TenantSession,
        job: Job,
        end: JobEnd,
        *,
        inputs: bytes | None = None,
        artifacts: Sequence[Artifact] = (),
    ) -> bool:
        kept = sum(artifact.size_bytes for artifact in artifacts)
        settings, clock = self._workshop.settings, self._workshop.clock
        return await end_job(
            session,
            job,
            end,
            settings=settings,
            clock=clock,
            inputs=inputs,
            artifact_bytes=kept,
            tree_bytes=self._tree_bytes,
        )

    async def _run_to_end(self, started: StartedJob, stack: contextlib.AsyncExitStack) -> tuple[JobEnd, list[Artifact]]:
        """Run the job; whatever goes wrong is its end. The sandbox is closed with the stack."""
        try:
            return await self._run_programs(started, stack)
        except Denied as error:
            end = JobEnd(JobStatus.DENIED, error.code, error.message)
        except TenantryError as error:
            end = failed_end(error.code, error.message)
        except Exception as error:  # noqa: BLE001 - whatever it was, the job must say that it failed
            # Places only: the text of an error may hold what the job was given.
            where = traceback.format_tb(error.__traceback__)
            _log.error(
                "job.fault", job=format_id(Prefix.JOB, started.job.job_id), kind=type(error).__name__, where=where
            )
            end = failed_end("internal", "an error of ours; the log knows it by the job's id")
        if self._killed is not None:
            end = killed_end(self._killed, end.detail)
        self._say(f"{end.reason}: {end.detail}")
        return self._measured(end), []

    async def _run_programs(
        self, started: StartedJob, stack: contextlib.AsyncExitStack
    ) -> tuple[JobEnd, list[Artifact]]:
        content, job, tenant_id = self._workshop.content, started.job, self._scope.tenant_id
        given = await self._open_given(started)
        named = (value for environment in given.environments.values() for value in secrets_of(environment))
        self._mask = Mask((*values_of(given.secrets), *named))
        key = await self._patiently(lambda: content.open_key(tenant_id=tenant_id, job=job))
        self._seal_inputs = lambda: content.seal_inputs(key, given.inputs, job_id=job.job_id)
        output = self._output = JobOutput(
            lambda lines: self._patiently(lambda: self._write(job, lines)),
            seal=lambda line: content.seal_line(key, line, job_id=job.job_id),
            mask=self._mask,
            clock=self._workshop.clock,
        )
        self._require_isolation(started)
        phases = self._phases = JobPhases(
            job,
            given,
            jail=self._workshop.jail,
            root=lambda program: self._workshop.library.root(tenant_id=tenant_id, digest=program.image_digest),
            still_wanted=self._still_wanted,
            output=output,
            settings=self._workshop.settings,
            clock=self._workshop.clock,
            workspace=await self._workspace(job),
            while_it_runs=lambda sandbox: self._while_it_runs(sandbox, job),
        )
        if killed := self._why_killed():
            return killed_end(killed), []
        end = self._retold(await phases.run(stack))
        if end.reason != "exited" and end.status is not JobStatus.CANCELLED and self._killed is None:
            self._say(f"{end.reason}: {end.detail}" if end.detail else end.reason)
        end = self._measured(end)
        if self._killed == LEASE_LOST:
            return end, []
        end = await self._keep(job, end)
        return end, await self._collect(phases, job, key) if job.artifact_globs else []

    async def _open_given(self, started: StartedJob) -> Given:
        """Open what its programs are given; all at once, so that what cannot be had is known before any begins."""
        content, job, tenant_id = self._workshop.content, started.job, self._scope.tenant_id
        given_key = await self._patiently(lambda: content.open_given_key(tenant_id=tenant_id, job=job))
        environments, inputs = content.open_given(given_key, started.sealed_given, job_id=job.job_id)
        inputs += content.open_inputs(given_key, started.sealed_inputs, job_id=job.job_id)
        secrets = await self._patiently(lambda: self._workshop.secrets.open(job, self._scope))
        return Given(environments, inputs, secrets)

    async def _still_wanted(self) -> Job | JobEnd:
        """Look at the job before its next phase, by a normal session: the fence refuses that of a suspended tenant."""
        entry, attempt = self._ticket.entry, self._ticket.attempt

        async def look() -> Job | None:
            async with self._workshop.cell.session(self._scope) as session:
                return await repository.find_running_job(session, entry, attempt=attempt)

        try:
            job = await self._patiently(look)
        except Denied as error:
            return killed_end(error.code)
        return job if job is not None else killed_end(self._killed or "cancelled")

    def _measured(self, end: JobEnd) -> JobEnd:
        """Add what its programs used, those that ended before something went wrong too."""
        phases = self._phases
        return end if phases is None else dataclasses.replace(end, usage=phases.usage, receipt=phases.receipt)

    async def _workspace(self, _job: Job) -> Fill | None:
        """Find what lies in /workspace when its first program begins."""
        return None

    async def _while_it_runs(self, sandbox: Running, _job: Job) -> Outcome:
        return await sandbox.wait()

    def _retold(self, end: JobEnd) -> JobEnd:
        """Tell of the end in words of its own, where it has any."""
        return end

    async def _keep(self, _job: Job, end: JobEnd) -> JobEnd:
        """Keep what outlives the sandbox besides artifacts; gives the end, which may tell that it could not."""
        return end

    async def _report_kept(self, session: TenantSession, job: Job) -> None:
        """Write what was kept, in the transaction of the end."""

    async def _discard(self, job: Job) -> None:
        """Clear away what was kept and does not count: another decides on this job."""

    def _used_slot_seconds(self, _end: JobEnd) -> float:
        return self._workshop.clock.monotonic() - self._begun

    def _require_isolation(self, started: StartedJob) -> None:
        """Refuse what this machine cannot isolate as asked: there is no silent downgrade."""
        jail = self._workshop.jail
        for least in filter(None, (started.min_isolation, self._workshop.settings.min_isolation)):
            if jail.isolation.reaches(least):
                continue
            bounded = jail.isolation is not IsolationLevel.RLIMIT
            why = f"it is {jail.isolation}" if bounded else jail.hierarchy.reason or "none was found"
            raise Denied(
                "isolation_too_low", f"min_isolation is {least}, probe {least} of this worker: {why}", layer="jail"
            )

    def _why_killed(self) -> str | None:
        """Ask anew after each wait."""
        return self._killed

    async def _collect(self, phases: JobPhases, job: Job, key: Keyset) -> list[Artifact]:
        if phases.last is None:
            return []
        return await collect_artifacts(
            phases.last,
            job,
            tenant_id=self._scope.tenant_id,
            key=key,
            content=self._workshop.content,
            say=self._say,
            clock=self._workshop.clock,
        )

    def _say(self, text: str) -> None:
        if self._output is not None:
            self._output.say(text)

    async def _write(self, job: Job, lines: list[SealedLine]) -> None:
        async with self._session() as session:
            await repository.insert_lines(session, job.job_id, workspace_id=job.workspace_id, lines=lines)

    async def _report(
        self, job: Job, end: JobEnd, lines: list[SealedLine], artifacts: list[Artifact], inputs: bytes | None
    ) -> None:
        """Write the end, the last output and the artifacts in one transaction, fenced by the attempt.

        Repeating it when the commit is in doubt is safe: a job ends once. Locks the job, then its claim, as all do.
        """
        used = self._used_slot_seconds(end)
        async with self._session() as session:
            ended = await self._end(session, job, end, inputs=inputs, artifacts=artifacts)
            if not ended or not await QUEUE.finish(
                await session.connection(), ticket=self._ticket, used_slot_seconds=used
            ):
                await session.rollback()
                _log.info("job.result_discarded", job=format_id(Prefix.JOB, job.job_id), attempt=self._ticket.attempt)
                await self._discard(job)
                return
            if lines:
                await repository.insert_lines(session, job.job_id, workspace_id=job.workspace_id, lines=lines)
            if artifacts:
                await repository.insert_artifacts(session, artifacts, workspace_id=job.workspace_id)
            await self._report_kept(session, job)


def _no_inputs() -> bytes | None:
    return None
