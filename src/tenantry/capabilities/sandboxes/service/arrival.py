"""What becomes of the jobs of a tenant that was imported."""

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.ending import end_job
from tenantry.capabilities.sandboxes.types import JobEnd, JobStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.settings import JobSettings


class JobArrival:
    """The `Arrival` port of tenants for jobs."""

    def __init__(self, *, settings: JobSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def arrive(self, session: TenantSession) -> None:
        """Cancel what waited or ran when the archive was made: it has ended, or goes on, where it was begun."""
        end = JobEnd(JobStatus.CANCELLED, "tenant_imported", "it did not go on in another installation")
        for job in await repository.lock_open_jobs(session, workspace_id=None):
            await end_job(session, job, end, settings=self._settings, clock=self._clock)
