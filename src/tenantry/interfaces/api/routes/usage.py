"""What a tenant uses, and how that stands to its quotas."""

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types import Holder
from tenantry.capabilities.limits.types.quotas import Quota as LimitedQuota
from tenantry.capabilities.limits.types.quotas import QuotaStanding
from tenantry.capabilities.tenants.types import Usage
from tenantry.capabilities.tenants.types.plans import QuotaStatus
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Moment
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()

_WORKSPACES_SHOWN = 200


class Quota(Answer):
    current: float
    limit: int | None = Field(description="null when unlimited")
    unlimited: bool
    exceeded: bool = Field(description="nothing more fits: current >= limit")


class QuotasAnswer(Answer):
    users: Quota
    projects: Quota = Field(description="workspaces that are not archived")
    tokens: Quota = Field(description="in this month, UTC")
    storage: Quota = Field(description="GB, of 10^9 bytes")
    concurrent_agents: Quota


class WorkspaceUsage(Answer):
    workspace: str
    storage_used_bytes: int
    storage_bytes: dict[str, int]


class CountedQuota(Answer):
    name: str
    holder: str = Field(description="tenant or workspace: over which it is counted")
    most: int | None = Field(description="null when unlimited; storage in bytes")
    layer: str | None
    held: int = Field(description="for what is under way")
    used: int
    window_started_at: Moment | None = Field(description="null for what goes up and down")


class PlaceUsageAnswer(Answer):
    current_running_jobs: int
    queued_jobs: int
    current_running_sandboxes: int
    storage_used_bytes: int
    storage_used_mb: float = Field(description="of 10^6 bytes")
    jobs_today: int = Field(description="since midnight where the tenant lives")
    quotas: list[CountedQuota]
    updated_at: Moment | None = Field(description="when any of it last changed; null: never")


class UsageAnswer(Answer):
    current_users: int
    current_projects: int
    tokens_this_month: int
    concurrent_agents: int
    storage_used_bytes: int
    storage_used_gb: float
    storage_bytes: dict[str, int] = Field(description="by kind of content")
    by_workspace: list[WorkspaceUsage] = Field(description="the 200 that keep most, largest first")
    month: str = Field(description="YYYY-MM, UTC")


@routes.get("/tenants/{tenant}/quotas", needs=Permission.TENANT_READ, platform=True)
async def get_quotas(request: Request, tenant: str) -> QuotasAnswer:
    """Each quota, what of it is used, and whether more fits."""
    found = await unit_of(request).usage.quotas()
    return QuotasAnswer(**{name: _quota(status) for name, status in found.items()})


@routes.get("/tenants/{tenant}/usage", needs=Permission.USAGE_READ, platform=True)
async def get_usage(request: Request, tenant: str) -> UsageAnswer:
    """What the tenant uses now; numbers and ids only."""
    return _usage(await unit_of(request).usage.measure())


@routes.get("/workspaces/{ws}/usage", needs=Permission.USAGE_READ)
async def get_workspace_usage(request: Request, ws: str) -> PlaceUsageAnswer:
    """What the workspace uses now, and how that stands to each quota of it and of its tenant."""
    unit = unit_of(request)
    queued, running = await unit.jobs.count_open(workspace_id=unit.workspace_id)
    standings = await unit.quotas.standings(unit.workspace_id)
    own = {each.counted.quota: each.counted for each in standings if each.effective.holder is Holder.WORKSPACE}
    stored = own[LimitedQuota.STORAGE].used
    return PlaceUsageAnswer(
        current_running_jobs=running,
        queued_jobs=queued,
        current_running_sandboxes=running,
        storage_used_bytes=stored,
        storage_used_mb=stored / 1e6,
        jobs_today=own[LimitedQuota.DAILY_JOBS].taken,
        quotas=[_counted(each) for each in standings],
        updated_at=max((at for each in standings if (at := each.counted.updated_at) is not None), default=None),
    )


def _counted(standing: QuotaStanding) -> CountedQuota:
    effective, counted = standing.effective, standing.counted
    quota = counted.quota
    return CountedQuota(
        name=quota.value,
        holder=effective.holder.value,
        most=None if effective.most is None else int(effective.most * quota.unit),
        layer=effective.layer.value if effective.layer else None,
        held=counted.held,
        used=counted.used,
        window_started_at=counted.window_start if quota.window else None,
    )


def _quota(status: QuotaStatus) -> Quota:
    return Quota(current=status.current, limit=status.limit, unlimited=status.unlimited, exceeded=status.exceeded)


def _usage(usage: Usage) -> UsageAnswer:
    return UsageAnswer(
        current_users=usage.current_users,
        current_projects=usage.current_projects,
        tokens_this_month=usage.tokens_this_month,
        concurrent_agents=usage.concurrent_agents,
        storage_used_bytes=usage.storage_used_bytes,
        storage_used_gb=usage.storage_used_gb,
        storage_bytes=dict(usage.storage_bytes),
        by_workspace=[
            WorkspaceUsage(
                workspace=format_id(Prefix.WORKSPACE, workspace_id),
                storage_used_bytes=sum(kinds.values()),
                storage_bytes=dict(kinds),
            )
            for workspace_id, kinds in list(usage.by_workspace.items())[:_WORKSPACES_SHOWN]
        ],
        month=f"{usage.month:%Y-%m}",
    )
