"""What comes of all layers: for each rate the lowest pace and the lowest burst, for each number the lowest. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from pydantic import ValidationError

from tenantry.capabilities.limits.errors import rates_invalid
from tenantry.capabilities.limits.types import Action, EffectiveRate, Holder, Layer, Rate, Rates
from tenantry.capabilities.limits.types.quotas import Ceiling, EffectiveLimit, Quota
from tenantry.capabilities.tenants.types.plans import RATE_NAME, RateLimitSpec
from tenantry.foundation.limit_settings import RateSettings

_Name = TypeVar("_Name", Quota, Ceiling)


def rates_of(specs: Mapping[str, RateLimitSpec]) -> Rates:
    return {name: Rate.of(spec) for name, spec in specs.items()}


def platform_rates(configured: Mapping[str, RateSettings]) -> Rates:
    """Read what the installation sets; raises Invalid `rates_invalid` that names the rate and the rule."""
    rates = {}
    for name, each in configured.items():
        if re.fullmatch(RATE_NAME, name) is None:
            raise rates_invalid(name, f"a rate is named by {RATE_NAME}")
        try:
            spec = RateLimitSpec(max_requests=each.max_requests, window_ms=each.window_ms, burst=each.burst)
        except ValidationError as error:
            raise rates_invalid(name, error.errors()[0]["msg"]) from None
        rates[name] = Rate.of(spec)
    return rates


def effective_rates(layers: Mapping[Layer, Rates], *, workspace_id: UUID | None) -> tuple[EffectiveRate, ...]:
    """Merge the layers, of which the workspace's may be missing.

    What a workspace sets counts in it alone: its own `api_requests` narrows `workspace.api_requests`, and its
    `principal.api_requests` is counted apart from what a principal does elsewhere.
    """
    above: dict[Layer, Rates] = {layer: rates for layer, rates in layers.items() if layer is not Layer.WORKSPACE}
    own = layers.get(Layer.WORKSPACE, {})
    found = []
    for action in Action:
        each = f"{Holder.WORKSPACE}.{action}"
        principal = f"{Holder.PRINCIPAL}.{action}"
        found.append(_lowest(Holder.TENANT, action, _named(above, action.value)))
        found.append(_lowest(Holder.PRINCIPAL, action, _named(above, principal)))
        if workspace_id is None:
            continue
        narrowed = _named(above, each)
        for name in (action.value, each):
            if name in own:
                narrowed[Layer.WORKSPACE] = own[name]
        found.append(_lowest(Holder.WORKSPACE, action, narrowed, within=workspace_id))
        if principal in own:
            there = {Layer.WORKSPACE: own[principal]}
            found.append(_lowest(Holder.PRINCIPAL, action, there, within=workspace_id))
    return tuple(each for each in found if each is not None)


def _named(layers: Mapping[Layer, Rates], name: str) -> dict[Layer, Rate]:
    return {layer: rates[name] for layer, rates in layers.items() if name in rates}


def _lowest(
    holder: Holder, action: Action, layers: Mapping[Layer, Rate], *, within: UUID | None = None
) -> EffectiveRate | None:
    if not layers:
        return None
    layer, slowest = min(layers.items(), key=lambda item: item[1].pace)
    burst_layer, shortest = min(layers.items(), key=lambda item: item[1].burst)
    rate = Rate(slowest.max_requests, slowest.window_ms, shortest.burst)
    return EffectiveRate(holder, action, rate, layer, burst_layer, dict(layers), within)


OF_TENANT: Final = frozenset({Quota.USERS, Quota.WORKSPACES})
"""What only a tenant as a whole has."""


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """What holds in a workspace, or in a tenant as a whole, of which `workspace` is then empty.

    Quotas are counted for each holder apart: those of the tenant over all of its workspaces.
    """

    tenant: Mapping[Quota, EffectiveLimit]
    workspace: Mapping[Quota, EffectiveLimit]
    ceilings: Mapping[Ceiling, EffectiveLimit]

    def most(self, quota: Quota, holder: Holder) -> int | None:
        """Tell the most of a holder in the unit in which it is counted; None is unlimited."""
        found = (self.tenant if holder is Holder.TENANT else self.workspace).get(quota)
        return None if found is None or found.most is None else int(found.most * quota.unit)

    def ceiling(self, ceiling: Ceiling) -> float | None:
        return self.ceilings[ceiling].most

    def all(self) -> dict[str, EffectiveLimit]:
        """Tell each number by its name as the lowest of all layers, whoever counts it."""
        quotas = {
            quota.value: self.lowest(quota) for quota in Quota if quota in self.tenant.keys() | self.workspace.keys()
        }
        return quotas | {ceiling.value: found for ceiling, found in self.ceilings.items()}

    def lowest(self, quota: Quota) -> EffectiveLimit:
        """Tell the lowest of all layers, whoever counts it."""
        found = [side[quota] for side in (self.tenant, self.workspace) if quota in side]
        layers = {layer: most for each in found for layer, most in each.layers.items()}
        return _number(quota.value, found[-1].holder, layers)


def effective_limits(layers: Mapping[Layer, Mapping[str, float]], own: Mapping[str, float] | None) -> PlaceLimits:
    """Merge the layers; `own` is what the workspace sets, None where it is of the tenant as a whole.

    What plan and tenant set is counted over the tenant, what platform and workspace set in each workspace. What bounds
    a single job is the lowest of all.
    """
    above: dict[Layer, Mapping[str, float]] = {
        layer: numbers for layer, numbers in layers.items() if layer in (Layer.PLAN, Layer.TENANT)
    }
    below = {Layer.PLATFORM: layers.get(Layer.PLATFORM, {})} | ({} if own is None else {Layer.WORKSPACE: own})
    every = {**layers} | ({} if own is None else {Layer.WORKSPACE: own})
    return PlaceLimits(
        tenant=_numbers(Quota, Holder.TENANT, above),
        workspace={}
        if own is None
        else _numbers((quota for quota in Quota if quota not in OF_TENANT), Holder.WORKSPACE, below),
        ceilings=_numbers(Ceiling, Holder.WORKSPACE if own is not None else Holder.TENANT, every),
    )


def _numbers(
    names: Iterable[_Name], holder: Holder, layers: Mapping[Layer, Mapping[str, float]]
) -> dict[_Name, EffectiveLimit]:
    return {
        name: _number(
            name.value,
            holder,
            {layer: numbers[name.value] for layer, numbers in layers.items() if name.value in numbers},
        )
        for name in names
    }


def _number(name: str, holder: Holder, layers: Mapping[Layer, float]) -> EffectiveLimit:
    layer = min(layers, key=lambda each: layers[each], default=None)
    return EffectiveLimit(name, holder, layers[layer] if layer else None, layer, layers)
