"""What a job left, taken out of its sandbox and sealed."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final
from uuid import UUID

from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.phase_run import PhaseRun
from tenantry.capabilities.sandboxes.types import Artifact, Job
from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.clock import Clock
from tenantry.foundation.ids import new_id

_MAX_ARTIFACTS: Final = 1000
_MOST_SKIPPED_TOLD: Final = 20


async def collect_artifacts(
    run: PhaseRun,
    job: Job,
    *,
    tenant_id: UUID,
    key: Keyset,
    content: JobContent,
    say: Callable[[str], None],
    clock: Clock,
) -> list[Artifact]:
    """Store what the job asked to have kept; what is left out is said."""
    found = await run.artifacts(job.artifact_globs, max_files=_MAX_ARTIFACTS, max_bytes=job.limits.artifacts_mib << 20)
    artifacts = []
    for file in found:
        artifact_id = new_id()
        with contextlib.closing(await asyncio.to_thread(file.open)) as source:
            size, digest = await content.put_artifact(
                key, source, tenant_id=tenant_id, job=job, artifact_id=artifact_id, limit=file.size_bytes
            )
        artifacts.append(Artifact(artifact_id, job.job_id, file.path, size, digest, clock.now()))
    for skipped in found.skipped[:_MOST_SKIPPED_TOLD]:
        say(f"artifact {skipped.path!r} was not kept: {skipped.reason}")
    if (more := len(found.skipped) - _MOST_SKIPPED_TOLD) > 0:
        say(f"and {more} more artifacts were not kept")
    return artifacts
