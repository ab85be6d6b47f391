import heapq
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from tenantry.foundation.caches.ports import ReplayOutcome, ReplayVerdict
from tenantry.foundation.caches.rules import (
    MAX_REPLAY_WINDOW_MS,
    replay_key,
    replay_window,
    tenant_of,
    whole_number,
)
from tenantry.foundation.clock import Clock


@dataclass(slots=True)
class _Seen:
    """One tenant's nonces, oldest date first; nothing dated at or before `floor_ms` passes any more."""

    floor_ms: int
    nonces: set[str] = field(default_factory=set)
    by_date: list[tuple[int, str]] = field(default_factory=list)

    def forget_oldest(self) -> int:
        stamp, key = heapq.heappop(self.by_date)
        self.nonces.discard(key)
        return stamp


@dataclass(slots=True)
class _Memory:
    started_ms: int
    latest_ms: int
    tenants: dict[UUID, _Seen] = field(default_factory=dict)
    held: int = 0


class EmbeddedReplayGuard:
    """Nonces in one process. A full memory forgets the oldest nonces of a tenant and refuses every call of that age.

    `per_tenant` bounds a tenant; above `total` the tenant that holds the most forgets. `window_ms` is how long a nonce
    is remembered and the widest window a call may ask for.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        tenant: UUID | None = None,
        window_ms: int = 300_000,
        per_tenant: int = 10_000,
        total: int = 100_000,
        memory: _Memory | None = None,
    ) -> None:
        self._clock = clock
        self._tenant = tenant
        self._window_ms = whole_number(window_ms, field="window_ms", low=1, high=MAX_REPLAY_WINDOW_MS)
        self._per_tenant = per_tenant
        self._total = total
        now = self._wall_ms()
        self._memory = memory or _Memory(started_ms=now, latest_ms=now)

    def for_tenant(self, tenant: UUID) -> Self:
        return type(self)(
            self._clock,
            tenant=tenant_of(tenant, None),
            window_ms=self._window_ms,
            per_tenant=self._per_tenant,
            total=self._total,
            memory=self._memory,
        )

    def __len__(self) -> int:
        return self._memory.held

    async def allow_once(
        self,
        nonce: str,
        timestamp_ms: int,
        *,
        tenant: UUID | None = None,
        window_ms: int | None = None,
        clock_skew_ms: int = 5_000,
    ) -> ReplayVerdict:
        owner = tenant_of(tenant, self._tenant)
        key = replay_key(owner, nonce)
        window = replay_window(window_ms, self._window_ms, timestamp_ms=timestamp_ms, clock_skew_ms=clock_skew_ms)
        memory = self._memory
        # A clock set back would bring forgotten nonces into the window again, so the latest time seen rules.
        now = memory.latest_ms = max(memory.latest_ms, self._wall_ms())
        if timestamp_ms > self._wall_ms() + clock_skew_ms:
            return ReplayVerdict(ReplayOutcome.IN_FUTURE)
        seen = memory.tenants.get(owner)
        floor = memory.started_ms - 1 if seen is None else seen.floor_ms
        if timestamp_ms <= max(now - window, floor):
            return ReplayVerdict(ReplayOutcome.TOO_OLD)
        if seen is None:
            seen = memory.tenants[owner] = _Seen(floor_ms=floor)
        if key in seen.nonces:
            return ReplayVerdict(ReplayOutcome.REPLAYED)
        self._remember(seen, timestamp_ms, key)
        self._forget_expired(now)
        return ReplayVerdict(ReplayOutcome.ALLOWED)

    def forget(self, tenant: UUID) -> int:
        seen = self._memory.tenants.pop(tenant, None)
        count = len(seen.by_date) if seen else 0
        self._memory.held -= count
        return count

    def _remember(self, seen: _Seen, stamp: int, key: str) -> None:
        heapq.heappush(seen.by_date, (stamp, key))
        seen.nonces.add(key)
        self._memory.held += 1
        while len(seen.nonces) > self._per_tenant:
            self._evict(seen)
        while self._memory.held > self._total:
            self._evict(max(self._memory.tenants.values(), key=lambda one: len(one.nonces)))

    def _evict(self, seen: _Seen) -> None:
        seen.floor_ms = max(seen.floor_ms, seen.forget_oldest())
        self._memory.held -= 1

    def _forget_expired(self, now: int) -> None:
        """Drop what has left the guard's window, of the tenant that waits longest for it: constant work a call."""
        tenants = self._memory.tenants
        owner = next(iter(tenants))
        seen = tenants.pop(owner)
        expired = now - self._window_ms
        while seen.by_date and seen.by_date[0][0] <= expired:
            seen.forget_oldest()
            self._memory.held -= 1
        # An empty memory whose floor has left the window says nothing any more.
        if seen.by_date or seen.floor_ms > expired:
            tenants[owner] = seen

    def _wall_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
