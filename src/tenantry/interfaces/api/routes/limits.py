"""Limits: what a tenant and its workspaces set for themselves, what holds by which layer, and how rates stand."""

from typing import Final, Literal

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.service import Asker
from tenantry.capabilities.limits.types import Action, Holder, LimitOverride, Rate, RateStanding
from tenantry.capabilities.limits.types.quotas import LimitNumbers, Quota
from tenantry.capabilities.tenants.types.plans import RateLimitSpec, RateName
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_NUMBERS: Final = frozenset(LimitNumbers.model_fields)


class LimitsBody(Body, LimitNumbers):
    rates: dict[RateName, RateLimitSpec] = Field(
        max_length=9, description="replaces all rates that are set here; {} sets none"
    )


class LimitChanges(Body, LimitNumbers):
    """What is not named stays; null: is not set here any more."""

    rates: dict[RateName, RateLimitSpec] | None = Field(
        default=None, max_length=9, description="replaces all rates that are set here; {} sets none"
    )


class WorkspaceLimitChanges(LimitChanges):
    on_limit: Literal["reject", "queue"] | None = Field(
        default=None, description="a setting of the workspace: what becomes of one job too many"
    )


class RateValue(Answer):
    max_requests: int
    window_ms: int
    burst: int = Field(description="at once")


class LimitSource(Answer):
    layer: str | None = Field(description="platform, plan, tenant or workspace; null: nobody limits it")
    layers: dict[str, float] = Field(description="what each says; the lowest counts")


class LimitsAnswer(Answer):
    """Each number as it holds here: the lowest of all layers, null where there is none."""

    max_concurrent_jobs: int | None
    max_concurrent_sandboxes: int | None
    max_concurrent_agents: int | None
    daily_job_limit: int | None
    max_storage_gb: float | None
    max_tokens_per_month: int | None
    max_users: int | None
    max_workspaces: int | None
    max_job_duration_seconds: int | None
    max_cpus_per_job: float | None
    max_memory_mib_per_job: int | None
    max_artifacts_mib: int | None
    on_limit: str | None = Field(description="of a workspace: reject or queue")
    sources: dict[str, LimitSource] = Field(description="by name: which layer each number comes from")
    own: dict[str, float] = Field(description="what is set here; what is above the layers over it counts for nothing")
    rates: dict[str, RateValue] = Field(description="rates that are set here")
    version: int = Field(description="for If-Match; 0: nothing was ever set")
    updated_at: Moment | None
    updated_by: str | None


class RateAnswer(RateValue):
    name: str
    holder: str = Field(description="tenant, workspace or principal: of which it is counted")
    action: str
    workspace: str | None = Field(description="counted in it alone")
    layer: str = Field(description="who gave the pace: platform, plan, tenant or workspace")
    burst_layer: str = Field(description="who gave the burst")
    layers: dict[str, RateValue] = Field(description="what each says; the lowest counts")
    remaining: int = Field(description="so many would pass now")
    reset_ms: int = Field(description="after so long it is wholly untouched")


class RatesAnswer(Answer):
    rates: list[RateAnswer]


@routes.get("/tenants/{tenant}/limits", needs=Permission.LIMIT_READ, platform=True)
async def get_tenant_limits(request: Request, tenant: str) -> LimitsAnswer:
    """What holds in the tenant as a whole, by which layer, and what it sets itself."""
    unit = unit_of(request)
    return await _shown(unit, await unit.limits.get(None))


# Counted apart: who has narrowed a rate too far must be able to widen it again.
@routes.put("/tenants/{tenant}/limits", needs=Permission.LIMIT_ADMIN, platform=True, action=Action.LIMIT_CHANGES)
async def replace_tenant_limits(request: Request, tenant: str, body: LimitsBody) -> LimitsAnswer:
    """Narrow what the plan allows, for every process within a second; what is not named is not set any more."""
    return await _replace(unit_of(request), body)


@routes.patch("/tenants/{tenant}/limits", needs=Permission.LIMIT_ADMIN, platform=True, action=Action.LIMIT_CHANGES)
async def change_tenant_limits(request: Request, tenant: str, body: LimitChanges) -> LimitsAnswer:
    """Narrow the named limits of the tenant, for every process within a second."""
    return await _change(unit_of(request), body)


@routes.get("/workspaces/{ws}/limits", needs=Permission.LIMIT_READ)
async def get_workspace_limits(request: Request, ws: str) -> LimitsAnswer:
    """What holds in the workspace, by which layer, and what it sets itself."""
    unit = unit_of(request)
    return await _shown(unit, await unit.limits.get(unit.workspace_id))


@routes.put("/workspaces/{ws}/limits", needs=Permission.LIMIT_ADMIN, action=Action.LIMIT_CHANGES)
async def replace_workspace_limits(request: Request, ws: str, body: LimitsBody) -> LimitsAnswer:
    """Narrow what the tenant allows in this workspace; what is not named is not set any more."""
    return await _replace(unit_of(request), body)


@routes.patch("/workspaces/{ws}/limits", needs=Permission.LIMIT_ADMIN, action=Action.LIMIT_CHANGES)
async def change_workspace_limits(request: Request, ws: str, body: WorkspaceLimitChanges) -> LimitsAnswer:
    """Narrow the named limits of the workspace, and say what becomes of one job too many."""
    unit = unit_of(request)
    if body.on_limit is not None:
        present = await unit.workspaces.get(unit.workspace_id, lock=True)
        settings = present.settings.model_copy(update={"on_limit": body.on_limit})
        if settings != present.settings:
            await unit.workspaces.update(unit.workspace_id, {"settings": settings.model_dump()}, if_version=None)
    return await _change(unit, body)


async def _replace(unit: Unit, body: LimitsBody) -> LimitsAnswer:
    numbers = LimitNumbers.model_validate(body.model_dump(include=set(_NUMBERS)))
    place, version = unit.scope.workspace_id, unit.if_version
    return await _changed(unit, await unit.limits.replace(body.rates, numbers, workspace_id=place, if_version=version))


async def _change(unit: Unit, body: LimitChanges) -> LimitsAnswer:
    numbers = {name: getattr(body, name) for name in _NUMBERS & body.model_fields_set}
    place, version = unit.scope.workspace_id, unit.if_version
    return await _changed(unit, await unit.limits.change(body.rates, numbers, workspace_id=place, if_version=version))


@routes.get("/tenants/{tenant}/rate-limits", needs=Permission.TENANT_READ, platform=True)
async def get_tenant_rates(request: Request, tenant: str) -> RatesAnswer:
    """Each rate that holds in the tenant, by which layer, and what is left of it for the caller."""
    return await _standing(unit_of(request))


@routes.get("/workspaces/{ws}/rate-limits", needs=Permission.WORKSPACE_READ)
async def get_workspace_rates(request: Request, ws: str) -> RatesAnswer:
    """Each rate that holds in the workspace, by which layer, and what is left of it for the caller."""
    return await _standing(unit_of(request))


async def _standing(unit: Unit) -> RatesAnswer:
    scope = unit.scope
    asker = Asker(scope.tenant_id, scope.region, unit.caller.principal, scope.workspace_id)
    return RatesAnswer(rates=[_rate(each) for each in await unit.runtime.rates.standings(asker)])


async def _changed(unit: Unit, override: LimitOverride) -> LimitsAnswer:
    """Let what waits in the queue have it at once, then show it."""
    place = unit.scope.workspace_id
    held = await unit.quotas.limits_with(override, workspace_id=place)
    holder = Holder.WORKSPACE if place else Holder.TENANT
    await unit.queue_shares.change(place, most=held.most(Quota.CONCURRENT_JOBS, holder))
    return await _shown(unit, override)


async def _shown(unit: Unit, override: LimitOverride) -> LimitsAnswer:
    unit.show_version(override.version)
    place = unit.scope.workspace_id
    limits = (await unit.quotas.limits_with(override, workspace_id=place)).all()
    settings = (await unit.workspaces.get(place)).settings if place else None
    return LimitsAnswer(
        **{name: limits[name].most if name in limits else None for name in _NUMBERS},  # type: ignore[arg-type]  # whole where the name says so
        on_limit=settings.on_limit if settings else None,
        sources={
            name: LimitSource(
                layer=found.layer.value if found.layer else None,
                layers={layer.value: most for layer, most in found.layers.items()},
            )
            for name, found in limits.items()
        },
        own=dict(override.numbers),
        rates={name: _value(Rate.of(spec)) for name, spec in override.rates.items()},
        version=override.version,
        updated_at=override.updated_at,
        updated_by=override.updated_by,
    )


def _value(rate: Rate) -> RateValue:
    return RateValue(max_requests=rate.max_requests, window_ms=rate.window_ms, burst=rate.burst)


def _rate(standing: RateStanding) -> RateAnswer:
    found = standing.effective
    return RateAnswer(
        name=found.name,
        holder=found.holder.value,
        action=found.action.value,
        workspace=format_id(Prefix.WORKSPACE, found.within) if found.within else None,
        max_requests=found.rate.max_requests,
        window_ms=found.rate.window_ms,
        burst=found.rate.burst,
        layer=found.layer.value,
        burst_layer=found.burst_layer.value,
        layers={layer.value: _value(rate) for layer, rate in found.layers.items()},
        remaining=standing.remaining,
        reset_ms=standing.reset_ms,
    )
