"""Requests held against their rates, and what answers tell of them (draft-ietf-httpapi-ratelimit-headers-10)."""

from starlette.requests import Request

from tenantry.capabilities.access.types import Caller
from tenantry.capabilities.limits.errors import rate_limited
from tenantry.capabilities.limits.service import Asker
from tenantry.capabilities.limits.types import RateVerdict
from tenantry.foundation.telemetry import RATE_REFUSALS
from tenantry.interfaces.api.context import Place
from tenantry.interfaces.api.routing import RouteSpec
from tenantry.interfaces.api.runtime import Runtime


def asker_of(caller: Caller, place: Place) -> Asker:
    """Tell whose rates count: those of the credential's tenant, also where the platform works on another."""
    return Asker(caller.tenant_id, caller.region, caller.principal, None if place.lifecycle else place.workspace_id)


async def count(request: Request, *, spec: RouteSpec, caller: Caller, place: Place, runtime: Runtime) -> None:
    """Charge a request; raises Exhausted `rate_limited`, Unavailable `rates_unavailable`.

    Leaves the verdict for the answer's headers, and whether a refusal is worth a record: the first of many is.
    """
    asker = asker_of(caller, place)
    verdict = await runtime.rates.admit(asker, reads=spec.reads, action=spec.action)
    request.state.rate = verdict
    if verdict is None or verdict.allowed:
        return
    found = verdict.decisive
    RATE_REFUSALS.labels(found.holder.value, found.action.value).inc()
    request.state.rate_news = runtime.rates.is_news(asker, verdict)
    raise rate_limited(verdict)


def headers_of(verdict: RateVerdict) -> list[tuple[bytes, bytes]]:
    """Tell the rate that is nearest to its end: its quota in its window, in whole seconds, and what is left of it."""
    found = verdict.decisive
    window = max(1, -(-found.rate.window_ms // 1000))
    policy = f'"{found.name}";q={found.rate.max_requests};w={window}'
    left = f'"{found.name}";r={verdict.remaining}'
    if not verdict.allowed:
        left += f";t={max(1, -(-verdict.retry_after_ms // 1000))}"
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
