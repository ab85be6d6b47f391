"""Rates: what a tenant and its workspaces set for themselves, and how all that holds stands at this moment."""

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.service import Asker
from tenantry.capabilities.limits.types import Action, LimitOverride, Rate, RateStanding
from tenantry.capabilities.tenants.types.plans import RateLimitSpec, RateName
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class LimitsBody(Body):
    rates: dict[RateName, RateLimitSpec] = Field(
        max_length=9, description="replaces all that is set here; {} sets none"
    )


class RateValue(Answer):
    max_requests: int
    window_ms: int
    burst: int = Field(description="at once")


class LimitsAnswer(Answer):
    rates: dict[str, RateValue] = Field(
        description="what is set here; what is above the layers over it counts for nothing"
    )
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


@routes.get("/tenants/{tenant}/limits", needs=Permission.TENANT_READ, platform=True)
async def get_tenant_limits(request: Request, tenant: str) -> LimitsAnswer:
    """What the tenant sets of its own limits."""
    unit = unit_of(request)
    return _shown(unit, await unit.limits.get(None))


# Counted apart: who has narrowed a rate too far must be able to widen it again.
@routes.put("/tenants/{tenant}/limits", needs=Permission.TENANT_ADMIN, platform=True, action=Action.LIMIT_CHANGES)
async def replace_tenant_limits(request: Request, tenant: str, body: LimitsBody) -> LimitsAnswer:
    """Narrow what the plan allows, for every process within a second."""
    unit = unit_of(request)
    stored = await unit.limits.replace(body.rates, workspace_id=None, if_version=unit.if_version)
    return _shown(unit, stored)


@routes.get("/workspaces/{ws}/limits", needs=Permission.WORKSPACE_READ)
async def get_workspace_limits(request: Request, ws: str) -> LimitsAnswer:
    """What the workspace sets of its own limits."""
    unit = unit_of(request)
    return _shown(unit, await unit.limits.get(unit.workspace_id))


@routes.put("/workspaces/{ws}/limits", needs=Permission.WORKSPACE_UPDATE, action=Action.LIMIT_CHANGES)
async def replace_workspace_limits(request: Request, ws: str, body: LimitsBody) -> LimitsAnswer:
    """Narrow what the tenant allows in this workspace: its own rates, and those of each principal in it."""
    unit = unit_of(request)
    stored = await unit.limits.replace(body.rates, workspace_id=unit.workspace_id, if_version=unit.if_version)
    return _shown(unit, stored)


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


def _shown(unit: Unit, override: LimitOverride) -> LimitsAnswer:
    unit.show_version(override.version)
    return LimitsAnswer(
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
