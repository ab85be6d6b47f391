"""Asks policies again of jobs that wait, or that may connect to something: what was allowed when it was accepted may
not be any more.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.policies.types import Judge, Past
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.ending import end_job
from tenantry.capabilities.sandboxes.service.judging import detail_of, facts_of
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.types import Job, JobEnd, JobStatus
from tenantry.engines.rules.types import Kind, Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.settings import JobSettings

POLICY_CHANGED = "policy_changed"


class QueuedJobs:
    """The port `WaitingWork` of policies for jobs."""

    def __init__(self, *, content: JobContent, settings: JobSettings, clock: Clock) -> None:
        self._content = content
        self._settings = settings
        self._clock = clock

    async def recheck(self, session: TenantSession, *, workspace_id: UUID | None, kind: Kind, judge: Judge) -> int:
        """End each waiting job that is denied now. Their rows are locked, so no worker begins one meanwhile."""
        ended = 0
        for job, given in await repository.lock_queued_jobs(session, workspace_id=workspace_id):
            # Only rules of one's own can ask for the names of variables, which are sealed with their values.
            names = await self._names(session, job, given) if kind is Kind.RULES else {}
            outcome = judge(job.workspace_id, facts_of(job, env_names=names))
            if not outcome.denied:
                continue
            with database_errors():
                connection = await session.connection()
                await QUEUE.cancel(connection, first=session.scope.tenant_id, entry=job.job_id)
            end = JobEnd(JobStatus.DENIED, POLICY_CHANGED, detail_of(outcome))
            await end_job(session, job, end, settings=self._settings, clock=self._clock)
            ended += 1
        if kind is Kind.NETWORK:
            await self._narrow(session, workspace_id, judge)
        return ended

    async def _narrow(self, session: TenantSession, workspace_id: UUID | None, judge: Judge) -> None:
        """Take from running jobs what they may not connect to any more; their workers hear of it at the commit."""
        audit = AuditService(session=session, clock=self._clock)
        for job in await repository.lock_connected_jobs(session, workspace_id=workspace_id):
            facts = {each.phase: each for each in facts_of(job, env_names={})}
            kept = [
                one
                for one in job.network
                if not judge(job.workspace_id, (dataclasses.replace(facts[one.phase], network=(one,)),)).denied
            ]
            if len(kept) == len(job.network):
                continue
            await repository.narrow_network(session, job.job_id, kept)
            await audit.record(
                "job.narrowed",
                resource_type="job",
                resource_id=format_id(Prefix.JOB, job.job_id),
                reason=POLICY_CHANGED,
                details={"connections": len(kept), "taken": len(job.network) - len(kept)},
            )

    async def _names(self, session: TenantSession, job: Job, given: bytes | None) -> Mapping[Phase, Sequence[str]]:
        if given is None:
            return {}
        key = await self._content.open_given_key(tenant_id=session.scope.tenant_id, job=job)
        environments, _ = self._content.open_given(key, given, job_id=job.job_id)
        return {phase: tuple(environment) for phase, environment in environments.items()}


class PastJobs:
    """The port `PastWork` of policies for jobs."""

    async def recent(self, session: TenantSession, workspace_id: UUID, *, limit: int) -> list[Past]:
        jobs = await repository.list_jobs(session, workspace_id=workspace_id, before=None, limit=limit, status=None)
        return [
            Past(
                job=format_id(Prefix.JOB, job.job_id),
                at=job.queued_at,
                principal=job.principal_id,
                facts=facts_of(job, env_names={}),
                content_kept=job.persistence_mode == "full",
            )
            for job in jobs
        ]
