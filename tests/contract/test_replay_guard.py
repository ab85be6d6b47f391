"""ReplayGuard on both adapters: each nonce once, and what was forgotten is refused."""

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import pytest

from tenantry.foundation.caches.embedded_replays import EmbeddedReplayGuard
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.ports import ReplayOutcome
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Invalid, Unavailable


async def test_a_nonce_passes_once(under_test: Any) -> None:
    guard = under_test.replays.for_tenant(uuid4())
    now = under_test.now_ms()
    first = await guard.allow_once("n-1", now)
    again = await guard.allow_once("n-1", now)
    assert first
    assert not again
    assert again.outcome is ReplayOutcome.REPLAYED
    assert not await guard.allow_once("n-1", now + 1), "a new date does not renew a nonce"
    assert await guard.allow_once("n-2", now)


async def test_a_nonce_of_one_tenant_says_nothing_of_another(under_test: Any) -> None:
    one, other = uuid4(), uuid4()
    now = under_test.now_ms()
    guard = under_test.replays.for_tenant(one)
    assert await guard.allow_once("nonce", now)
    assert await guard.allow_once("nonce", now, tenant=other)
    assert not await under_test.replays.allow_once("nonce", now, tenant=other)


async def test_old_and_future_calls_are_refused_and_leave_no_mark(under_test: Any) -> None:
    guard = under_test.replays.for_tenant(uuid4())
    await under_test.advance(60)
    now = under_test.now_ms()
    old = await guard.allow_once("n", now - 20, window_ms=20)
    future = await guard.allow_once("n", now + 10_000, clock_skew_ms=5_000)
    assert (old.outcome, future.outcome) == (ReplayOutcome.TOO_OLD, ReplayOutcome.IN_FUTURE)
    assert await guard.allow_once("n", now + 4_000, clock_skew_ms=5_000)


async def test_of_sixty_four_racing_replays_one_passes(under_test: Any) -> None:
    guard = under_test.replays.for_tenant(uuid4())
    now = under_test.now_ms()
    verdicts = await asyncio.gather(*(guard.allow_once("same", now) for _ in range(64)))
    assert sum(map(bool, verdicts)) == 1


async def test_a_narrow_call_is_remembered_for_the_whole_window(under_test: Any) -> None:
    guard = under_test.replays.for_tenant(uuid4())
    now = under_test.now_ms()
    assert await guard.allow_once("n", now, window_ms=30)
    await under_test.advance(40)
    assert (await guard.allow_once("n", now)).outcome is ReplayOutcome.REPLAYED


HOSTILE = [
    "",
    ":",
    "a:b",
    "{}",
    "}{",
    "a b",
    "a\n",
    "\na",
    "a\r\nFLUSHALL",
    "\0",
    "ä",
    "a\u0301",
    "*",
    "?",
    "[a]",
    "\\",
]


@pytest.mark.parametrize("nonce", [*HOSTILE, "x" * 129, "x" * (1 << 20), None, b"n", 7], ids=lambda n: str(n)[:9])
async def test_a_nonce_that_could_shape_a_key_is_refused(under_test: Any, nonce: Any) -> None:
    with pytest.raises(Invalid):
        await under_test.replays.allow_once(nonce, under_test.now_ms(), tenant=uuid4())


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp_ms": float("nan")},
        {"timestamp_ms": -1},
        {"timestamp_ms": 1 << 60},
        {"window_ms": 0},
        {"window_ms": 300_001},
        {"clock_skew_ms": -1},
        {"clock_skew_ms": 1e308},
        {"tenant": None},
        {"tenant": "acme"},
    ],
)
async def test_numbers_out_of_range_and_missing_tenants_are_refused(under_test: Any, fields: dict[str, Any]) -> None:
    call = {"timestamp_ms": under_test.now_ms(), "tenant": uuid4(), **fields}
    with pytest.raises(Invalid):
        await under_test.replays.allow_once("nonce", **call)


async def test_embedded_calls_signed_before_its_start_are_refused(clock: Any) -> None:
    tenant = uuid4()
    signed = int(clock.now().timestamp() * 1000)
    assert await EmbeddedReplayGuard(clock, tenant=tenant).allow_once("n", signed)
    clock.turn(seconds=1)
    restarted = EmbeddedReplayGuard(clock, tenant=tenant)
    assert (await restarted.allow_once("n", signed)).outcome is ReplayOutcome.TOO_OLD
    assert await restarted.allow_once("m", signed + 1_000)


async def test_a_clock_set_back_does_not_revive_a_forgotten_nonce(clock: Any) -> None:
    guard = EmbeddedReplayGuard(clock, tenant=uuid4(), window_ms=1_000)
    signed = int(clock.now().timestamp() * 1000)
    assert await guard.allow_once("n", signed)
    clock.turn(seconds=5)
    for number in range(5):
        assert await guard.allow_once(f"later-{number}", signed + 5_000)
    clock.jump(seconds=-5)
    assert (await guard.allow_once("n", signed)).outcome is ReplayOutcome.TOO_OLD


@pytest.mark.parametrize("per_tenant", [50, 1_000])
async def test_a_full_memory_refuses_what_it_forgot_and_only_of_the_tenant_that_filled_it(
    clock: Any, per_tenant: int
) -> None:
    guard = EmbeddedReplayGuard(clock, per_tenant=per_tenant, total=60)
    greedy, modest = guard.for_tenant(uuid4()), guard.for_tenant(uuid4())
    begun = int(clock.now().timestamp() * 1000)
    assert await modest.allow_once("kept", begun)
    clock.turn(seconds=1)
    for number in range(200):
        assert await greedy.allow_once(f"n{number}", begun + number)
    assert len(guard) <= 60
    for number in range(200):
        assert not await greedy.allow_once(f"n{number}", begun + number)
    assert (await greedy.allow_once("n0", begun)).outcome is ReplayOutcome.TOO_OLD
    assert (await modest.allow_once("kept", begun)).outcome is ReplayOutcome.REPLAYED
    assert await modest.allow_once("fresh", begun)


async def test_the_memory_shrinks_when_the_window_has_passed(clock: Any) -> None:
    guard = EmbeddedReplayGuard(clock, window_ms=1_000)
    begun = int(clock.now().timestamp() * 1000)
    for number in range(100):
        await guard.allow_once(f"n{number}", begun, tenant=uuid4())
    clock.turn(seconds=2)
    tenant = uuid4()
    for number in range(101):
        await guard.allow_once(f"n{number}", begun + 2_000, tenant=tenant)
    assert len(guard) == 101
    assert len(guard._memory.tenants) == 1


async def test_every_nonce_lies_under_its_tenant_and_ends_by_itself(own_redis_server: Any) -> None:
    caches = open_caches(own_redis_server.url, SystemClock())
    await caches.ready()
    one, other = uuid4(), uuid4()
    now = int(SystemClock().now().timestamp() * 1000) + 1_000
    for tenant in (one, other):
        assert await caches.replays.allow_once("n-1", now, tenant=tenant)
    link = caches.link  # type: ignore[attr-defined]
    keys = {key.decode() for key in await link.command("KEYS", "*")} - {"tenantry:{replay}:horizon"}
    assert keys == {f"tenantry:{{{tenant.hex}}}:replay:n-1" for tenant in (one, other)}
    for key in keys:
        assert 300_000 < await link.command("PTTL", key) <= 303_000
    await caches.close()


@pytest.mark.parametrize("loss", ["flush", "restart"])
async def test_a_server_that_lost_its_memory_refuses_calls_signed_before_the_loss(
    own_redis_server: Any, loss: str
) -> None:
    clock = SystemClock()
    caches = open_caches(own_redis_server.url, clock)
    await caches.ready()
    guard = caches.replays.for_tenant(uuid4())
    signed = int(clock.now().timestamp() * 1000)
    assert await guard.allow_once("n", signed)
    if loss == "flush":
        await caches.link.command("FLUSHALL")  # type: ignore[attr-defined]
    else:
        own_redis_server.stop()
        with pytest.raises(Unavailable):
            await guard.allow_once("n", signed)
        own_redis_server.start()
    answered = False
    while not answered or int(clock.now().timestamp() * 1000) <= signed:
        # The connection of before the restart is found broken once, and then made anew.
        with contextlib.suppress(Unavailable):
            await caches.link.command("PING")  # type: ignore[attr-defined]
            answered = True
    assert (await guard.allow_once("n", signed)).outcome is ReplayOutcome.TOO_OLD
    assert await guard.allow_once("m", int(clock.now().timestamp() * 1000))
    await caches.close()


async def test_another_server_behind_the_same_address_is_not_trusted_with_older_calls(redis_server: Any) -> None:
    """A replica that took over holds the horizon it was sent, yet perhaps not the last nonces."""
    clock = SystemClock()
    caches = open_caches(redis_server.url, clock)
    await caches.ready()
    signed = int(clock.now().timestamp() * 1000) - 1
    link = caches.link  # type: ignore[attr-defined]
    await link.command("SET", "tenantry:{replay}:horizon", f"{'0' * 40} {signed - 60_000} {signed}")
    assert (await caches.replays.allow_once("n", signed, tenant=uuid4())).outcome is ReplayOutcome.TOO_OLD
    await caches.close()


async def test_a_server_clock_set_back_does_not_revive_a_forgotten_nonce(redis_server: Any) -> None:
    clock = SystemClock()
    caches = open_caches(redis_server.url, clock)
    link = caches.link  # type: ignore[attr-defined]
    run_id = (await link.info("server"))["run_id"]
    now = int(clock.now().timestamp() * 1000)
    await link.command("SET", "tenantry:{replay}:horizon", f"{run_id} {now - 900_000} {now + 400_000}")
    assert (await caches.replays.allow_once("n", now, tenant=uuid4())).outcome is ReplayOutcome.TOO_OLD
    await link.command("DEL", "tenantry:{replay}:horizon")
    await caches.close()
