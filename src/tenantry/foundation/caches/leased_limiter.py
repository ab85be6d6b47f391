"""Answers between round trips: units charged ahead, and refusals that cannot have ended yet.

A lease is as strict as the store. The units of a limit lie end to end on its arrival line, each `emission` long. A unit
that the store admits at s begins no earlier than s and ends no later than s + tolerance. Of 1 + n units charged at
once, asked for at t0 (the local clock, read before the request was sent: no later than s), unit 0 is the call's own and
unit i begins no earlier than t0 + i · emission; it is used only before that. So all that is admitted within [a, b],
from leases or by the store, lies apart inside [a, b + tolerance]: at most rate · (b - a) + burst units. This takes
clocks that run at one pace.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from tenantry.foundation.caches.ports import RateLimit, RateLimiter, Standing, Verdict
from tenantry.foundation.caches.rules import Charge, charge_of, charges_of
from tenantry.foundation.clock import Clock

_LARGEST: Final = 64
_SMALLEST: Final = 2
_SHARE: Final = 20
_SECOND_US: Final = 1_000_000
# A store that was emptied by hand is noticed after this long, however far off the end of a refusal is.
_TRUSTED_US: Final = 60 * _SECOND_US

_Call = tuple[tuple[UUID, str, Charge], ...]
_Limit = tuple[UUID, str, int, int]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Lease:
    """What is known of one call: its pace, and the units charged ahead for it (none: `size` is 0). Microseconds."""

    __slots__ = (
        "asked",
        "calls",
        "emission",
        "fetching",
        "limiting",
        "most",
        "not_before",
        "remaining",
        "size",
        "used",
    )

    def __init__(self, charges: Sequence[Charge]) -> None:
        # The shortest emission passes its units first: one that is in time for it is in time for the other limits,
        # and when it has none left the lease is over. So one count serves all limits.
        self.emission = min(charge.emission_us for charge in charges)
        share = min(_burst(charge) for charge in charges) // _SHARE
        self.most = min(_LARGEST, share) if all(charge.cost == 1 for charge in charges) else 0
        self.asked = -(1 << 62)
        self.not_before = self.asked
        self.fetching = False
        self.calls = self.size = self.used = self.remaining = self.limiting = 0

    def take(self, now: int) -> int:
        """Use the earliest unit that has not begun; returns how many are left, -1 when there was none."""
        unit = (now - self.asked) // self.emission + 1
        if unit <= self.used:
            unit = self.used + 1
        if unit > self.size:
            return -1
        self.used = unit
        self.calls += 1
        return self.size - unit

    def worth(self, now: int) -> int:
        """How many units to lease: those the pace since the last round trip would use in a second, 0 if too few.

        Too few is also what would pass before it is used twice.
        """
        if self.fetching or now < self.not_before:
            return 0
        pause = max(1, (now - self.asked) // (self.calls + 1))
        size = min(self.most, _SECOND_US // pause)
        return size if size >= _SMALLEST and size * self.emission >= 2 * pause else 0

    def start(self, now: int, *, size: int = 0) -> None:
        """Count pace and units from here."""
        self.asked, self.size, self.used, self.calls = now, size, 0, 0


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A call of cost c is refused before `earliest` + c · emission and passes at `latest` + c · emission, if alone.

    Microseconds of the local clock; not relied upon after `until`.
    """

    earliest: int
    latest: int
    until: int


class LeasedRateLimiter:
    """Admits from leases and repeats refusals, without a round trip; strict over all processes as `limiter` is.

    - A call of cost 1 leases what its present pace would use within a second: 2 to 64 units, at most a twentieth of
      each burst, and only while half of each burst stays free. Units that are not used in time are lost.
    - `remaining` of a call admitted from a lease is what the store said at the lease plus the units left in it; with
      limits of different bursts it may be lower than that, and `limiting` names the smallest burst.
    - A refusal is repeated to every call with that limit until its wait is over, at most a minute. Another limit of
      such a call may turn out to make it wait longer.
    - `most` calls and as many refusals are remembered; those asked longest ago go first.
    """

    def __init__(self, limiter: RateLimiter, clock: Clock, *, most: int = 10_000) -> None:
        self._limiter = limiter
        self._clock = clock
        self._most = most
        self._leases: OrderedDict[_Call, _Lease] = OrderedDict()
        self._refusals: OrderedDict[_Limit, _Refusal] = OrderedDict()

    async def admit(self, limits: Sequence[RateLimit]) -> Verdict:
        now = self._now()
        # A call found by this key was checked when its lease was made.
        call = tuple(
            [(one.tenant, one.name, charge_of(one.max_requests, one.window_ms, one.burst, one.cost)) for one in limits]
        )
        lease = self._leases.get(call)
        if lease is not None and (left := lease.take(now)) >= 0:
            return Verdict(True, 0, lease.remaining + left, lease.limiting)
        charges = charges_of(limits)
        known = self._refused(limits, charges, now)
        if known is not None:
            return known
        if lease is None:
            lease = _Lease(charges)
        _keep(self._leases, call, lease, most=self._most)
        size = lease.worth(now)
        verdict = await self._fetch(limits, charges, lease, now, size=size) if size else None
        if verdict is not None:
            return verdict
        now = self._now()
        lease.start(now)
        verdict = await self._limiter.admit(limits)
        # Else it was forgotten meanwhile, and the answer may be older than that.
        if not verdict and self._leases.get(call) is lease:
            self._note(limits[verdict.limiting], charges[verdict.limiting], verdict.retry_after_ms * 1000, asked=now)
        return verdict

    async def look(self, limits: Sequence[RateLimit]) -> Sequence[Standing]:
        """Ask the store, where what is leased counts as charged."""
        return await self._limiter.look(limits)

    def forget(self, tenant: UUID) -> None:
        """Drop what is known of a tenant."""
        for call in [call for call in self._leases if call[0][0] == tenant]:
            del self._leases[call]
        for limit in [limit for limit in self._refusals if limit[0] == tenant]:
            del self._refusals[limit]

    def clear(self) -> None:
        """Drop all that is known: the store may be another."""
        self._leases.clear()
        self._refusals.clear()

    async def _fetch(
        self, limits: Sequence[RateLimit], charges: Sequence[Charge], lease: _Lease, now: int, *, size: int
    ) -> Verdict | None:
        """Charge the call and `size` units ahead of it; None, and nothing charged, when too little would stay free."""
        bursts = [_burst(charge) for charge in charges]
        # Held against the other half of each burst only: so the store itself sees to it that one half stays free.
        halved = [
            RateLimit(one.tenant, one.name, one.max_requests, one.window_ms, burst - burst // 2, 1 + size)
            for one, burst in zip(limits, bursts, strict=True)
        ]
        lease.fetching = True
        try:
            verdict = await self._limiter.admit(halved)
        finally:
            lease.fetching = False
        if not verdict:
            lease.not_before = self._now() + max(verdict.retry_after_ms * 1000, size * lease.emission)
            return None
        lease.start(now, size=size)
        smallest = min(bursts)
        lease.remaining = verdict.remaining + smallest // 2
        lease.limiting = verdict.limiting if bursts[verdict.limiting] == smallest else bursts.index(smallest)
        return Verdict(True, 0, lease.remaining + size, lease.limiting)

    def _refused(self, limits: Sequence[RateLimit], charges: Sequence[Charge], now: int) -> Verdict | None:
        longest, found = 0, None
        for index, (limit, charge) in enumerate(zip(limits, charges, strict=True)):
            refusal = self._refusals.get((limit.tenant, limit.name, charge.emission_us, charge.tolerance_us))
            needed = charge.emission_us * charge.cost
            if refusal is None or now >= min(refusal.until, refusal.earliest + needed):
                continue
            wait = refusal.latest + needed - now
            if wait > longest:
                longest = wait
                left = max(0, (needed - wait) // charge.emission_us)
                found = Verdict(False, -(-wait // 1000), left, index)
        return found

    def _note(self, limit: RateLimit, charge: Charge, wait: int, *, asked: int) -> None:
        # The store read its clock between `asked` and now, and told a wait rounded up to whole milliseconds.
        needed = charge.emission_us * charge.cost
        refusal = _Refusal(asked + wait - 1000 - needed, self._now() + wait - needed, asked + _TRUSTED_US)
        key = (limit.tenant, limit.name, charge.emission_us, charge.tolerance_us)
        _keep(self._refusals, key, refusal, most=self._most)

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1_000_000)


def _burst(charge: Charge) -> int:
    return charge.tolerance_us // charge.emission_us


def _keep(table: OrderedDict[_Key, _Value], key: _Key, value: _Value, *, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
