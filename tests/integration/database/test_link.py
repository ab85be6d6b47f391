"""The link: whether caches may be believed, through a wire that can be cut and silenced, by a clock turned by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.integration.database.ground import Database
from tests.integration.database.wiretap import Wiretap, wiretapped

from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database import link as link_module
from tenantry.foundation.database.link import FRESH_SECONDS, Link
from tenantry.foundation.errors import Unavailable

pytestmark = pytest.mark.xdist_group("database")


class HandClock:
    """Monotonic time moves by hand; the date may be wrong by `off`."""

    def __init__(self, off: timedelta = timedelta()) -> None:
        self.seconds = 0.0
        self.off = off

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off

    def monotonic(self) -> float:
        return self.seconds


def is_fresh(link: Link) -> bool:
    """Asked anew: a type checker believes that a property stays as it was."""
    return link.fresh


async def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Poll, with a bound."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came about"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def linked(database: Database, clock: HandClock | SystemClock) -> "AsyncIterator[tuple[Link, Wiretap]]":
    async with wiretapped(database) as tap:
        link = Link(tap.dsn, clock=clock)
        try:
            yield link, tap
        finally:
            tap.hearing.set()
            await link.stop()


async def test_a_link_is_fresh_for_half_a_second_after_its_last_answer(database: Database) -> None:
    clock = HandClock()
    async with linked(database, clock) as (link, tap):
        assert not is_fresh(link)
        await link.start()
        assert is_fresh(link)
        tap.hearing.clear()
        clock.seconds += FRESH_SECONDS
        assert not is_fresh(link)
        tap.hearing.set()
        await until(lambda: link.fresh)


async def test_the_age_of_an_answer_counts_from_its_question(database: Database) -> None:
    """An answer that was long under way says what was true when it was asked at best."""
    clock = HandClock()
    async with linked(database, clock) as (link, tap):
        await link.start()
        tap.hearing.clear()
        trips, passed = tap.trips, tap.passed
        await until(lambda: tap.trips > trips)  # the server has answered, the wire holds it back
        clock.seconds += FRESH_SECONDS * 2
        tap.hearing.set()
        await until(lambda: tap.passed > passed)
        tap.hearing.clear()  # this one answer arrives and no other
        for _ in range(20):
            await asyncio.sleep(0.001)
            assert not is_fresh(link)
        tap.hearing.set()
        await until(lambda: link.fresh)


async def test_news_reach_whoever_subscribed_and_nobody_else(database: Database) -> None:
    heard: list[tuple[str, str]] = []
    async with linked(database, SystemClock()) as (link, _):
        link.subscribe("first", lambda payload: heard.append(("one", payload)))
        link.subscribe("first", lambda payload: heard.append(("two", payload)))
        link.subscribe("second", lambda payload: heard.append(("second", payload)))
        await link.start()
        await database.alter("notify first, 'a'", "notify third, 'b'", "notify second, 'c'")
        await until(lambda: len(heard) == 3)
    assert heard == [("one", "a"), ("two", "a"), ("second", "c")]


async def test_a_lost_link_is_not_fresh_comes_back_and_has_everything_forgotten(database: Database) -> None:
    """News may have been missed: whoever caches is told, at the first connection as at each later one."""
    lost: list[int] = []
    heard: list[str] = []
    async with linked(database, SystemClock()) as (link, _):
        link.on_reconnect(lambda: lost.append(1))
        link.subscribe("news", heard.append)
        await link.start()
        assert len(lost) == 1
        for round_ in (2, 3):
            await database.alter(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'tenantry_app'"
            )
            await until(lambda: not link.fresh)
            await until(lambda: link.fresh)
            assert len(lost) == round_
        await database.alter("notify news, 'again'")
        await until(lambda: heard)
    assert heard == ["again"]


async def test_what_is_cached_is_forgotten_before_the_link_counts_as_fresh(database: Database) -> None:
    seen: list[bool] = []
    async with linked(database, SystemClock()) as (link, tap):
        link.on_reconnect(lambda: seen.append(link.fresh))
        await link.start()
        tap.cut()
        await until(lambda: len(seen) == 2)
    assert seen == [False, False]


async def test_a_callback_that_fails_does_not_end_the_link(database: Database) -> None:
    calls: list[int] = []

    def stumble() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("stumbled")

    async with linked(database, SystemClock()) as (link, _):
        link.on_reconnect(stumble)
        await link.start()
        assert link.fresh
    assert len(calls) == 2


async def test_a_stopped_link_is_never_fresh(database: Database) -> None:
    async with linked(database, HandClock()) as (link, _):
        await link.start()
        await link.stop()
        assert not link.fresh


async def test_a_link_to_nothing_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_START_SECONDS", 0.05)
    link = Link(database.dsn().replace("port=5432", "port=5433"), clock=SystemClock())
    with pytest.raises(Unavailable):
        await link.start()
    await link.stop()


@pytest.mark.parametrize("off", [timedelta(hours=3), timedelta(minutes=-5), timedelta()])
async def test_contexts_follow_the_databases_clock(database: Database, off: timedelta) -> None:
    """A process whose clock is wrong measures by how much, and its contexts are valid all the same."""
    async with linked(database, HandClock(off)) as (link, _):
        await link.start()
        assert link.clock_offset == pytest.approx(-off.total_seconds(), abs=2)
