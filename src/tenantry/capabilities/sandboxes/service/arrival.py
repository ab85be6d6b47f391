"""What becomes of jobs and images of a tenant that was imported."""

from collections.abc import Mapping

from tenantry.capabilities.limits.service import keep_only
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.ending import end_job
from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.capabilities.sandboxes.types import JobEnd, JobStatus
from tenantry.engines.jail.errors import ImageNotFound
from tenantry.engines.jail.tree import stored_bytes
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.objects.threads import in_thread
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


class ImageArrival:
    """The same for images; `libraries` by region."""

    def __init__(self, *, libraries: Mapping[str, ImageLibrary], clock: Clock) -> None:
        self._libraries = libraries
        self._clock = clock

    async def arrive(self, session: TenantSession) -> None:
        """Count of each image what its root takes here, whatever its row says; one without a root stays as it is."""
        images = await repository.list_image_sizes(session)
        if not images:
            return
        store = await self._libraries[session.scope.region].store(session.scope.tenant_id)
        sizes: dict[str, int | None] = {}
        for digest in {digest for _, digest, _ in images}:
            try:
                root = await in_thread(store.resolve, digest)
                sizes[digest] = await in_thread(stored_bytes, root.path)
            except ImageNotFound:
                sizes[digest] = None
        for image_id, digest, told in images:
            if (size := sizes[digest]) is not None and size != told:
                await repository.set_image_size(session, image_id, size)
                await keep_only(session, image_id, {Quota.STORAGE: size}, clock=self._clock)
