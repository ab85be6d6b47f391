"""The end of a job: its row, its purge date, its audit event, what it used, in the session's transaction."""

from typing import Final

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome as AuditOutcome
from tenantry.capabilities.limits.service import MeteringService, settle
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.job_evidence import end_job_evidence
from tenantry.capabilities.sandboxes.service.measuring import used_by
from tenantry.capabilities.sandboxes.types import Job, JobEnd, JobStatus
from tenantry.engines.jail.types import Ending, Outcome
from tenantry.engines.rules.types import Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.settings import JobSettings

WORKER_STOPPED: Final = "worker_stopped"
LEASE_LOST: Final = "lease_lost"
"""A worker kills with this what it may not report: another decides on it."""
PHASE_FAILED: Final = "phase_failed"

_OURS: Final = {
    Ending.TIMED_OUT: JobStatus.TIMED_OUT,
    Ending.OUT_OF_MEMORY: JobStatus.FAILED,
    Ending.OUTPUT_LIMIT: JobStatus.FAILED,
    Ending.NOT_STARTED: JobStatus.FAILED,
}
_AUDITED: Final = {
    JobStatus.SUCCEEDED: AuditOutcome.SUCCESS,
    JobStatus.CANCELLED: AuditOutcome.SUCCESS,
    JobStatus.DENIED: AuditOutcome.DENIED,
}
_MAX_DETAIL: Final = 500


async def end_job(
    session: TenantSession,
    job: Job,
    end: JobEnd,
    *,
    settings: JobSettings,
    clock: Clock,
    inputs: bytes | None = None,
    artifact_bytes: int = 0,
    tree_bytes: int = 0,
) -> bool:
    """Write the end, its audit event, that evidence is to be locked, what was used, and settle its quotas; False, and
    nothing done, when it had ended before.

    `inputs` are those of a job whose content is not kept, sealed as its output is; without them they go now.
    `tree_bytes` is what was kept of the sandbox that lived by it.
    """
    now = clock.now()
    ended = await repository.end_job(session, job.job_id, end, inputs=inputs, settings=settings, now=now)
    if ended is None:
        return False
    reason, kept_bytes = ended
    await AuditService(session=session, clock=clock).record(
        f"job.{end.status}",
        resource_type="job",
        resource_id=format_id(Prefix.JOB, job.job_id),
        outcome=_AUDITED.get(end.status, AuditOutcome.ERROR),
        reason=reason,
        details={"exit_code": end.exit_code, "attempt": job.attempt},
    )
    await end_job_evidence(session, job, at=now)
    await MeteringService(session=session, clock=clock).record(used_by(job, end, at=now))
    used = {Quota.STORAGE: kept_bytes + artifact_bytes}
    if job.sandbox_id is None:
        used[Quota.DAILY_JOBS] = 0 if job.started_at is None else 1
    await settle(session, job.job_id, used, clock=clock)
    if job.tree_id is not None:
        await settle(session, job.tree_id, {Quota.STORAGE: tree_bytes}, clock=clock)
    return True


def end_of(outcome: Outcome, *, killed: str | None) -> JobEnd:
    """Say in the words of jobs how a sandbox ended; `killed` is why the worker killed it, if it did."""
    if outcome.ending is Ending.EXITED:
        status, reason = JobStatus.SUCCEEDED if outcome.exit_code == 0 else JobStatus.FAILED, "exited"
    elif outcome.ending is Ending.KILLED:
        return killed_end(killed or "killed", outcome.detail)
    else:
        status, reason = _OURS[outcome.ending], outcome.ending.value
    return JobEnd(status, reason, outcome.detail[:_MAX_DETAIL], outcome.exit_code)


def phase_end(outcome: Outcome, *, phase: Phase, killed: str | None) -> JobEnd:
    """Say how one of several programs ended: a failure is the job's, named in its detail; a kill is nobody's."""
    end = end_of(outcome, killed=killed)
    if outcome.ending is Ending.KILLED or end.status is JobStatus.SUCCEEDED:
        return end
    told = f"exited with {end.exit_code}" if outcome.ending is Ending.EXITED else f"{end.reason}: {end.detail}"
    reason = PHASE_FAILED if end.status is JobStatus.FAILED else end.reason
    return JobEnd(end.status, reason, f"{phase} {told}"[:_MAX_DETAIL], end.exit_code)


def spent_end(job: Job, phase: Phase) -> JobEnd:
    """End a job of which a phase cannot begin any more, since those before it took all its time."""
    detail = f"{phase} did not begin: those before it took the {job.limits.timeout_seconds:g} s of the job"
    return JobEnd(JobStatus.TIMED_OUT, Ending.TIMED_OUT.value, detail)


def killed_end(reason: str, detail: str = "") -> JobEnd:
    """Tell what was wished from what a worker's own stop kills: that has failed."""
    if reason == WORKER_STOPPED:
        return JobEnd(JobStatus.FAILED, reason, "its worker was stopped; it was not run again")
    return JobEnd(JobStatus.CANCELLED, reason, detail[:_MAX_DETAIL])


def failed_end(code: str, message: str) -> JobEnd:
    return JobEnd(JobStatus.FAILED, code, message[:_MAX_DETAIL])


def lost_end(job: Job) -> JobEnd:
    """End a job whose worker died; one that was being cancelled is cancelled all the same."""
    if job.reason is not None:
        return JobEnd(JobStatus.CANCELLED, job.reason, "its worker died while it was being cancelled")
    detail = "the worker that ran it died or lost its lease; it was not run again"
    return JobEnd(JobStatus.FAILED, "worker_lost", detail)
