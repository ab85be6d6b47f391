from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tenantry.foundation.caches.ports import RateLimit, Standing, Verdict
from tenantry.foundation.caches.rules import charges_of
from tenantry.foundation.clock import Clock
from tenantry.foundation.errors import Unavailable

_SWEPT_PER_KEY: Final = 2


class EmbeddedRateLimiter:
    """GCRA on the monotonic clock, in one process; a call takes no `await`, so no other task comes between.

    A tenant whose limits would take more than `per_tenant` places is refused with Unavailable `rate_limits_full`, as is
    anyone when `total` are taken: what cannot be counted is not admitted.
    """

    def __init__(self, clock: Clock, *, per_tenant: int = 5_000, total: int = 200_000) -> None:
        self._clock = clock
        self._per_tenant = per_tenant
        self._total = total
        self._arrivals: OrderedDict[tuple[UUID, str], int] = OrderedDict()
        self._held: Counter[UUID] = Counter()

    def __len__(self) -> int:
        return len(self._arrivals)

    async def admit(self, limits: Sequence[RateLimit]) -> Verdict:
        charges = charges_of(limits)
        now = int(self._clock.monotonic() * 1_000_000)
        self._sweep(now, places=_SWEPT_PER_KEY * len(limits))
        refused: tuple[int, int, int] | None = None
        nearest: tuple[int, int] | None = None
        arrivals = []
        for index, (limit, charge) in enumerate(zip(limits, charges, strict=True)):
            before = max(now, self._arrivals.get((limit.tenant, limit.name), now))
            after = before + charge.emission_us * charge.cost
            wait = after - now - charge.tolerance_us
            if wait > 0 and (refused is None or wait > refused[0]):
                left = max(0, (charge.tolerance_us - (before - now)) // charge.emission_us)
                refused = wait, left, index
            remaining = (charge.tolerance_us - (after - now)) // charge.emission_us
            if nearest is None or remaining < nearest[0]:
                nearest = remaining, index
            arrivals.append(after)
        if refused is not None:
            wait, left, index = refused
            return Verdict(allowed=False, retry_after_ms=-(-wait // 1000), remaining=left, limiting=index)
        self._store(limits, arrivals)
        remaining, index = nearest or (0, 0)
        return Verdict(allowed=True, retry_after_ms=0, remaining=remaining, limiting=index)

    async def look(self, limits: Sequence[RateLimit]) -> list[Standing]:
        charges = charges_of(limits)
        now = int(self._clock.monotonic() * 1_000_000)
        standings = []
        for limit, charge in zip(limits, charges, strict=True):
            ahead = max(0, self._arrivals.get((limit.tenant, limit.name), now) - now)
            left = max(0, (charge.tolerance_us - ahead) // charge.emission_us)
            standings.append(Standing(remaining=left, reset_ms=-(-ahead // 1000)))
        return standings

    def forget(self, tenant: UUID) -> int:
        keys = [key for key in self._arrivals if key[0] == tenant]
        for key in keys:
            del self._arrivals[key]
        self._held.pop(tenant, None)
        return len(keys)

    def _store(self, limits: Sequence[RateLimit], arrivals: Sequence[int]) -> None:
        tenant = limits[0].tenant
        fresh = sum((tenant, limit.name) not in self._arrivals for limit in limits)
        if fresh and (self._held[tenant] + fresh > self._per_tenant or len(self._arrivals) + fresh > self._total):
            raise Unavailable(
                "rate_limits_full",
                "this process counts as many rate limits as it may; wait, or configure Redis",
                layer="limits",
            )
        self._held[tenant] += fresh
        for limit, arrival in zip(limits, arrivals, strict=True):
            self._arrivals[tenant, limit.name] = arrival
            self._arrivals.move_to_end((tenant, limit.name))

    def _sweep(self, now: int, *, places: int) -> None:
        # An arrival in the past means the same as none. Looking at two places for each one written keeps the table
        # within about twice what is alive, with no pause to clean it.
        for _ in range(min(places, len(self._arrivals))):
            key, arrival = self._arrivals.popitem(last=False)
            if arrival > now:
                self._arrivals[key] = arrival
                continue
            self._held[key[0]] -= 1
            if not self._held[key[0]]:
                del self._held[key[0]]
