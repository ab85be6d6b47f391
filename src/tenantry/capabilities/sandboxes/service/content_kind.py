"""The content of jobs, as the purge list knows it."""

from typing import ClassVar
from uuid import UUID

from tenantry.capabilities.limits.service import give_back
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.types import CONTENT
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession


class JobContentKind:
    """Inputs, environment, output and artifacts (`ContentKind`)."""

    name: ClassVar[str] = CONTENT
    columns: ClassVar[frozenset[str]] = frozenset(
        {"jobs.given", "jobs.given_inputs", "jobs.content_key", "jobs.transient_key", "job_logs.sealed"}
    )

    def __init__(self, *, content: JobContent, clock: Clock) -> None:
        self._content = content
        self._clock = clock

    async def remove_objects(self, session: TenantSession, item_id: UUID) -> None:
        job = await repository.find_job(session, item_id)
        if job is not None:
            await self._content.purge(tenant_id=session.scope.tenant_id, job=job)

    async def forget(self, session: TenantSession, item_id: UUID) -> None:
        await repository.purge_content(session, item_id, now=self._clock.now())
        await give_back(session, item_id, (Quota.STORAGE,), clock=self._clock)
