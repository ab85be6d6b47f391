"""One attempt at one job: take it, run it in the jail, report it, clear away.

A normal session takes the job, so that a suspended tenant's is refused by the fence itself; lifecycle sessions write
output and end, so that what ran is reported whatever has become of the tenant meanwhile.
"""

import asyncio
import contextlib
import dataclasses
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, TypeVar
from uuid import UUID

import structlog

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.egress import JobEgress
from tenantry.capabilities.sandboxes.service.ending import (
    LEASE_LOST,
    WORKER_STOPPED,
    end_job,
    end_of,
    failed_end,
    killed_end,
    lost_end,
)
from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.capabilities.sandboxes.service.job_secrets import SecretOpener
from tenantry.capabilities.sandboxes.service.output import JobOutput
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.service.queue_relay import QueueRelay
from tenantry.capabilities.sandboxes.types import Artifact, Job, JobEnd, JobInput, JobStatus, SealedLine, StartedJob
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.fairqueue.types import Claim
from tenantry.engines.jail.backend import Backend, Running
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.engines.jail.types import Ending, InputFile, Limits, Network, Spec
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import TenantScope
from tenantry.foundation.settings import JobSettings
from tenantry.kit.masking.known import secrets_of
from tenantry.kit.masking.stream import Mask

_RETRY_SECONDS: Final = 0.2
_MOVE_SECONDS: Final = 3.0
_DATABASE_LAYERS: Final = frozenset({"database", "fence"})
_MAX_ARTIFACTS: Final = 1000
_MOST_SKIPPED_TOLD: Final = 20

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")


class _OnTheMoveError(Exception):
    """The tenant cannot begin anything now, for longer than a claim should wait."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every attempt of a worker process works with."""

    cell: Cell
    jail: Backend
    content: JobContent
    secrets: SecretOpener
    library: ImageLibrary
    relay: QueueRelay
    settings: JobSettings
    clock: Clock


class Attempt:
    """Made for one claim; `live` is awaited once, `kill` may come at any time."""

    def __init__(self, workshop: Workshop, claim: Claim, scope: TenantScope) -> None:
        self._workshop = workshop
        self._claim = claim
        self._ticket = claim.ticket
        self._scope = scope
        self._sandbox: Running | None = None
        self._output: JobOutput | None = None
        self._egress: JobEgress | None = None
        self._killed: str | None = None
        self._begun = workshop.clock.monotonic()
        self._mask = Mask()
        self._transient: tuple[bytes, UUID] | None = None
        self._seal_inputs: Callable[[], bytes | None] = _no_inputs

    def kill(self, reason: str) -> None:
        """Kill what runs; the first reason counts, but a lost lease overrules all: then nothing is reported."""
        self._killed = reason if reason == LEASE_LOST else self._killed or reason
        if self._sandbox is not None:
            self._sandbox.kill(reason)
        if reason == LEASE_LOST and self._output is not None:
            self._output.abandon()

    async def narrow(self) -> None:
        """Look at what the job may still connect to, if it may at all."""
        if self._egress is None:
            return
        async with self._session() as session:
            job = await repository.find_job(session, self._ticket.entry)
        if job is not None:
            self._egress.narrow(job.network)

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
            end, artifacts = await self._run(started, stack)
            if self._killed == LEASE_LOST:
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
        return await end_job(session, job, end, settings=settings, clock=clock, inputs=inputs, artifact_bytes=kept)

    async def _run(self, started: StartedJob, stack: contextlib.AsyncExitStack) -> tuple[JobEnd, list[Artifact]]:
        """Run the job; whatever goes wrong is its end. The sandbox is closed with the stack."""
        try:
            return await self._run_sandbox(started, stack)
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
        return end, []

    async def _run_sandbox(
        self, started: StartedJob, stack: contextlib.AsyncExitStack
    ) -> tuple[JobEnd, list[Artifact]]:
        content, job, tenant_id = self._workshop.content, started.job, self._scope.tenant_id
        given_key = await self._patiently(lambda: content.open_given_key(tenant_id=tenant_id, job=job))
        environment, inputs = content.open_given(given_key, started.sealed_given, job_id=job.job_id)
        inputs += content.open_inputs(given_key, started.sealed_inputs, job_id=job.job_id)
        secrets = await self._patiently(lambda: self._workshop.secrets.open(job, self._scope))
        environment |= secrets.environment
        self._mask = Mask((*secrets.values, *secrets_of(environment)))
        key = await self._patiently(lambda: content.open_key(tenant_id=tenant_id, job=job))
        self._seal_inputs = lambda: content.seal_inputs(key, inputs, job_id=job.job_id)
        output = self._output = JobOutput(
            lambda lines: self._patiently(lambda: self._write(job, lines)),
            seal=lambda line: content.seal_line(key, line, job_id=job.job_id),
            mask=self._mask,
            clock=self._workshop.clock,
        )
        self._require_isolation(started)
        egress = JobEgress(job.network, settings=self._workshop.settings, say=self._say) if job.network else None
        self._egress = egress
        if egress is not None:
            stack.push_async_callback(egress.close)
        network = egress.network if egress else None
        spec = await self._spec(job, environment, inputs, secrets=secrets.files, network=network)
        if killed := self._why_killed():
            return killed_end(killed), []
        sandbox = self._sandbox = await self._workshop.jail.start(
            spec, output.take, attach=egress.attach if egress else None
        )
        stack.push_async_callback(self._clear_away, sandbox)
        if killed := self._why_killed():
            sandbox.kill(killed)
        outcome = await sandbox.wait()
        end = end_of(outcome, killed=self._killed)
        if outcome.ending not in (Ending.EXITED, Ending.KILLED):
            self._say(f"{end.reason}: {end.detail}" if end.detail else end.reason)
        receipt = sandbox.receipt.as_record() if sandbox.receipt else None
        usage = dataclasses.asdict(outcome.usage) | (egress.used() if egress else {})
        end = dataclasses.replace(end, usage=usage, receipt=receipt)
        wanted = job.artifact_globs and self._killed != LEASE_LOST
        return end, await self._collect(sandbox, job, key) if wanted else []

    def _require_isolation(self, started: StartedJob) -> None:
        """Refuse what this machine cannot isolate as asked: there is no silent downgrade."""
        jail, cgroup = self._workshop.jail, IsolationLevel.CGROUP
        if jail.isolation is not cgroup and cgroup.value in (
            started.min_isolation,
            self._workshop.settings.min_isolation,
        ):
            why = jail.hierarchy.reason or "none was found"
            raise Denied(
                "isolation_too_low", f"min_isolation is cgroup, probe cgroup of this worker: {why}", layer="jail"
            )

    def _why_killed(self) -> str | None:
        """Ask anew after each wait."""
        return self._killed

    async def _clear_away(self, sandbox: Running) -> None:
        try:
            await sandbox.close()
        except OSError as error:
            _log.error("sandbox.remains", sandbox=sandbox.id, reason=error.strerror)

    async def _spec(
        self,
        job: Job,
        environment: Mapping[str, str],
        inputs: Sequence[JobInput],
        *,
        secrets: tuple[InputFile, ...],
        network: Network | None,
    ) -> Spec:
        limits = job.limits
        return Spec(
            image=await self._workshop.library.root(tenant_id=self._scope.tenant_id, digest=job.image_digest),
            command=job.command,
            env=environment,
            inputs=tuple(InputFile(item.path, item.content) for item in inputs),
            network=network,
            secret_files=secrets,
            limits=Limits(
                cpus=limits.cpus,
                memory_mib=limits.memory_mib,
                pids=limits.pids,
                timeout_seconds=limits.timeout_seconds,
                output_bytes=limits.output_bytes,
                disk_mib=max(1, limits.memory_mib // 2),
            ),
        )

    async def _collect(self, sandbox: Running, job: Job, key: Keyset) -> list[Artifact]:
        found = await sandbox.artifacts(
            job.artifact_globs, max_files=_MAX_ARTIFACTS, max_bytes=job.limits.artifacts_mib << 20
        )
        artifacts = []
        for file in found:
            artifact_id = new_id()
            with contextlib.closing(await asyncio.to_thread(file.open)) as source:
                size, digest = await self._workshop.content.put_artifact(
                    key,
                    source,
                    tenant_id=self._scope.tenant_id,
                    job=job,
                    artifact_id=artifact_id,
                    limit=file.size_bytes,
                )
            now = self._workshop.clock.now()
            artifacts.append(Artifact(artifact_id, job.job_id, file.path, size, digest, now))
        for skipped in found.skipped[:_MOST_SKIPPED_TOLD]:
            self._say(f"artifact {skipped.path!r} was not kept: {skipped.reason}")
        if (more := len(found.skipped) - _MOST_SKIPPED_TOLD) > 0:
            self._say(f"and {more} more artifacts were not kept")
        return artifacts

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
        used = self._workshop.clock.monotonic() - self._begun
        async with self._session() as session:
            ended = await self._end(session, job, end, inputs=inputs, artifacts=artifacts)
            if not ended or not await QUEUE.finish(
                await session.connection(), ticket=self._ticket, used_slot_seconds=used
            ):
                await session.rollback()
                _log.info("job.result_discarded", job=format_id(Prefix.JOB, job.job_id), attempt=self._ticket.attempt)
                return
            if lines:
                await repository.insert_lines(session, job.job_id, workspace_id=job.workspace_id, lines=lines)
            if artifacts:
                await repository.insert_artifacts(session, artifacts, workspace_id=job.workspace_id)


def _no_inputs() -> bytes | None:
    return None
