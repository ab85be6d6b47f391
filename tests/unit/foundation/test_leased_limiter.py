"""Leases and remembered refusals, over a store whose time and delays a test turns."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from tenantry.foundation.caches.embedded_limiter import EmbeddedRateLimiter
from tenantry.foundation.caches.leased_limiter import LeasedRateLimiter
from tenantry.foundation.caches.ports import RateLimit, Standing, Verdict
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Invalid, Unavailable

EMISSION_US = 600_000


class Turned(SystemClock):
    def __init__(self) -> None:
        self.at_us = 10_000_000

    def monotonic(self) -> float:
        return self.at_us / 1_000_000


class Store:
    """A limiter that others share: counts what it is asked, and the clock moves on before and after it looks."""

    def __init__(self, clock: Turned) -> None:
        self.clock = clock
        self.limiter = EmbeddedRateLimiter(clock)
        self.asked: list[int] = []
        self.read_at = 0
        self.there_us = self.back_us = 0
        self.gate: asyncio.Event | None = None
        self.down = False

    async def admit(self, limits: Sequence[RateLimit]) -> Verdict:
        self.asked.append(limits[0].cost)
        self.clock.at_us += self.there_us
        self.read_at = self.clock.at_us
        if self.down:
            raise Unavailable("caches_unavailable", "down")
        verdict = await self.limiter.admit(limits)
        if self.gate is not None:
            await self.gate.wait()
        self.clock.at_us += self.back_us
        return verdict

    async def look(self, limits: Sequence[RateLimit]) -> Sequence[Standing]:
        return await self.limiter.look(limits)


@pytest.fixture
def store() -> Store:
    return Store(Turned())


@pytest.fixture
def limiter(store: Store) -> LeasedRateLimiter:
    return LeasedRateLimiter(store, store.clock)


def limit(tenant: UUID, name: str = "requests", **fields: Any) -> RateLimit:
    return RateLimit(**{"tenant": tenant, "name": name, "max_requests": 100, "window_ms": 60_000, **fields})


async def leased(limiter: LeasedRateLimiter, *limits: RateLimit) -> None:
    """The second call in quick succession takes the lease: five units for a burst of 100."""
    for _ in range(2):
        assert await limiter.admit(limits)


async def remaining(store: Store, *limits: RateLimit) -> list[int]:
    return [one.remaining for one in await store.look(limits)]


async def test_one_process_sees_the_verdicts_of_the_store_and_asks_it_less(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    plain, one = EmbeddedRateLimiter(store.clock), limit(uuid4())
    for _ in range(110):
        assert await limiter.admit([one]) == await plain.admit([one])
    # One alone, eight leases to the half of the burst, one more that is not granted, 51 alone and the first refusal.
    assert store.asked == [1] + 8 * [6] + [6] + 51 * [1] + [1]


async def test_a_lease_passes_as_its_limit_refills(store: Store, limiter: LeasedRateLimiter) -> None:
    one = limit(uuid4())
    await leased(limiter, one)
    asked = len(store.asked)
    store.clock.at_us += 3 * EMISSION_US
    for _ in range(2):  # units 4 and 5; at this very moment unit 3 begins
        assert await limiter.admit([one])
    assert len(store.asked) == asked
    await limiter.admit([one])
    assert len(store.asked) == asked + 1
    await leased(limiter, one)
    asked = len(store.asked)
    store.clock.at_us += 5 * EMISSION_US
    await limiter.admit([one])
    assert len(store.asked) == asked + 1


@pytest.mark.parametrize("back_us", [0, 1, 50_000, 100_000])
@pytest.mark.parametrize("moment", [0, 99_999, 100_000, 100_001, 199_999, 200_000, 200_001])
async def test_units_used_in_their_last_moment_leave_the_burst_what_it_is(
    store: Store, limiter: LeasedRateLimiter, moment: int, back_us: int
) -> None:
    one = limit(uuid4(), max_requests=40, window_ms=4_000)
    assert await limiter.admit([one])
    store.clock.at_us += 100_000
    begun, store.back_us = store.clock.at_us, back_us
    assert await limiter.admit([one])
    assert store.asked == [1, 3]
    store.clock.at_us, store.back_us = max(store.clock.at_us, begun + moment), 0
    admitted = [await limiter.admit([one]) for _ in range(2)]
    store.clock.at_us += 1
    admitted += [await LeasedRateLimiter(store, store.clock).admit([one]) for _ in range(41)]
    assert 36 <= sum(map(bool, admitted)) <= 40


async def test_a_slow_store_shortens_the_lease_never_lengthens_it(store: Store, limiter: LeasedRateLimiter) -> None:
    one = limit(uuid4())
    assert await limiter.admit([one])
    store.there_us = store.back_us = 2 * EMISSION_US
    assert await limiter.admit([one])
    assert store.asked == [1, 6]
    assert await limiter.admit([one])  # the fifth of five: four began while the store was asked
    assert store.asked == [1, 6]
    assert await limiter.admit([one])
    assert store.asked[:2] == [1, 6]
    assert len(store.asked) == 3


async def test_who_calls_seldom_leases_nothing(store: Store, limiter: LeasedRateLimiter) -> None:
    one, quick = limit(uuid4()), limit(uuid4(), max_requests=10_000, window_ms=1_000)
    for _ in range(20):
        assert await limiter.admit([one])
        store.clock.at_us += 1_000_000
    for _ in range(20):  # 64 units pass in 6.4 ms, before they were used twice
        assert await limiter.admit([quick])
        store.clock.at_us += 3_300
    assert store.asked == 40 * [1]


async def test_a_lease_is_charged_to_all_limits_or_to_none(store: Store, limiter: LeasedRateLimiter) -> None:
    tenant = uuid4()
    free, used = limit(tenant, "free"), limit(tenant, "used", burst=200)
    await leased(limiter, free, used)
    assert await remaining(store, free, used) == [93, 193]
    # Others use up all but half of one: the call passes alone, and the other is charged for it alone.
    assert await store.admit([replace(used, cost=93)])
    for _ in range(5):
        assert await limiter.admit([free, used])
    assert await remaining(store, free, used) == [93, 100]
    assert await limiter.admit([free, used])
    assert await remaining(store, free, used) == [92, 99]
    assert store.asked[-2:] == [6, 1]


async def test_remaining_of_a_lease_is_never_more_than_the_least(store: Store, limiter: LeasedRateLimiter) -> None:
    tenant = uuid4()
    wide, narrow = limit(tenant, "wide", burst=1_000), limit(tenant, "narrow")
    assert await store.admit([replace(wide, cost=480)])
    seen = [await limiter.admit([wide, narrow]) for _ in range(7)]
    assert seen[0].remaining == 99
    assert all(verdict.remaining <= 100 - number for number, verdict in enumerate(seen, 1))
    assert {verdict.limiting for verdict in seen} == {1}


@pytest.mark.parametrize(
    "others",
    [
        [{"name": "other"}],
        [{"max_requests": 200}],
        [{"burst": 101}],
        [{"cost": 2}],
        [{}, {"name": "second"}],
        [{"tenant": UUID(int=7)}],
    ],
)
async def test_other_limits_do_not_use_the_lease(
    store: Store, limiter: LeasedRateLimiter, others: list[dict[str, Any]]
) -> None:
    one = limit(UUID(int=1))
    await leased(limiter, one)
    asked = len(store.asked)
    assert await limiter.admit([replace(one, **fields) for fields in others])
    assert len(store.asked) == asked + 1
    for _ in range(5):
        assert await limiter.admit([one])
    assert len(store.asked) == asked + 1


@pytest.mark.parametrize("fields", [{"cost": True}, {"max_requests": 100.0}, {"window_ms": 60_000.0}, {"burst": 100.0}])
async def test_a_lease_admits_no_number_that_only_equals_its_own(
    limiter: LeasedRateLimiter, fields: dict[str, Any]
) -> None:
    one = limit(uuid4(), burst=100)
    await leased(limiter, one)
    with pytest.raises(Invalid):
        await limiter.admit([replace(one, **fields)])
    with pytest.raises(Invalid):
        await limiter.admit([one, one])


async def test_calls_that_cost_more_than_one_are_never_leased(store: Store, limiter: LeasedRateLimiter) -> None:
    tenant = uuid4()
    for _ in range(10):
        assert await limiter.admit([limit(tenant, "dear", cost=2), limit(tenant, "cheap")])
    assert store.asked == 10 * [2]


async def test_a_refusal_is_repeated_without_asking_and_ends_when_it_said(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    tenant = uuid4()
    free, used = limit(tenant, "free"), limit(tenant, "used", max_requests=2, window_ms=10_000)
    assert await store.admit([replace(used, cost=2)])
    assert await limiter.admit([free, used]) == Verdict(False, 5_000, 0, 1)
    asked = len(store.asked)
    store.clock.at_us += 1_500_000
    assert await limiter.admit([free, used]) == Verdict(False, 3_500, 0, 1)
    assert await limiter.admit([used]) == Verdict(False, 3_500, 0, 0)
    assert await limiter.admit([limit(tenant, "third"), free, used]) == Verdict(False, 3_500, 0, 2)
    assert await limiter.admit([replace(used, cost=2)]) == Verdict(False, 8_500, 0, 0)
    store.clock.at_us += 3_499_000
    assert await limiter.admit([used]) == Verdict(False, 1, 0, 0)  # the store rounds up: its last millisecond is asked
    asked += 1
    assert len(store.asked) == asked
    store.clock.at_us += 1_000
    assert await limiter.admit([free, used])
    assert len(store.asked) == asked + 1
    assert await remaining(store, free) == [99]


async def test_a_refusal_tells_what_is_left_and_lets_a_lesser_cost_ask(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    dear = limit(uuid4(), burst=10, cost=7)
    assert await store.admit([dear])
    for _ in range(2):
        assert (await limiter.admit([dear])).remaining == 3
    assert store.asked == [7, 7]
    assert (await limiter.admit([replace(dear, cost=8)])).retry_after_ms == 5 * 600
    assert await limiter.admit([replace(dear, cost=3)])
    assert store.asked == [7, 7, 3]


async def test_of_two_refusals_the_longer_is_told(limiter: LeasedRateLimiter) -> None:
    tenant = uuid4()
    short = limit(tenant, "short", max_requests=1, window_ms=10_000)
    long = limit(tenant, "long", max_requests=1, window_ms=50_000)
    for one in (short, long, short, long):
        await limiter.admit([one])
    assert await limiter.admit([long, short]) == Verdict(False, 50_000, 0, 0)


async def test_a_slow_refusal_ends_no_later_than_the_store_would_end_it(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    used = limit(uuid4(), max_requests=1, window_ms=1_000)
    assert await store.admit([used])
    store.there_us, store.back_us = 0, 300_000
    assert (await limiter.admit([used])).retry_after_ms == 1_000
    assert await limiter.admit([used]) == Verdict(False, 1_000, 0, 0)
    store.clock.at_us += 700_000  # the store has refilled it by now
    assert await limiter.admit([used])


async def test_a_long_refusal_is_asked_again_after_a_minute(store: Store, limiter: LeasedRateLimiter) -> None:
    used = limit(uuid4(), max_requests=1, window_ms=3_600_000)
    for _ in range(4):
        await limiter.admit([used])
    assert len(store.asked) == 2
    store.limiter.forget(used.tenant)
    store.clock.at_us += 59_999_999
    assert not await limiter.admit([used])
    store.clock.at_us += 1
    assert await limiter.admit([used])


async def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(store: Store) -> None:
    limiter = LeasedRateLimiter(store, store.clock, most=10)
    ones = [limit(uuid4(), max_requests=1) for _ in range(30)]
    for one in ones:
        assert await limiter.admit([one])
        assert not await limiter.admit([one])
    asked = len(store.asked)
    assert len(limiter._leases) == len(limiter._refusals) == 10
    for one in ones[-10:]:
        assert not await limiter.admit([one])
    assert len(store.asked) == asked
    assert not await limiter.admit([ones[0]])
    assert len(store.asked) == asked + 1


async def test_forgetting_a_tenant_drops_what_is_known_of_it_alone(store: Store, limiter: LeasedRateLimiter) -> None:
    for drop, asked_after in ((limiter.forget, 2), (lambda _: limiter.clear(), 4)):
        gone, stays = uuid4(), uuid4()
        for tenant in (gone, stays):
            await leased(limiter, limit(tenant))
            for _ in range(2):
                await limiter.admit([limit(tenant, "used", max_requests=1)])
        drop(gone)
        store.limiter.forget(gone)
        store.asked.clear()
        assert (await limiter.admit([limit(gone)])).remaining == 99
        assert await limiter.admit([limit(gone, "used", max_requests=1)])
        assert len(store.asked) == 2
        assert await limiter.admit([limit(stays)])
        assert not await limiter.admit([limit(stays, "used", max_requests=1)])
        assert len(store.asked) == asked_after


async def test_a_refusal_from_before_the_tenant_was_forgotten_is_not_remembered(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    used = limit(uuid4(), max_requests=1)
    assert await limiter.admit([used])
    store.gate = asyncio.Event()
    late = asyncio.create_task(limiter.admit([used]))
    await asyncio.sleep(0)
    limiter.forget(used.tenant)
    store.limiter.forget(used.tenant)
    store.gate.set()
    assert not await late
    assert await limiter.admit([used])


async def test_while_one_task_fetches_a_lease_others_ask_for_themselves(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    one = limit(uuid4())
    assert await limiter.admit([one])
    store.gate = asyncio.Event()
    tasks = [asyncio.create_task(limiter.admit([one])) for _ in range(4)]
    await asyncio.sleep(0)
    store.gate.set()
    assert all(await asyncio.gather(*tasks))
    assert store.asked == [1, 6, 1, 1, 1]
    for _ in range(5):
        assert await limiter.admit([one])
    assert len(store.asked) == 5
    assert await remaining(store, one) == [90]


async def test_a_fetch_that_failed_or_was_cancelled_leaves_no_lease_and_no_lock(
    store: Store, limiter: LeasedRateLimiter
) -> None:
    one = limit(uuid4())
    assert await limiter.admit([one])
    store.down = True
    with pytest.raises(Unavailable):
        await limiter.admit([one])
    store.down, store.gate = False, asyncio.Event()
    task = asyncio.create_task(limiter.admit([one]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.gate = None
    assert await limiter.admit([one])
    assert store.asked == [1, 6, 6, 6]


UNIT_US = 20_000
EMISSIONS_US = (UNIT_US, 3 * UNIT_US)
# Most pauses end where a unit does.
PAUSES = st.builds(lambda times, more: max(0, UNIT_US * times + more), st.integers(0, 4), st.integers(-1, 1))
NAMES = st.sampled_from([("a",), ("a", "b"), ("b", "a")])
Step = tuple[int, int, tuple[str, ...], int, int]  # pause, which process, limits, cost, calls
STEPS = st.lists(
    st.tuples(
        PAUSES | st.integers(0, 200_000),
        st.integers(0, 1),
        NAMES,
        st.sampled_from([1, 1, 1, 3]),
        st.sampled_from([1, 2, 3, 70]),
    ),
    min_size=4,
    max_size=25,
)


def attack(names: tuple[str, ...], lease: int, use: int, calls: int, flood: int) -> list[Step]:
    """One process leases from whole limits and uses its units late, then the other takes what the store has."""
    begin = (5_000_000, 0, names, 1, 1)
    return [begin, (lease, 0, names, 1, 1), (use, 0, names, 1, calls), (flood, 1, names, 1, 75)]


ATTACKS = st.lists(st.builds(attack, NAMES, PAUSES, PAUSES, st.integers(1, 3), PAUSES), min_size=1, max_size=5)
RATES = st.tuples(st.sampled_from(EMISSIONS_US), st.integers(40, 70))
DELAYS = st.sampled_from([0, 0, 0, 1, UNIT_US])


@given(
    steps=STEPS | ATTACKS.map(lambda attacks: list(chain(*attacks))),
    rates=st.tuples(RATES, RATES),
    there_us=DELAYS,
    back_us=DELAYS,
)
@settings(deadline=None, max_examples=200)
def test_two_processes_never_pass_rate_times_span_plus_burst_between_any_two_moments(
    steps: list[Step],
    rates: tuple[tuple[int, int], ...],
    there_us: int,
    back_us: int,
) -> None:
    clock, tenant = Turned(), uuid4()
    store = Store(clock)
    store.there_us, store.back_us = there_us, back_us
    processes = [LeasedRateLimiter(store, clock) for _ in range(2)]
    numbers = dict(zip("ab", rates, strict=True))
    admitted: dict[str, list[tuple[int, int]]] = defaultdict(list)

    async def play() -> None:
        for pause, which, names, cost, calls in steps:
            clock.at_us += pause
            limits = [
                limit(tenant, name, max_requests=1, window_ms=emission // 1_000, burst=burst, cost=cost)
                for name, (emission, burst) in ((name, numbers[name]) for name in names)
            ]
            for _ in range(calls):
                asked = len(store.asked)
                if await processes[which].admit(limits):
                    at = store.read_at if len(store.asked) > asked else clock.at_us
                    for one in limits:
                        admitted[one.name].append((at, cost))

    asyncio.run(play())
    most_over = 0.0
    for name, (emission, burst) in numbers.items():
        total, lowest, over = 0, 1 << 62, -1 << 62
        for at, cost in admitted[name]:
            lowest = min(lowest, total * emission - at)
            total += cost
            over = max(over, total * emission - at - lowest - burst * emission)
        # One microsecond of slack: the clock is a float of seconds.
        assert over <= 1
        most_over = max(most_over, over / emission) if most_over else over / emission
    target(most_over, label="units over the rule")
