"""What jobs and images take: for the usage of a tenant, and for the ledger that is proved against it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar
from uuid import UUID

from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types import IMAGE, JOB
from tenantry.capabilities.tenants.types import Measure
from tenantry.foundation.database.session import TenantSession


class StoredContent:
    """The `UsageSource` port of tenants for logs, inputs, artifacts and images that are still kept."""

    async def measure(self, session: TenantSession) -> Sequence[Measure]:
        """Count bytes by workspace and kind, as `storage.<kind>`."""
        return [
            Measure(f"storage.{kind}", amount, workspace_id)
            for workspace_id, kind, amount in await repository.measure_content(session)
        ]


class JobTakings:
    """The `Subject` port of limits for jobs: open ones hold what they hold, ended ones keep their content's bytes."""

    kind: ClassVar[str] = JOB

    async def takes(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[Quota, int] | None]:
        return {
            taking.job_id: None
            if taking.open
            else {Quota.STORAGE: taking.kept_bytes, Quota.DAILY_JOBS: 1 if taking.begun else 0}
            for taking in await repository.list_takings(session, ids)
        }


class ImageTakings:
    """The same for images."""

    kind: ClassVar[str] = IMAGE

    async def takes(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[Quota, int] | None]:
        sizes = await repository.size_images(session, ids)
        return {image_id: {Quota.STORAGE: size} for image_id, size in sizes.items()}
