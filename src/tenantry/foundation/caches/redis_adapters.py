"""The three ports on Redis or Valkey; time is the server's own, so that processes agree."""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Final, Self
from uuid import UUID

from tenantry.foundation.caches.ports import (
    CasOutcome,
    CasResult,
    EtagEntry,
    RateLimit,
    ReplayOutcome,
    ReplayVerdict,
    Standing,
    Verdict,
)
from tenantry.foundation.caches.redis_link import RedisLink, Script
from tenantry.foundation.caches.rules import (
    ETAG_LENGTH,
    MAX_REPLAY_WINDOW_MS,
    Charge,
    charges_of,
    etag_key,
    etag_of,
    rate_keys,
    replay_key,
    replay_window,
    tenant_of,
    ttl_of,
    whole_number,
)

_ADMIT: Final = Script("admit")
_LOOK: Final = Script("look")
_COMPARE_AND_SET: Final = Script("compare_and_set")
_REMEMBER: Final = Script("remember")
_HORIZON: Final = Script("horizon")
_HORIZON_KEY: Final = "tenantry:{replay}:horizon"
_ABSENT: Final = "(absent)"


class RedisRateLimiter:
    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def admit(self, limits: Sequence[RateLimit]) -> Verdict:
        packed = _packed(charges_of(limits))
        allowed, wait_us, remaining, limiting = await self._link.run(_ADMIT, rate_keys(limits), packed)
        return Verdict(allowed == 1, -(-wait_us // 1000), remaining, limiting)

    async def look(self, limits: Sequence[RateLimit]) -> list[Standing]:
        packed = _packed(charges_of(limits))
        told = await self._link.run(_LOOK, rate_keys(limits), packed)
        return [Standing(remaining=left, reset_ms=-(-ahead_us // 1000)) for left, ahead_us in told]


def _packed(charges: Sequence[Charge]) -> bytes:
    """As Lua's numbers, in one argument: each of its own costs either side more than its arithmetic."""
    return struct.pack(f"<{3 * len(charges)}d", *chain.from_iterable(charges))


class RedisEtagStore:
    def __init__(self, link: RedisLink, *, tenant: UUID | None = None, ttl_ms: int = 60_000) -> None:
        self._link = link
        self._tenant = tenant
        self._ttl_ms = ttl_of(ttl_ms, ttl_ms)

    def for_tenant(self, tenant: UUID) -> Self:
        return type(self)(self._link, tenant=tenant_of(tenant, None), ttl_ms=self._ttl_ms)

    async def find(self, resource: str, *, tenant: UUID | None = None) -> EtagEntry | None:
        return _entry(await self._link.command("GET", self._key(resource, tenant)))

    async def find_all(self, resources: Sequence[str], *, tenant: UUID | None = None) -> list[EtagEntry | None]:
        found = await self._link.command("MGET", *(self._key(resource, tenant) for resource in resources))
        return [_entry(stored) for stored in found]

    async def put(self, resource: str, value: bytes, *, tenant: UUID | None = None, ttl_ms: int | None = None) -> str:
        key, etag = self._key(resource, tenant), etag_of(value)
        await self._link.command("SET", key, etag.encode("ascii") + value, "PX", ttl_of(ttl_ms, self._ttl_ms))
        return etag

    async def compare_and_set(
        self,
        resource: str,
        *,
        expected: str | None,
        value: bytes,
        tenant: UUID | None = None,
        ttl_ms: int | None = None,
    ) -> CasResult:
        key, etag = self._key(resource, tenant), etag_of(value)
        entry = etag.encode("ascii") + value
        wanted = _ABSENT if expected is None else expected
        answer = await self._link.run(_COMPARE_AND_SET, [key], wanted, entry, ttl_of(ttl_ms, self._ttl_ms))
        if answer == 1:
            return CasResult(CasOutcome.STORED, etag)
        if answer == 0:
            return CasResult(CasOutcome.MISSING, None)
        return CasResult(CasOutcome.CHANGED, answer.decode("ascii"))

    async def delete(self, resource: str, *, tenant: UUID | None = None) -> None:
        await self._link.command("DEL", self._key(resource, tenant))

    def _key(self, resource: str, tenant: UUID | None) -> str:
        return etag_key(tenant_of(tenant, self._tenant), resource)


class RedisReplayGuard:
    def __init__(self, link: RedisLink, *, tenant: UUID | None = None, window_ms: int = 300_000) -> None:
        self._link = link
        self._tenant = tenant
        self._window_ms = whole_number(window_ms, field="window_ms", low=1, high=MAX_REPLAY_WINDOW_MS)

    def for_tenant(self, tenant: UUID) -> Self:
        return type(self)(self._link, tenant=tenant_of(tenant, None), window_ms=self._window_ms)

    async def look_back(self) -> None:
        """Note what this server remembers from; before that note, calls are refused."""
        await self._link.run(_HORIZON, [_HORIZON_KEY])

    async def allow_once(
        self,
        nonce: str,
        timestamp_ms: int,
        *,
        tenant: UUID | None = None,
        window_ms: int | None = None,
        clock_skew_ms: int = 5_000,
    ) -> ReplayVerdict:
        key = replay_key(tenant_of(tenant, self._tenant), nonce)
        window = replay_window(window_ms, self._window_ms, timestamp_ms=timestamp_ms, clock_skew_ms=clock_skew_ms)
        # Two scripts because the horizon lives in another cluster slot. In this order: a flush before the nonce was
        # written shows in the horizon, one after it at worst refuses this call.
        answer, (since, latest) = await self._link.run_all(
            (_REMEMBER, [key], [timestamp_ms, window, self._window_ms, clock_skew_ms]),
            (_HORIZON, [_HORIZON_KEY], []),
        )
        outcome = ReplayOutcome(answer.decode("ascii"))
        if outcome is ReplayOutcome.ALLOWED and timestamp_ms <= max(since - 1, latest - window):
            outcome = ReplayOutcome.TOO_OLD
        return ReplayVerdict(outcome)


def _entry(stored: bytes | None) -> EtagEntry | None:
    return EtagEntry(stored[:ETAG_LENGTH].decode("ascii"), stored[ETAG_LENGTH:]) if stored is not None else None
