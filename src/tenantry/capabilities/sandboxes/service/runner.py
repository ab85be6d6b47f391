"""Runs one claimed job in the jail, in a worker: start, stream, collect, report.

A normal session starts the job, so that a suspended tenant's is refused by the fence itself; lifecycle sessions write
output and end, so that what ran is reported whatever has become of the tenant meanwhile.
"""

import asyncio
import codecs
import contextlib
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome as AuditOutcome
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.types import Artifact, Job, JobEnd, JobStatus, LogLine, SealedLine
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.fairqueue.types import Claim, Ticket
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.types import Ending, InputFile, Limits, Outcome, Spec, Stream
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied, TenantryError
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import SYSTEM, TenantScope, scoped
from tenantry.foundation.settings import JobSettings
from tenantry.foundation.telemetry import JOBS_RUNNING

_FLUSH_SECONDS: Final = 0.1
_FLUSH_BYTES: Final = 64 << 10
_MAX_ARTIFACTS: Final = 1000
_MAX_ARTIFACT_BYTES: Final = 1 << 30

_STATUS: Final = {
    Ending.TIMED_OUT: (JobStatus.TIMED_OUT, "timed_out"),
    Ending.OUT_OF_MEMORY: (JobStatus.FAILED, "out_of_memory"),
    Ending.OUTPUT_LIMIT: (JobStatus.FAILED, "output_limit"),
    Ending.NOT_STARTED: (JobStatus.FAILED, "not_started"),
}
LEASE_LOST: Final = "lease_lost"

_log = structlog.get_logger(__name__)


class JobRunner:
    """What a worker process has one of; `run` is called for each claim, many at once."""

    def __init__(
        self,
        *,
        cell: Cell,
        jail: Jail,
        content: JobContent,
        library: ImageLibrary,
        settings: JobSettings,
        clock: Clock,
    ) -> None:
        self.cell = cell
        self.jail = jail
        self.content = content
        self.library = library
        self._settings = settings
        self.clock = clock
        self._running: dict[Ticket, _Run] = {}

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        return tuple(self._running)

    def kill(self, ticket: Ticket, reason: str) -> None:
        """Kill a running job; with `LEASE_LOST` its result is another's to report and is discarded."""
        if run := self._running.get(ticket):
            run.kill(reason)

    async def run(self, claim: Claim) -> None:
        """Run one claim to its end. Whatever goes wrong is reported on the job; nothing is raised but cancellation."""
        tenant_id, workspace_id, _ = claim.levels
        scope = TenantScope(tenant_id=tenant_id, region=self.cell.region, actor=SYSTEM, workspace_id=workspace_id)
        run = self._running[claim.ticket] = _Run(self, claim.ticket, scope)
        JOBS_RUNNING.inc()
        try:
            with scoped(scope):
                await run.live()
        except TenantryError as error:
            # The job is still the queue's: its lease lapses and the sweep decides.
            _log.warning("job.interrupted", job=format_id(Prefix.JOB, claim.ticket.entry), code=error.code)
        finally:
            JOBS_RUNNING.dec()
            del self._running[claim.ticket]

    async def report_lost(self, claim_levels: tuple[UUID, UUID, UUID], ticket: Ticket) -> bool:
        """Decide on a lapsed claim: True when the job had not started and may run again; else it is reported lost."""
        tenant_id, workspace_id, _ = claim_levels
        scope = TenantScope(tenant_id=tenant_id, region=self.cell.region, actor=SYSTEM, workspace_id=workspace_id)
        async with self.cell.session(scope, lifecycle=True) as session:
            job = await repository.find_job(session, ticket.entry, lock=True)
            if job is None or job.status.ended:
                return False
            if job.status is JobStatus.QUEUED:
                return True
            end = JobEnd(
                status=JobStatus.FAILED,
                reason="worker_lost",
                detail="the worker that ran it died or lost its lease; it was not run again",
                exit_code=None,
                usage={},
                receipt=None,
                log_bytes=job.log_bytes,
                log_sha256=None,
            )
            await self.end(session, job, end)
        return False

    async def end(self, session: TenantSession, job: Job, end: JobEnd) -> None:
        """Write an end and its audit event into the session's transaction."""
        now = self.clock.now()
        keep = timedelta(seconds=self._settings.content_grace_seconds)
        if job.persistence_mode == "full":
            keep = timedelta(days=self._settings.retention_days)
        await repository.end_job(session, job.job_id, end, now=now, content_until=now + keep)
        await AuditService(session=session, clock=self.clock).record(
            f"job.{end.status}",
            resource_type="job",
            resource_id=format_id(Prefix.JOB, job.job_id),
            outcome=AuditOutcome.SUCCESS if end.status is JobStatus.SUCCEEDED else AuditOutcome.ERROR,
            reason=end.reason,
            details={"exit_code": end.exit_code, "attempt": job.attempt},
        )


class _Run:
    """One attempt at one job."""

    def __init__(self, runner: JobRunner, ticket: Ticket, scope: TenantScope) -> None:
        self._runner = runner
        self._ticket = ticket
        self._scope = scope
        self._sandbox: Sandbox | None = None
        self._killed: str | None = None
        self._receipt: dict[str, object] | None = None
        self._output: _Output | None = None
        self._started = runner.clock.monotonic()

    def kill(self, reason: str) -> None:
        self._killed = self._killed or reason
        if self._sandbox is not None:
            self._sandbox.kill(reason)

    async def live(self) -> None:
        runner = self._runner
        started = await self._start()
        if started is None:
            return
        job, sealed_environment = started
        key = await runner.content.open_key(tenant_id=self._scope.tenant_id, job=job)
        self._output = _Output(self._flush, job=job, key=key, content=runner.content, clock=runner.clock)
        try:
            spec = await self._spec(job, key, sealed_environment)
            end, artifacts = await self._run(spec, job, key)
        except TenantryError as error:
            end, artifacts = self._failed(error.code, error.message), []
        except Exception as error:  # noqa: BLE001 - whatever it was, the job must say that it failed
            _log.exception("job.fault", job=format_id(Prefix.JOB, job.job_id), kind=type(error).__name__)
            end, artifacts = self._failed("internal", "an error of ours; the log knows it by the job's id"), []
        if self._killed == LEASE_LOST:
            return
        await self._finish(job, end, artifacts)

    async def _start(self) -> tuple[Job, bytes | None] | None:
        runner, ticket = self._runner, self._ticket
        try:
            async with runner.cell.session(self._scope) as session:
                started = await repository.start_job(
                    session, ticket.entry, attempt=ticket.attempt, now=runner.clock.now()
                )
        except Denied as error:
            started = None
            _log.info("job.refused", code=error.code)
        if started is None:
            await self._settle_unstarted()
        return started

    async def _settle_unstarted(self) -> None:
        """End a claim that may not start: its tenant or workspace is closed, or it has ended already."""
        runner = self._runner
        async with runner.cell.session(self._scope, lifecycle=True) as session:
            job = await repository.find_job(session, self._ticket.entry, lock=True)
            if not await QUEUE.finish(await session.connection(), ticket=self._ticket, used_slot_seconds=0.0):
                return
            if job is not None and job.status is JobStatus.QUEUED:
                end = _cancelled("suspended", "its tenant or workspace is closed")
                await runner.end(session, job, end)

    async def _spec(self, job: Job, key: Keyset, sealed_environment: bytes | None) -> Spec:
        content, library = self._runner.content, self._runner.library
        inputs = await content.get_inputs(key, job, tenant_id=self._scope.tenant_id)
        limits = job.limits
        return Spec(
            image=await library.root(tenant_id=self._scope.tenant_id, digest=job.image_digest),
            command=job.command,
            env=content.open_environment(key, sealed_environment, job_id=job.job_id),
            inputs=tuple(InputFile(item.path, item.content) for item in inputs),
            limits=Limits(
                cpus=limits.cpus,
                memory_mib=limits.memory_mib,
                pids=limits.pids,
                timeout_seconds=limits.timeout_seconds,
                output_bytes=limits.output_bytes,
                disk_mib=max(1, limits.memory_mib // 2),
            ),
        )

    async def _run(self, spec: Spec, job: Job, key: Keyset) -> tuple[JobEnd, list[Artifact]]:
        output = self._output
        assert output is not None, "set by live"  # noqa: S101 - an invariant of this class
        async with await self._runner.jail.start(spec, output.take) as sandbox:
            self._sandbox = sandbox
            if self._killed is not None:
                sandbox.kill(self._killed)
            outcome = await sandbox.wait()
            receipt = sandbox.receipt
            self._receipt = receipt.as_record() if receipt else None
            artifacts = await self._collect(sandbox, job, key) if job.artifact_globs else []
        return self._ended(outcome), artifacts

    async def _collect(self, sandbox: Sandbox, job: Job, key: Keyset) -> list[Artifact]:
        found = await sandbox.artifacts(job.artifact_globs, max_files=_MAX_ARTIFACTS, max_bytes=_MAX_ARTIFACT_BYTES)
        artifacts = []
        for file in found:
            artifact_id = new_id()
            with contextlib.closing(await asyncio.to_thread(file.open)) as source:
                size, digest = await self._runner.content.put_artifact(
                    key,
                    source,
                    tenant_id=self._scope.tenant_id,
                    job_id=job.job_id,
                    artifact_id=artifact_id,
                    limit=file.size_bytes,
                )
            now = self._runner.clock.now()
            artifacts.append(Artifact(artifact_id, job.job_id, file.path, size, digest, now))
        for skipped in found.skipped[:20]:
            self._say(f"artifact {skipped.path!r} was not kept: {skipped.reason}")
        return artifacts

    def _ended(self, outcome: Outcome) -> JobEnd:
        if outcome.ending is Ending.EXITED:
            good = outcome.exit_code == 0
            status = JobStatus.SUCCEEDED if good else JobStatus.FAILED
            return self._end(status, "exited", outcome.detail, outcome)
        if outcome.ending is Ending.KILLED:
            return self._end(JobStatus.CANCELLED, self._killed or "killed", outcome.detail, outcome)
        status, reason = _STATUS[outcome.ending]
        self._say(f"{reason}: {outcome.detail}" if outcome.detail else reason)
        return self._end(status, reason, outcome.detail, outcome)

    def _end(self, status: JobStatus, reason: str, detail: str, outcome: Outcome) -> JobEnd:
        usage = dataclasses.asdict(outcome.usage)
        return JobEnd(status, reason, detail[:500], outcome.exit_code, usage, self._receipt, 0, None)

    def _failed(self, reason: str, detail: str) -> JobEnd:
        if self._killed is not None:
            return JobEnd(JobStatus.CANCELLED, self._killed, detail[:500], None, {}, self._receipt, 0, None)
        self._say(f"{reason}: {detail}")
        return JobEnd(JobStatus.FAILED, reason, detail[:500], None, {}, self._receipt, 0, None)

    def _say(self, text: str) -> None:
        """Write a line of ours into the job's output: what an agent reads instead of guessing."""
        if self._output is not None:
            self._output.say(text)

    async def _finish(self, job: Job, end: JobEnd, artifacts: list[Artifact]) -> None:
        """Report the end, the last output and the artifacts in one transaction, fenced by the attempt."""
        output = self._output
        assert output is not None, "set by live"  # noqa: S101 - an invariant of this class
        await output.stop()
        end = dataclasses.replace(end, log_bytes=output.size, log_sha256=output.digest)
        runner = self._runner
        used = runner.clock.monotonic() - self._started
        async with runner.cell.session(self._scope, lifecycle=True) as session:
            if not await QUEUE.finish(await session.connection(), ticket=self._ticket, used_slot_seconds=used):
                await session.rollback()
                return
            if lines := output.take_sealed():
                await repository.insert_lines(session, job.job_id, workspace_id=job.workspace_id, lines=lines)
            for artifact in artifacts:
                await repository.insert_artifact(session, artifact, workspace_id=job.workspace_id)
            if self._killed is not None and end.status is JobStatus.CANCELLED:
                end = dataclasses.replace(end, reason=await self._reason(session, job) or end.reason)
            await runner.end(session, job, end)

    async def _reason(self, session: TenantSession, job: Job) -> str | None:
        """Who cancelled it said why, on the row."""
        now = await repository.find_job(session, job.job_id)
        return now.reason if now else None

    async def _flush(self, job: Job, lines: list[SealedLine]) -> None:
        async with self._runner.cell.session(self._scope, lifecycle=True) as session:
            await repository.insert_lines(session, job.job_id, workspace_id=job.workspace_id, lines=lines)


def _cancelled(reason: str, detail: str) -> JobEnd:
    return JobEnd(JobStatus.CANCELLED, reason, detail, None, {}, None, 0, None)


class _Output:
    """Output on its way: bytes become text a piece at a time, pieces are sealed and written in small batches."""

    def __init__(
        self,
        flush: Callable[[Job, list[SealedLine]], Awaitable[None]],
        *,
        job: Job,
        key: Keyset,
        content: JobContent,
        clock: Clock,
    ) -> None:
        self._write = flush
        self._job = job
        self._key = key
        self._content = content
        self._clock = clock
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in Stream}
        self._pending: list[LogLine] = []
        self._pending_bytes = 0
        self._seq = 0
        self._digest = hashlib.sha256()
        self._timer: asyncio.Task[None] | None = None
        self.size = 0

    @property
    def digest(self) -> bytes:
        return self._digest.digest()

    async def take(self, stream: Stream, data: bytes) -> None:
        """Take a piece as it comes; waits for the database when a lot is on its way, which slows the program down."""
        self.size += len(data)
        self._digest.update(data)
        self._append(stream.value, self._decoders[stream].decode(data))
        if self._pending_bytes >= _FLUSH_BYTES:
            await self._flush()
        elif self._timer is None:
            self._timer = asyncio.create_task(self._flush_later())

    def say(self, text: str) -> None:
        self._append("system", f"[tenantry] {text}\n")

    async def stop(self) -> None:
        """End the batches; what is left waits for `take_sealed`."""
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer
        for stream, decoder in self._decoders.items():
            self._append(stream.value, decoder.decode(b"", final=True))

    def take_sealed(self) -> list[SealedLine]:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        return [self._content.seal_line(self._key, line, job_id=self._job.job_id) for line in pending]

    def _append(self, stream: str, text: str) -> None:
        if not text:
            return
        self._pending_bytes += len(text)
        last = self._pending[-1] if self._pending else None
        if last is not None and last.stream == stream and len(last.text) < _FLUSH_BYTES:
            self._pending[-1] = dataclasses.replace(last, text=last.text + text)
            return
        self._seq += 1
        self._pending.append(LogLine(self._seq, stream, self._clock.now(), text))

    async def _flush_later(self) -> None:
        await asyncio.sleep(_FLUSH_SECONDS)
        self._timer = None
        await self._flush()

    async def _flush(self) -> None:
        if lines := self.take_sealed():
            await self._write(self._job, lines)
