"""Why a job waits, and when it may start: asked of the whole queue, by the role that sees it, ids and numbers only."""

from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.types import Job, JobStatus
from tenantry.engines.fairqueue.types import Standing
from tenantry.foundation.database.pool import database_errors

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool


HOLDERS: Final = {1: "tenant", 2: "workspace"}
"""Whose cap it is, by the level of the queue."""


class QueueView:
    """One for each cell of a server process; `pool` is the dispatcher role's."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def standing(self, tenant_id: UUID, job_id: UUID) -> Standing | None:
        """Tell how a job stands among all; None for one that is not in the queue. Raises Unavailable."""
        with database_errors():
            return await QUEUE.standing(self._pool, first=tenant_id, entry=job_id)


Explained = tuple[str, tuple[str, ...]]


def explain_waiting(job: Job, standing: Standing | None) -> Explained:
    """Say why a job has not begun, and what would help; of one that has begun, how it stands."""
    if job.status.ended:
        return f"it has ended: {job.status}, {job.reason}", ()
    if job.status is JobStatus.RUNNING:
        return f"it runs{_in_phases(job)}", ()
    if standing is None or standing.state == "new":
        return "it has just been accepted and is about to be taken into the queue", ()
    if standing.state == "claimed":
        return "a worker has taken it and is about to start it", ()
    return _explain_queued(standing)


def _in_phases(job: Job) -> str:
    names = [each.phase.value for each in job.phases]
    return f": {', '.join(names)}, one after the other; its log says which" if len(names) > 1 else ""


def _explain_queued(standing: Standing) -> Explained:
    used = f"{standing.slots_in_use} of {standing.slots} slots are in use"
    if standing.held_level is not None:
        holder = HOLDERS[standing.held_level]
        return (
            f"the {holder} runs {standing.running} jobs, and its max_concurrent_jobs is {standing.most_running}",
            ("the end of one that runs", f"a higher max_concurrent_jobs of the {holder}"),
        )
    if standing.workers == 0:
        return "no living worker serves it", ("a worker that serves this region",)
    if standing.ahead:
        told = f"about {standing.ahead} jobs go before it, {standing.ahead_own} of them the tenant's own; {used}"
        return told, ("the end of what goes before it", "more workers, or more jobs.slots of one")
    if standing.slots_in_use >= standing.slots:
        return f"it is next; {used}", ("the end of one that runs", "more workers")
    return "it is next, and there is room for it", ()
