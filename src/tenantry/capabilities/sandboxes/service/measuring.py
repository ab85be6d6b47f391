"""What jobs used and take: for metering, for the usage of a tenant, and for the ledger that is proved against it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from tenantry.capabilities.limits.types.metering import Meter, Used, thousandths
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types import IMAGE, JOB, TREE, Job, JobEnd
from tenantry.capabilities.tenants.types import Measure
from tenantry.engines.jail.types import Ending
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


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
            else {Quota.STORAGE: taking.kept_bytes, Quota.DAILY_JOBS: 1 if taking.begun and taking.daily else 0}
            for taking in await repository.list_takings(session, ids)
        }


class TreeTakings:
    """The same for kept trees of sandboxes, which jobs under way hold room for."""

    kind: ClassVar[str] = TREE

    async def takes(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[Quota, int] | None]:
        sizes = await repository.size_trees(session, ids)
        return {tree_id: None if size is None else {Quota.STORAGE: size} for tree_id, size in sizes.items()}


class ImageTakings:
    """The same for images."""

    kind: ClassVar[str] = IMAGE

    async def takes(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[Quota, int] | None]:
        sizes = await repository.size_images(session, ids)
        return {image_id: {Quota.STORAGE: size} for image_id, size in sizes.items()}


def used_by(job: Job, end: JobEnd, *, at: datetime) -> list[Used]:
    """Tell what a job used: nothing where not one instruction ran, or where no sandbox has told as its worker died.

    A measure that no quantity can be is left out: the end of a job does not fail over it.
    """
    if not end.usage or end.reason == Ending.NOT_STARTED.value:
        return []
    # Memory counts for as long as it was held: of several programs each by itself.
    programs = end.usage.get("phases", {"": end.usage}).values()
    held = sum(float(each["peak_memory_mib"]) * float(each["wall_seconds"]) for each in programs)
    quantities = {
        Meter.JOB_CPU_SECONDS: thousandths(float(end.usage["cpu_seconds"])),
        Meter.JOB_MEMORY_MIB_SECONDS: thousandths(held),
        Meter.JOB_WALL_SECONDS: thousandths(float(end.usage["wall_seconds"])),
        Meter.EGRESS_BYTES: end.usage.get("sent_bytes"),
    }
    subject, told = format_id(Prefix.JOB, job.job_id), {"status": end.status.value}
    return [
        Used(job.workspace_id, meter, quantity, subject, at, principal_id=job.principal_id, attributes=told)
        for meter, quantity in quantities.items()
        if quantity is not None
    ]
