"""RateLimiter on both adapters: GCRA, all or nothing, one tenant a call."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.conftest import TRIALS, CachesUnderTest, opened_caches

from tenantry.foundation.caches.embedded_limiter import EmbeddedRateLimiter
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import RateLimit, Standing
from tenantry.foundation.caches.redis_adapters import RedisRateLimiter
from tenantry.foundation.caches.redis_link import RedisLink
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Invalid, Unavailable


def limit(tenant: UUID, name: str = "requests", **fields: Any) -> RateLimit:
    return RateLimit(**{"tenant": tenant, "name": name, "max_requests": 100, "window_ms": 60_000, **fields})


@pytest.fixture(params=["embedded", "redis", "redis without leases"])
async def under_test(request: pytest.FixtureRequest) -> AsyncIterator[CachesUnderTest]:
    async with opened_caches(request) as opened:
        if request.param != "redis without leases":
            yield opened
            return
        link = RedisLink(request.getfixturevalue("redis_server").url)
        opened.limiter = RedisRateLimiter(link)
        yield opened
        await link.close()


async def test_the_101st_immediate_call_of_100_a_minute_is_refused_with_the_wait_that_helps(under_test: Any) -> None:
    tenant = uuid4()
    verdicts = [await under_test.limiter.admit([limit(tenant)]) for _ in range(101)]
    assert all(verdicts[:100])
    assert verdicts[0].remaining == 99
    refused = verdicts[100]
    assert not refused
    assert not refused.allowed
    assert refused.remaining == 0
    assert 0 < refused.retry_after_ms <= 600


async def test_after_the_told_wait_the_same_call_passes(under_test: Any) -> None:
    quick = limit(uuid4(), max_requests=2, window_ms=40)
    while await under_test.limiter.admit([quick]):
        pass
    refused = await under_test.limiter.admit([quick])
    while not refused and refused.retry_after_ms == 0:
        refused = await under_test.limiter.admit([quick])
    await under_test.advance(refused.retry_after_ms + 1)
    assert await under_test.limiter.admit([quick])


async def test_burst_and_cost_are_counted(under_test: Any) -> None:
    tenant = uuid4()
    first = await under_test.limiter.admit([limit(tenant, burst=10, cost=7)])
    assert (first.allowed, first.remaining) == (True, 3)
    refused = await under_test.limiter.admit([limit(tenant, burst=10, cost=7)])
    assert (refused.allowed, refused.remaining) == (False, 3)
    assert await under_test.limiter.admit([limit(tenant, burst=10, cost=3)])


async def test_a_refused_limit_charges_none_of_the_others(under_test: Any) -> None:
    tenant = uuid4()
    wide, narrow = limit(tenant, "wide"), limit(tenant, "narrow", max_requests=1)
    assert await under_test.limiter.admit([wide, narrow])
    for _ in range(5):
        refused = await under_test.limiter.admit([wide, narrow])
        assert (refused.allowed, refused.limiting) == (False, 1)
    assert (await under_test.limiter.admit([wide])).remaining == 98


async def test_the_verdict_names_the_longest_wait_or_the_least_left(under_test: Any) -> None:
    tenant = uuid4()
    short = limit(tenant, "short", max_requests=1, window_ms=10_000)
    long = limit(tenant, "long", max_requests=1, window_ms=50_000)
    assert (await under_test.limiter.admit([limit(tenant, "wide"), short, long])).limiting == 1
    refused = await under_test.limiter.admit([limit(tenant, "wide"), short, long])
    assert refused.limiting == 2
    assert 45_000 < refused.retry_after_ms <= 50_000


async def test_tenants_and_names_do_not_share_a_budget(under_test: Any) -> None:
    one, other = uuid4(), uuid4()
    assert await under_test.limiter.admit([limit(one, max_requests=1)])
    assert not await under_test.limiter.admit([limit(one, max_requests=1)])
    assert await under_test.limiter.admit([limit(other, max_requests=1)])
    assert await under_test.limiter.admit([limit(one, "else", max_requests=1)])


@pytest.mark.parametrize(
    "fields",
    [
        {"cost": 0},
        {"cost": -1},
        {"cost": float("nan")},
        {"cost": 1e308},
        {"cost": True},
        {"cost": 101},
        {"cost": "1"},
        {"max_requests": 0},
        {"max_requests": -5},
        {"max_requests": float("inf")},
        {"window_ms": 0},
        {"window_ms": 1 << 60},
        {"burst": 0},
        {"burst": 1 << 60},
        {"name": ""},
        {"name": "a:b"},
        {"name": "a}b{c"},
        {"name": "a\n"},
        {"name": "ä"},
        {"name": "x" * 129},
        {"tenant": "0190a5d0-0000-7000-8000-000000000000"},
    ],
)
async def test_a_limit_out_of_range_is_refused_and_charges_nothing(under_test: Any, fields: dict[str, Any]) -> None:
    tenant = uuid4()
    with pytest.raises(Invalid):
        await under_test.limiter.admit([limit(tenant, "sound"), limit(**{"tenant": tenant, **fields})])
    assert (await under_test.limiter.admit([limit(tenant, "sound")])).remaining == 99


async def test_a_call_is_held_against_one_tenant_and_each_limit_once(under_test: Any) -> None:
    tenant = uuid4()
    for limits in ([], [limit(tenant), limit(uuid4())], [limit(tenant), limit(tenant)], [limit(tenant)] * 17):
        with pytest.raises(Invalid):
            await under_test.limiter.admit(limits)


async def test_looking_tells_what_is_left_and_when_it_is_whole_again(under_test: Any) -> None:
    tenant = uuid4()
    seldom = limit(tenant, "seldom", max_requests=3, window_ms=3_000_000)
    often, burst = limit(tenant, "often", cost=7), limit(tenant, "burst", burst=10, window_ms=6_000_000)
    untouched = [Standing(3, 0), Standing(100, 0), Standing(10, 0)]
    assert list(await under_test.limiter.look([seldom, often, burst])) == untouched
    assert await under_test.limiter.admit([seldom, often])
    first, second, third = await under_test.limiter.look([seldom, often, burst])
    assert (first.remaining, second.remaining, third) == (2, 93, Standing(10, 0))
    assert 999_000 < first.reset_ms <= 1_000_000
    assert 3_200 < second.reset_ms <= 4_200
    assert (await under_test.limiter.look([burst, seldom]))[1].remaining == 2


async def test_looking_charges_nothing_and_a_refusal_leaves_what_it_found(under_test: Any) -> None:
    few = limit(uuid4(), max_requests=2, window_ms=2_000_000)
    assert await under_test.limiter.admit([few])
    for _ in range(5):
        assert [one.remaining for one in await under_test.limiter.look([few])] == [1]
    assert await under_test.limiter.admit([few])
    for _ in range(2):
        assert not await under_test.limiter.admit([few])
        (used_up,) = await under_test.limiter.look([few])
        assert used_up.remaining == 0
        assert 1_999_000 < used_up.reset_ms <= 2_000_000


async def test_after_the_told_time_a_limit_is_untouched_again(under_test: Any) -> None:
    quick = limit(uuid4(), max_requests=2, window_ms=20)
    assert await under_test.limiter.admit([quick])
    (standing,) = await under_test.limiter.look([quick])
    await under_test.advance(standing.reset_ms + 1)
    assert list(await under_test.limiter.look([quick])) == [Standing(2, 0)]


async def test_what_cannot_be_admitted_cannot_be_looked_at(under_test: Any) -> None:
    tenant = uuid4()
    unsound: tuple[list[RateLimit], ...] = (
        [],
        [limit(tenant), limit(uuid4())],
        [limit(tenant), limit(tenant)],
        [limit(tenant)] * 17,
    )
    for limits in (*unsound, [limit(tenant, cost=101)], [limit(tenant, "a:b")], [limit(tenant, max_requests=True)]):
        with pytest.raises(Invalid):
            await under_test.limiter.look(limits)


async def test_sixty_four_tasks_racing_for_the_last_units_overshoot_by_none(under_test: Any) -> None:
    last = limit(uuid4(), max_requests=10, window_ms=3_600_000)
    verdicts = await asyncio.gather(*(under_test.limiter.admit([last]) for _ in range(64)))
    assert sum(map(bool, verdicts)) == 10


HAMMER = """
import asyncio, json, sys
from uuid import UUID
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import RateLimit
from tenantry.foundation.clock import SystemClock

async def main(url, tenant):
    caches = open_caches(url, SystemClock())
    limit = RateLimit(tenant=UUID(tenant), name="r", max_requests=1000, window_ms=1000, burst=50)
    async def task():
        return sum([bool(await caches.limiter.admit([limit])) for _ in range(100)])
    await caches.ready()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(await asyncio.gather(*(task() for _ in range(8)))))
    await caches.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_four_processes_of_eight_tasks_never_pass_rate_times_span_plus_burst(redis_server: Any) -> None:
    pipe = asyncio.subprocess.PIPE
    arguments = (sys.executable, "-c", HAMMER, redis_server.url, str(uuid4()))
    processes = [await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    clock = SystemClock()
    begun = clock.monotonic()
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    span_ms = (clock.monotonic() - begun) * 1000
    admitted = sum(sum(json.loads(out)) for out, _ in answers)
    assert 50 <= admitted <= span_ms + 50
    assert admitted < 3_200


STEPS = st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 5)), min_size=1, max_size=60)


@given(steps=STEPS, most=st.integers(1, 50), window_ms=st.integers(1, 2_000), burst=st.integers(5, 30))
@settings(deadline=None, max_examples=150)
def test_between_any_two_moments_no_more_than_the_rule_is_admitted(
    steps: list[tuple[int, int]], most: int, window_ms: int, burst: int
) -> None:
    class Turned(SystemClock):
        at_us = 10_000_000

        def monotonic(self) -> float:
            return self.at_us / 1_000_000

    most = min(most, window_ms * 1000)
    clock = Turned()
    limiter = EmbeddedRateLimiter(clock)
    tenant = uuid4()

    async def play() -> list[tuple[int, int]]:
        admitted = []
        for pause_us, cost in steps:
            clock.at_us += pause_us
            one = limit(tenant, max_requests=most, window_ms=window_ms, burst=burst, cost=cost)
            if await limiter.admit([one]):
                admitted.append((clock.at_us, cost))
        return admitted

    admitted = asyncio.run(play())
    for first in range(len(admitted)):
        total = 0
        for at, cost in admitted[first:]:
            total += cost
            # One microsecond of slack: the clock is a float of seconds.
            assert total * window_ms * 1000 <= most * (at - admitted[first][0] + 1) + burst * window_ms * 1000


async def test_the_embedded_table_forgets_what_is_refilled_and_is_bounded_for_each_tenant(clock: Any) -> None:
    limiter = EmbeddedRateLimiter(clock, per_tenant=100, total=150)
    greedy, modest = uuid4(), uuid4()
    for number in range(100):
        await limiter.admit([limit(greedy, f"n{number}")])
    with pytest.raises(Unavailable) as full:
        await limiter.admit([limit(greedy, "one-more")])
    assert full.value.code == "rate_limits_full"
    assert await limiter.admit([limit(modest)])
    clock.turn(seconds=61)
    for _ in range(60):
        await limiter.admit([limit(modest)])
    assert len(limiter) == 1


async def test_keys_carry_the_tenant_as_their_cluster_slot(redis_server: Any) -> None:
    tenant = uuid4()
    caches = open_caches(redis_server.url, SystemClock())
    await caches.limiter.admit([limit(tenant, "a.b-c_D")])
    link = caches.link  # type: ignore[attr-defined]
    keys = await link.command("KEYS", f"*{tenant.hex}*")
    assert keys == [f"tenantry:{{{tenant.hex}}}:rate:a.b-c_D".encode()]
    assert 0 < await link.command("PTTL", keys[0]) <= 602
    await caches.close()


async def test_a_store_that_is_down_or_stalled_refuses_and_recovers_by_itself(own_redis_server: Any) -> None:
    caches = open_caches(own_redis_server.url, SystemClock())
    tenant = uuid4()
    assert await caches.limiter.admit([limit(tenant)])
    await caches.link.command("CLIENT", "PAUSE", 900, "ALL")  # type: ignore[attr-defined]
    with pytest.raises(Unavailable) as slow:
        await caches.limiter.admit([limit(tenant)])
    assert slow.value.code == "caches_unavailable"
    own_redis_server.stop()
    with pytest.raises(Unavailable):
        await caches.limiter.admit([limit(tenant)])
    with pytest.raises(Unavailable):
        await caches.limiter.look([limit(tenant)])
    with pytest.raises(Unavailable):
        await caches.ready()
    own_redis_server.start()
    await caches.ready()
    assert (await caches.limiter.admit([limit(tenant)])).remaining == 99
    await caches.close()


async def test_leases_save_round_trips_and_end_with_the_tenant_or_the_store(own_redis_server: Any) -> None:
    caches = open_caches(own_redis_server.url, SystemClock())
    link, tenant, hour = RedisLink(own_redis_server.url), uuid4(), 3_600_000
    busy, used = limit(tenant, window_ms=hour), limit(tenant, "used", max_requests=1, window_ms=hour)

    async def use() -> int:
        for number in range(7):
            assert (await caches.limiter.admit([busy])).remaining == 99 - number
        assert await caches.limiter.admit([used])
        for _ in range(5):
            assert not await caches.limiter.admit([used])
        told = await link.info("commandstats")
        ran = [told[f"cmdstat_{name}"].partition(",")[0] for name in ("evalsha", "eval")]
        return sum(int(calls.removeprefix("calls=")) for calls in ran)

    assert await use() <= 2 + 2 + 4
    await caches.forget(tenant)
    await use()
    own_redis_server.stop()
    own_redis_server.start()
    await caches.ready()  # connects anew
    await use()
    await link.close()
    await caches.close()


async def test_a_full_server_refuses_and_one_that_evicts_is_not_used(start_redis: Any) -> None:
    with start_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        caches = open_caches(server.url, SystemClock())
        with pytest.raises(Exception, match="noeviction"):
            await caches.ready()
        await caches.close()
    with start_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        caches = open_caches(server.url, SystemClock())
        with pytest.raises(Unavailable):
            await caches.limiter.admit([limit(uuid4())])
        await caches.close()


async def test_an_error_does_not_tell_the_password() -> None:
    caches = open_caches("redis://:hunter2@127.0.0.1:1/0", SystemClock())
    with pytest.raises(Unavailable) as refused:
        await caches.limiter.admit([limit(uuid4())])
    assert "hunter2" not in f"{refused.value!r} {refused.value} {refused.value.fields} {caches!r}"
    assert refused.value.__cause__ is None
    await caches.close()
    with pytest.raises(Invalid) as unknown:
        open_caches("http://user:hunter2@x", SystemClock())
    assert "hunter2" not in str(unknown.value)


async def test_cancelled_calls_do_not_hand_their_answers_to_later_ones(redis_server: Any) -> None:
    caches = open_caches(redis_server.url, SystemClock())
    tenants = [uuid4() for _ in range(20)]
    for tenant in tenants:
        await caches.etags.put("own", tenant.bytes, tenant=tenant)
    for turns in range(40):
        tasks = [asyncio.create_task(caches.etags.find("own", tenant=tenant)) for tenant in tenants]
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for tenant in tenants:
            found = await caches.etags.find("own", tenant=tenant)
            assert found is not None
            assert found.value == tenant.bytes
    await caches.close()


async def test_calls_share_few_connections_and_a_refused_one_leaves_them_sound(
    own_redis_server: Any,
) -> None:
    tenant = uuid4()
    link = RedisLink(own_redis_server.url, timeout_seconds=10, max_connections=4)
    limiter = RedisRateLimiter(link)
    verdicts = await asyncio.gather(*(limiter.admit([limit(tenant)]) for _ in range(200)))
    assert sum(map(bool, verdicts)) == 100
    assert int((await link.info("clients"))["connected_clients"]) <= 4
    for _ in range(8):
        with pytest.raises(Unavailable):
            await link.command("INCR", "a text", "too many")
    assert await link.command("PING") == b"PONG"
    assert int((await link.info("stats"))["total_connections_received"]) - TRIALS <= 4
    await link.close()
