"""Ends jobs before their time: one at its owner's wish, all of a tenant or workspace that is closed."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from tenantry.capabilities.access.types import Decision
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.ending import end_job
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.types import Job, JobEnd, JobStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.settings import JobSettings

TENANT_MOVING: Final = "tenant_moving"


class JobStopper:
    """The `Stopper` port of tenants for jobs."""

    def __init__(self, *, settings: JobSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def stop_all(self, session: TenantSession, *, workspace_id: UUID | None, reason: str) -> int:
        """Cancel every open job of a workspace, or with None of the tenant; tells how many."""
        jobs = await repository.lock_open_jobs(session, workspace_id=workspace_id)
        for job in jobs:
            await self.stop(session, job, reason=reason)
        return len(jobs)

    async def stop_granted(
        self, session: TenantSession, grant_id: UUID, *, reason: str, judge: Callable[[Job], Awaitable[Decision]]
    ) -> int:
        """Cancel every open job that an ended grant alone allowed; tells how many.

        `judge` decides anew: what something else allows goes on, by that.
        """
        stopped = 0
        for job in await repository.lock_granted_jobs(session, grant_id):
            decision = await judge(job)
            if decision.allowed:
                await repository.set_grant(session, job.job_id, decision.grant_id)
                continue
            await self.stop(session, job, reason=reason)
            stopped += 1
        return stopped

    async def stop(self, session: TenantSession, job: Job, *, reason: str) -> None:
        """Cancel a job whose row is locked. The job is locked before its claim, here as everywhere."""
        with database_errors():
            connection = await session.connection()
            await QUEUE.cancel(connection, first=session.scope.tenant_id, entry=job.job_id)
        if job.status is JobStatus.RUNNING:
            await repository.request_cancellation(session, job.job_id, reason=reason)
            await AuditService(session=session, clock=self._clock).record(
                "job.cancel_requested",
                resource_type="job",
                resource_id=format_id(Prefix.JOB, job.job_id),
                reason=reason,
            )
            return
        # Not begun, so it never will be: a worker that has just claimed it finds it ended.
        end = JobEnd(JobStatus.CANCELLED, reason, "it had not started")
        await end_job(session, job, end, settings=self._settings, clock=self._clock)


class SandboxDrain:
    """The `Drain` port of tenants: sandboxes only wait, so they are stopped as by hand.

    One that keeps nothing would lose its files by that, so it is waited for as any job.
    """

    def __init__(self, stopper: JobStopper) -> None:
        self._stopper = stopper

    async def drain(self, session: TenantSession) -> int:
        """Stop each that runs and keeps its files; tells how many."""
        jobs = await repository.lock_open_jobs(session, workspace_id=None)
        living = [job for job in jobs if job.tree_id is not None and job.status is JobStatus.RUNNING]
        stopping = [job for job in living if job.reason is None]
        for job in stopping:
            await self._stopper.stop(session, job, reason=TENANT_MOVING)
        return len(stopping)
