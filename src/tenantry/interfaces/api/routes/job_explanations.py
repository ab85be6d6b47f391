"""Why a job waits, and when it may start."""

from datetime import timedelta

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.sandboxes.service import HOLDERS, explain_waiting
from tenantry.capabilities.sandboxes.types import JobStatus
from tenantry.engines.fairqueue.types import Standing
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.routes.jobs import read_job
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Moment
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()


class HeldBack(Answer):
    holder: str = Field(description="tenant or workspace: whose limit of jobs at once is reached")
    limit: int
    running: int


class JobExplanation(Answer):
    job: str
    status: str
    reason: str | None
    phases: list[str] = Field(description="its programs in their order")
    explanation: str
    ahead: int | None = Field(description="about how many jobs start before it, of all tenants; null unless it waits")
    ahead_own: int | None = Field(description="of them the tenant's own")
    workers: int | None = Field(description="living ones that serve it")
    slots: int | None = Field(description="jobs they run at once")
    slots_in_use: int | None
    held_back: HeldBack | None
    starts_in_seconds: float | None = Field(description="an estimate, as good as those of what goes before")
    estimated_start_at: Moment | None
    allow_with: list[str] = Field(description="what would let it start sooner")


@routes.get("/workspaces/{ws}/jobs/{job}/explain", needs=Permission.JOB_READ)
async def explain_job(request: Request, ws: str, job: str) -> JobExplanation:
    """Why a job waits, what goes before it and when it may start; of one that does not wait, how it stands."""
    unit = unit_of(request)
    found = await read_job(unit, job)
    standing = None
    if found.status is JobStatus.QUEUED:
        queue = unit.runtime.queues[unit.scope.region]
        standing = await queue.standing(unit.scope.tenant_id, found.job_id)
    waits = standing if standing is not None and standing.state == "queued" else None
    seconds = waits.starts_in_seconds if waits else None
    told, helps = explain_waiting(found, standing)
    return JobExplanation(
        job=format_id(Prefix.JOB, found.job_id),
        status=found.status,
        reason=found.reason,
        phases=[each.phase for each in found.programs],
        explanation=told,
        ahead=waits.ahead if waits else None,
        ahead_own=waits.ahead_own if waits else None,
        workers=waits.workers if waits else None,
        slots=waits.slots if waits else None,
        slots_in_use=waits.slots_in_use if waits else None,
        held_back=_held_back(waits),
        starts_in_seconds=seconds,
        estimated_start_at=None if seconds is None else unit.runtime.clock.now() + timedelta(seconds=seconds),
        allow_with=list(helps),
    )


def _held_back(standing: Standing | None) -> HeldBack | None:
    if standing is None or standing.held_level is None:
        return None
    return HeldBack(
        holder=HOLDERS[standing.held_level], limit=standing.most_running or 0, running=standing.running or 0
    )
