"""Refusals of limits."""

from collections.abc import Sequence

from tenantry.capabilities.limits.types import EffectiveRate, RateVerdict
from tenantry.capabilities.limits.types.quotas import EffectiveLimit, Quota, Refusal
from tenantry.foundation.errors import Denied, Exhausted, Invalid, Precondition, Unavailable


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


def quota_exceeded(refusal: Refusal, effective: EffectiveLimit) -> Exhausted:
    """Over a quota: which, of whom, by which layer, how it stands, and what would allow it."""
    quota, layer = refusal.quota, effective.layer.value if effective.layer else "ledger"
    window = {"day": " today", "month": " this month", None: ""}[quota.window]
    unit = " bytes" if quota.unit != 1 else ""
    waiting = {"day": ("the next day",), "month": ("the next month",)}.get(quota.window or "", ())
    freed = () if quota.window else ("less that is under way or kept",)
    return Exhausted(
        "quota_exceeded",
        f"{quota.value} of the {effective.holder.value} is {refusal.most}{unit}: {refusal.used} used and "
        f"{refusal.held} held{window}, {refusal.wanted} more wanted; the {layer} sets it",
        layer="limits",
        limit={"name": quota.value, "holder": effective.holder.value, "most": refusal.most},
        current={"used": refusal.used, "held": refusal.held, "wanted": refusal.wanted},
        limited_by=layer,
        allow_with=(*waiting, *freed, f"a higher {quota.value} of the {layer}"),
    )


def quota_contended() -> Unavailable:
    return Unavailable(
        "quota_contended",
        "others took the last of a quota at the same moment: nothing was done, ask again",
        layer="limits",
        retry_after=1,
    )


def amount_invalid(quota: Quota) -> Invalid:
    return Invalid(
        "amount_invalid", f"{quota.value}: an amount is a whole number from 0 to 2^53 - 1", layer="limits", field=quota
    )


def number_of_tenant(name: str) -> Invalid:
    return Invalid(
        "limit_of_tenant", f"limits.{name}: is counted over the whole tenant, set it there", layer="limits", field=name
    )


def feature_missing(feature: str, plan: str, offered_by: Sequence[str]) -> Denied:
    """Refuse what the plan does not include."""
    return Denied(
        "feature_missing",
        f"the plan {plan} does not include {feature}",
        layer="limits",
        feature=feature,
        plan=plan,
        allow_with=tuple(f"the plan {each}" for each in offered_by),
    )


def metering_event_invalid(rule: str) -> Invalid:
    return Invalid("metering_event_invalid", f"an event of use: {rule}", layer="limits")


def metering_span_invalid(rule: str) -> Invalid:
    return Invalid("metering_span_invalid", rule, layer="limits", field="since")
