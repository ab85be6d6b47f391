"""The checks and arithmetic both adapters share; pure, so that they cannot differ."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from tenantry.foundation.caches.ports import RateLimit
from tenantry.foundation.errors import Invalid

MAX_LIMITS: Final = 16
MAX_VALUE_BYTES: Final = 1 << 20
MAX_TTL_MS: Final = 24 * 3_600_000
MAX_REPLAY_WINDOW_MS: Final = 3_600_000
ETAG_LENGTH: Final = 32
# Lua counts in doubles: whole to 2**53. A burst that takes ten years to refill plus the present stays far below.
_MAX_TOLERANCE_US: Final = 10 * 366 * 86_400_000_000
_MAX_WINDOW_MS: Final = 366 * 86_400_000
_MAX_TIMESTAMP_MS: Final = 1 << 43

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RESOURCE: Final = re.compile(r"[A-Za-z0-9._/=-]{1,256}")
_NONCE: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")


class Charge(NamedTuple):
    """GCRA in microseconds: one unit every `emission_us`, as far ahead of the present as `tolerance_us`."""

    emission_us: int
    tolerance_us: int
    cost: int


def whole_number(value: object, *, field: str, low: int, high: int) -> int:
    """Refuse what is not an `int` of the range: floats (so NaN and 1e308), booleans, text."""
    if type(value) is not int or not low <= value <= high:
        raise Invalid("number_out_of_range", f"{field} is a whole number from {low} to {high}", field=field)
    return value


def tenant_of(tenant: object, default: UUID | None) -> UUID:
    """Choose the call's tenant, else the default; a text, even of a UUID, is refused."""
    chosen = default if tenant is None else tenant
    if chosen is None:
        raise Invalid("tenant_missing", "name the tenant, or use for_tenant()", field="tenant")
    if not isinstance(chosen, UUID):
        raise Invalid("tenant_malformed", "a tenant is named by its UUID", field="tenant")
    return chosen


def _matching(pattern: re.Pattern[str], text: object, *, field: str) -> str:
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise Invalid("key_malformed", f"{field} must match {pattern.pattern}", field=field)
    return text


def tenant_prefix(tenant: UUID) -> str:
    """Begin every key of a tenant."""
    return f"tenantry:{{{tenant.hex}}}:"


def rate_keys(limits: Sequence[RateLimit]) -> list[str]:
    """Name where `limits`, which `charges_of` has checked, are kept; all lie in one cluster slot."""
    prefix = f"{tenant_prefix(limits[0].tenant)}rate:"
    return [prefix + limit.name for limit in limits]


def etag_key(tenant: UUID, resource: str) -> str:
    return f"tenantry:{{{tenant.hex}}}:etag:{_matching(_RESOURCE, resource, field='resource')}"


def replay_key(tenant: UUID, nonce: str) -> str:
    return f"tenantry:{{{tenant.hex}}}:replay:{_matching(_NONCE, nonce, field='nonce')}"


def charges_of(limits: Sequence[RateLimit]) -> list[Charge]:
    """Check the limits of one call; emission is rounded up, so rounding never admits more than the rate."""
    if not 1 <= len(limits) <= MAX_LIMITS:
        raise Invalid("rate_limits_count", f"a call is held against 1 to {MAX_LIMITS} limits", field="limits")
    tenant = tenant_of(limits[0].tenant, None)
    names: set[str] = set()
    charges = []
    for limit in limits:
        if limit.tenant is not tenant and limit.tenant != tenant:
            raise Invalid("rate_limits_mixed_tenants", "the limits of one call belong to one tenant", field="tenant")
        if _rate_name(limit.name) in names:
            raise Invalid("rate_limits_repeated", f"limit {limit.name} is named twice in one call", field="name")
        names.add(limit.name)
        charges.append(charge_of(limit.max_requests, limit.window_ms, limit.burst, limit.cost))
    return charges


@lru_cache(maxsize=4096, typed=True)
def _rate_name(name: str) -> str:
    return _matching(_NAME, name, field="name")


# Typed: True and 1.0 equal 1, and must not find its charge.
@lru_cache(maxsize=4096, typed=True)
def charge_of(max_requests: int, window_ms: int, burst: int | None, cost: int) -> Charge:
    """Check the numbers of one limit."""
    window_us = whole_number(window_ms, field="window_ms", low=1, high=_MAX_WINDOW_MS) * 1000
    most = whole_number(max_requests, field="max_requests", low=1, high=window_us)
    emission = -(-window_us // most)
    most = whole_number(most if burst is None else burst, field="burst", low=1, high=_MAX_TOLERANCE_US // emission)
    return Charge(
        emission_us=emission,
        tolerance_us=emission * most,
        cost=whole_number(cost, field="cost", low=1, high=most),
    )


def etag_of(value: bytes) -> str:
    """Raise Invalid for a value above 1 MiB."""
    if len(value) > MAX_VALUE_BYTES:
        raise Invalid("etag_value_too_large", f"a value is at most {MAX_VALUE_BYTES} bytes", field="value")
    return hashlib.sha256(value).hexdigest()[:ETAG_LENGTH]


def ttl_of(ttl_ms: int | None, default: int) -> int:
    return whole_number(default if ttl_ms is None else ttl_ms, field="ttl_ms", low=1, high=MAX_TTL_MS)


def replay_window(window_ms: int | None, guard_ms: int, *, timestamp_ms: int, clock_skew_ms: int) -> int:
    """Check the numbers of one `allow_once`; the call's window may only narrow the guard's."""
    whole_number(timestamp_ms, field="timestamp_ms", low=0, high=_MAX_TIMESTAMP_MS)
    whole_number(clock_skew_ms, field="clock_skew_ms", low=0, high=MAX_REPLAY_WINDOW_MS)
    return whole_number(guard_ms if window_ms is None else window_ms, field="window_ms", low=1, high=guard_ms)
