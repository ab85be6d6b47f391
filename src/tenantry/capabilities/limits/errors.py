"""Refusals of limits."""

from tenantry.capabilities.limits.types import EffectiveRate, RateVerdict
from tenantry.foundation.errors import Exhausted, Invalid, Precondition, Unavailable


def rate_limited(verdict: RateVerdict) -> Exhausted:
    """Over a rate; the wait after which the same call would pass is `retry_after`, whole seconds."""
    found = verdict.decisive
    seconds = max(1, -(-verdict.retry_after_ms // 1000))
    return Exhausted(
        "rate_limited",
        f"{_told(found)} are used up: again in {seconds} s, or with a higher limit of the {found.layer}",
        layer="limits",
        limit={
            "name": found.name,
            "max_requests": found.rate.max_requests,
            "window_ms": found.rate.window_ms,
            "burst": found.rate.burst,
        },
        remaining=verdict.remaining,
        limited_by=found.layer.value,
        allow_with=(f"{verdict.retry_after_ms} ms of waiting", f"a higher {found.name} of the {found.layer}"),
        retry_after=seconds,
    )


def rates_unavailable() -> Unavailable:
    return Unavailable(
        "rates_unavailable",
        "requests cannot be counted just now, and this one is not let through uncounted",
        layer="limits",
        retry_after=1,
    )


def rates_invalid(name: str, rule: str) -> Invalid:
    return Invalid("rates_invalid", f"limits.rates.{name}: {rule}", layer="limits", field=f"limits.rates.{name}")


def override_version_mismatch() -> Precondition:
    return Precondition("version_mismatch", "the limits have changed since: read them again", layer="limits")


def _told(found: EffectiveRate) -> str:
    rate = found.rate
    return f"the {rate.max_requests} {found.name} in {rate.window_ms} ms"


def metering_event_invalid(rule: str) -> Invalid:
    return Invalid("metering_event_invalid", f"an event of use: {rule}", layer="limits")


def metering_span_invalid(rule: str) -> Invalid:
    return Invalid("metering_span_invalid", rule, layer="limits", field="since")
