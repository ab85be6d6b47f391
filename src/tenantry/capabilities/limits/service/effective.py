"""What comes of all layers: for each rate the lowest pace and the lowest burst, and who gave it. Pure."""

import re
from collections.abc import Mapping
from uuid import UUID

from pydantic import ValidationError

from tenantry.capabilities.limits.errors import rates_invalid
from tenantry.capabilities.limits.types import Action, EffectiveRate, Holder, Layer, Rate, Rates
from tenantry.capabilities.tenants.types.plans import RATE_NAME, RateLimitSpec
from tenantry.foundation.settings import RateSettings


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
