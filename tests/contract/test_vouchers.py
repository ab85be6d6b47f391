"""Vouchers on both stores: what was read before a change is not vouched for after it, whatever is lost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.vouchers import Lease, Vouchers
from tenantry.foundation.changes import EVERYTHING, name_of
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Unavailable

Make = Callable[[], Vouchers]
NAME = name_of("workspaces", uuid4())


@pytest.fixture
def tenant() -> UUID:
    return uuid4()


@pytest.fixture
def make(under_test: Any) -> Make:
    """Make what one process has; several share the store."""
    return lambda: Vouchers(under_test.caches, clock=SystemClock())


async def _leased(vouchers: Vouchers, tenant: UUID) -> Lease:
    lease = await vouchers.ask(tenant, NAME)
    assert isinstance(lease, Lease), lease
    return lease


async def _filled(vouchers: Vouchers, tenant: UUID, tag: str = "1") -> None:
    assert await vouchers.fill(await _leased(vouchers, tenant), tag)
    assert await vouchers.ask(tenant, NAME) == tag


async def test_one_who_misses_gets_the_lease_and_the_others_read_without(make: Make, tenant: UUID) -> None:
    vouchers = make()
    lease = await _leased(vouchers, tenant)
    assert await vouchers.ask(tenant, NAME) is None
    assert await vouchers.fill(lease, "7")
    assert await vouchers.ask(tenant, NAME) == "7"
    assert not await vouchers.fill(lease, "8")
    assert await vouchers.ask(tenant, NAME) == "7"


@pytest.mark.parametrize("changed", [NAME, EVERYTHING], ids=["one", "everything"])
async def test_a_fill_that_raced_with_a_change_counts_for_nothing(make: Make, tenant: UUID, changed: str) -> None:
    """The lease was taken and the row read before the commit; it is filled at each point after that."""
    for filled_after in ("close", "open"):
        vouchers, writer = make(), make()
        lease = await _leased(vouchers, tenant)
        await writer.close(tenant, (changed,))
        if filled_after == "close":
            await vouchers.fill(lease, "1")
            assert not isinstance(await vouchers.ask(tenant, NAME), str)
        await writer.open(tenant, (changed,))
        if filled_after == "open":
            await vouchers.fill(lease, "1")
        assert isinstance(await vouchers.ask(tenant, NAME), Lease)
        await writer.close(tenant, (NAME, EVERYTHING))
        await writer.open(tenant, (NAME, EVERYTHING))


@pytest.mark.parametrize("changed", [NAME, EVERYTHING], ids=["one", "everything"])
async def test_while_a_change_is_under_way_nobody_vouches_or_leases(make: Make, tenant: UUID, changed: str) -> None:
    vouchers, writer = make(), make()
    await _filled(vouchers, tenant)
    await writer.close(tenant, (changed,))
    for process in (vouchers, writer, make()):
        assert await process.ask(tenant, NAME) is None
    await writer.open(tenant, (changed,))
    await _filled(vouchers, tenant, "2")


async def test_a_writer_that_dies_between_costs_misses_for_the_time_of_an_entry(under_test: Any, tenant: UUID) -> None:
    if under_test.name == "embedded":
        vouchers = Vouchers(under_test.caches, clock=SystemClock())
        await vouchers.close(tenant, (NAME,))
        await under_test.advance(59_999)
        assert await vouchers.ask(tenant, NAME) is None
        await under_test.advance(2)
        await _filled(vouchers, tenant, "2")


async def test_a_lease_left_behind_ends_by_itself(under_test: Any, tenant: UUID) -> None:
    if under_test.name == "embedded":
        vouchers = Vouchers(under_test.caches, clock=SystemClock())
        lost = await _leased(vouchers, tenant)
        await under_test.advance(5_001)
        assert not await vouchers.fill(lost, "1")
        await _filled(vouchers, tenant)


@pytest.mark.parametrize("news", ["{tenant}/{name}", "{tenant}/all", "{tenant}/?", "{tenant}"])
async def test_news_ends_what_the_store_still_says(make: Make, tenant: UUID, news: str) -> None:
    """The store was down at the change: it keeps its entry, and whoever has heard takes a lease first."""
    vouchers, other = make(), make()
    await _filled(vouchers, tenant)
    await _filled(other, tenant)
    for process in (vouchers, other):
        process.hear(news.format(tenant=tenant.hex, name=NAME))
        await _filled(process, tenant, "2")


async def test_a_lease_from_before_the_news_fills_nothing_for_those_who_heard(make: Make, tenant: UUID) -> None:
    slow, other = make(), make()
    lease = await _leased(slow, tenant)
    for process in (slow, other):
        process.hear(f"{tenant.hex}/{NAME}")
    await _filled(other, tenant, "2")
    assert not await slow.fill(lease, "1")
    assert await other.ask(tenant, NAME) == "2"


async def test_what_was_missed_is_believed_by_nobody_who_missed_it(make: Make, tenant: UUID) -> None:
    vouchers = make()
    await _filled(vouchers, tenant)
    vouchers.forget_all()
    await _filled(vouchers, tenant, "2")
    # One that has just come has missed everything.
    assert isinstance(await make().ask(tenant, NAME), Lease)


async def test_news_while_a_lease_is_taken_is_not_forgotten(under_test: Any, tenant: UUID) -> None:
    etags = _Interrupting(under_test.etags, lambda: vouchers.hear(f"{tenant.hex}/{NAME}"))
    vouchers = Vouchers(replace(under_test.caches, etags=etags), clock=SystemClock())
    for _ in range(3):
        # Each time the news came after the lease: what it leads to may be older than they are.
        assert not isinstance(await vouchers.ask(tenant, NAME), str)


class _Interrupting:
    """The store, with news that come while it compares."""

    def __init__(self, etags: Any, news: Callable[[], None]) -> None:
        self._etags = etags
        self._news = news

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etags, name)

    async def compare_and_set(self, *arguments: Any, **options: Any) -> Any:
        result = await self._etags.compare_and_set(*arguments, **options)
        self._news()
        return result


async def test_another_tenants_entry_says_nothing(make: Make, tenant: UUID) -> None:
    vouchers = make()
    await _filled(vouchers, tenant)
    assert not isinstance(await vouchers.ask(uuid4(), NAME), str)
    vouchers.hear(f"{uuid4().hex}/{NAME}")
    assert await vouchers.ask(tenant, NAME) == "1"


async def test_noise_is_borne(make: Make, tenant: UUID) -> None:
    vouchers = make()
    await _filled(vouchers, tenant)
    for payload in ("", "/", "x/y", "z" * 8_000):
        with pytest.raises(ValueError, match="hexadecimal"):
            vouchers.hear(payload)
    for number in range(2_000):
        vouchers.hear(f"{tenant.hex}/workspaces/{number:032x}")
    assert isinstance(await vouchers.ask(tenant, NAME), Lease)


async def test_a_store_that_is_down_is_nobodys_failure(own_redis_server: Any, clock: Any, tenant: UUID) -> None:
    caches = open_caches(own_redis_server.url, clock)
    vouchers = Vouchers(caches, clock=clock)
    await _filled(vouchers, tenant)
    lease = Lease(tenant, NAME, gate="", token="")
    own_redis_server.stop()
    with pytest.raises(Unavailable):
        await caches.etags.find(NAME, tenant=tenant)
    await vouchers.close(tenant, (NAME,))
    await vouchers.open(tenant, (NAME,))
    assert await vouchers.ask(tenant, NAME) is None
    assert not await vouchers.fill(lease, "1")
    own_redis_server.start()
    assert await vouchers.ask(tenant, NAME) is None
    clock.turn(seconds=1)
    await _filled(vouchers, tenant)
    await caches.close()


async def test_a_store_that_comes_back_with_its_past_is_not_believed(own_redis_server: Any, tenant: UUID) -> None:
    """What a fail-over or an old snapshot brings back was put right after the news, and so is doubted no more."""
    from redis.asyncio import Redis

    caches = open_caches(own_redis_server.url, SystemClock())
    vouchers = Vouchers(caches, clock=SystemClock())
    await _filled(vouchers, tenant, "1")
    async with Redis.from_url(own_redis_server.url) as operator:
        past = {key: await operator.get(key) or b"" async for key in operator.scan_iter()}
        assert len(past) == 2
        await vouchers.close(tenant, (NAME,))
        await vouchers.open(tenant, (NAME,))
        vouchers.hear(f"{tenant.hex}/{NAME}")
        await _filled(vouchers, tenant, "2")
        await operator.mset(past)
        await operator.client_kill_filter(_type="normal", skipme=True)
        assert not isinstance(await vouchers.ask(tenant, NAME), str)
    await caches.close()
