"""Reservations: all of their quotas or none, never above a limit, nothing left behind."""

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.limits.conftest import Book, MakeBook, broken_off

from tenantry.capabilities.limits.service import give_back, keep_only, settle
from tenantry.capabilities.limits.service.book import window_start
from tenantry.capabilities.limits.types.quotas import ALWAYS, Quota
from tenantry.foundation.errors import Exhausted, Invalid, TenantryError, Unavailable

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.one_strategy]

JOBS, DAILY, STORAGE, TOKENS = Quota.CONCURRENT_JOBS, Quota.DAILY_JOBS, Quota.STORAGE, Quota.TOKENS


async def _refused(book: Book, **amounts: int) -> Exhausted:
    with pytest.raises(Exhausted) as caught:
        await book.reserve({Quota(name): amount for name, amount in amounts.items()})
    return caught.value


async def test_what_is_held_is_held_of_tenant_and_workspace_and_settled_with_what_was_used(make_book: MakeBook) -> None:
    book = make_book()
    held = await book.reserve({JOBS: 1, STORAGE: 1000})
    assert await book.counted() == {
        (holder, quota): counted
        for holder in ("tenant", "workspace")
        for quota, counted in (("max_concurrent_jobs", (1, 0)), ("max_storage_gb", (1000, 0)))
    }
    async with book.session() as session:
        assert await settle(session, held, {STORAGE: 400}, clock=book.beside.clock)
    async with book.session() as session:
        assert not await settle(session, held, {STORAGE: 900}, clock=book.beside.clock)
    kept = {(holder, "max_storage_gb"): (0, 400) for holder in ("tenant", "workspace")}
    assert await book.counted() == kept
    for _ in range(2):
        async with book.session() as session:
            await give_back(session, held, (STORAGE,), clock=book.beside.clock)
    assert await book.counted() == {}


async def test_one_quota_without_room_holds_nothing_of_the_others(make_book: MakeBook) -> None:
    book = make_book()
    book.limit("workspace", max_concurrent_jobs=1)
    await book.reserve({JOBS: 1})
    before = await book.counted()
    error = await _refused(book, daily_job_limit=1, max_concurrent_jobs=1, max_storage_gb=5)
    assert await book.counted() == before
    assert (error.code, error.layer) == ("quota_exceeded", "limits")
    assert error.fields["limit"] == {"name": "max_concurrent_jobs", "holder": "workspace", "most": 1}
    assert error.fields["current"] == {"used": 0, "held": 1, "wanted": 1}
    assert error.fields["limited_by"] == "workspace"
    assert error.fields["allow_with"] == (
        "less that is under way or kept",
        "a higher max_concurrent_jobs of the workspace",
    )


async def test_the_tenants_own_limit_counts_over_its_workspaces(make_book: MakeBook) -> None:
    book = make_book()
    other = Book(book.beside, book.tenant, book.tenant.workspace("other"))
    book.limit("tenant", max_concurrent_jobs=2)
    await book.reserve({JOBS: 1})
    await other.reserve({JOBS: 1})
    error = await _refused(other, max_concurrent_jobs=1)
    assert error.fields["limit"] == {"name": "max_concurrent_jobs", "holder": "tenant", "most": 2}


async def test_a_lower_layer_cannot_widen(make_book: MakeBook) -> None:
    book = make_book(plan="free")
    book.limit("tenant", max_storage_gb=900)
    book.limit("workspace", max_storage_gb=800)
    error = await _refused(book, max_storage_gb=10**9 + 1)
    assert (error.fields["limited_by"], error.fields["limit"]["most"]) == ("plan", 10**9)  # type: ignore[index]


async def test_a_limit_of_nothing_lets_nothing_through(make_book: MakeBook) -> None:
    book = make_book()
    book.limit("workspace", daily_job_limit=0)
    assert (await _refused(book, daily_job_limit=1)).fields["limit"]["most"] == 0  # type: ignore[index]


@pytest.mark.parametrize("amount", [-1, 2**53, 1.0, True, float("nan"), 10**308])
async def test_amounts_that_are_none_are_refused(make_book: MakeBook, amount: object) -> None:
    book = make_book()
    with pytest.raises(Invalid) as caught:
        await book.reserve({JOBS: amount})  # type: ignore[dict-item]
    assert caught.value.code == "amount_invalid"
    assert await book.counted() == {}


async def test_amounts_do_not_overflow_what_is_unlimited(make_book: MakeBook) -> None:
    book = make_book()
    await book.reserve({TOKENS: 2**53 - 1})
    assert (await _refused(book, max_tokens_per_month=1)).fields["limit"]["most"] == 2**53 - 1  # type: ignore[index]


async def test_200_at_once_on_the_last_units_get_exactly_those(make_book: MakeBook) -> None:
    """Also the first of all, where no counter is there yet to be locked."""
    book = make_book()
    book.limit("workspace", max_concurrent_jobs=7)
    for _ in range(2):
        answers = await asyncio.gather(*(book.reserve({JOBS: 1, DAILY: 1}) for _ in range(200)), return_exceptions=True)
        held = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert {error.code for error in answers if isinstance(error, TenantryError)} <= {
            "quota_exceeded",
            "quota_contended",
        }
        assert len(held) == 7
        assert (await book.counted())["workspace", "max_concurrent_jobs"] == (7, 0)
        for reservation_id in held:
            await book.settle(reservation_id)
        assert await book.counted() == {}


async def test_under_a_storm_of_reservers_that_crash_the_limit_holds_at_every_step_and_nothing_is_left(
    make_book: MakeBook,
) -> None:
    book = make_book()
    book.limit("workspace", max_concurrent_jobs=5, daily_job_limit=60)
    chance = random.Random(7)  # noqa: S311 - which of them die, the same each time
    most_seen, ended = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most_seen
        counted: dict[tuple[str, str], tuple[int, int]] = {}
        while not ended.is_set():
            with contextlib.suppress(Unavailable):
                counted = await book.counted()
            assert sum(counted.get(("workspace", "daily_job_limit"), (0, 0))) <= 60
            most_seen = max(most_seen, sum(counted.get(("workspace", "max_concurrent_jobs"), (0, 0))))

    async def work(fate: float) -> None:
        with contextlib.suppress(TenantryError, OSError):
            if fate < 0.3:  # dies with its reservation uncommitted
                async with broken_off(book) as session:
                    quotas = book.quotas(session)
                    await quotas.reserve(
                        book.workspace_id, {JOBS: 1, DAILY: 1}, kind="test", workspace_id=book.workspace_id
                    )
                return
            held = await book.reserve({JOBS: 1, DAILY: 1})
            if fate < 0.6:  # dies once while it settles, then does it again
                with contextlib.suppress(TenantryError, OSError):
                    async with broken_off(book) as session:
                        await settle(session, held, {DAILY: 1}, clock=book.beside.clock)
            await book.settle(held, daily_job_limit=1)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(work(chance.random()) for _ in range(200)))
    ended.set()
    await watcher
    assert 1 <= most_seen <= 5
    counted = await book.counted()
    assert ("workspace", "max_concurrent_jobs") not in counted
    assert counted["workspace", "daily_job_limit"][0] == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["reserve", "settle", "give back", "keep"]), st.integers(0, 5), st.integers(0, 40)),
    max_size=12,
)


@pytest.fixture(scope="module")
def one_book(request: pytest.FixtureRequest) -> Book:
    make_tenant, beside = request.getfixturevalue("make_tenant"), request.getfixturevalue("beside")
    tenant = make_tenant()
    book = Book(beside, tenant, tenant.workspace("dev"))
    book.limit("workspace", max_storage_gb=1, daily_job_limit=1_000_000)
    return book


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
async def test_counters_are_what_a_model_says_after_every_step(
    one_book: Book, steps: list[tuple[str, int, int]]
) -> None:
    """The model: a list of what each reservation holds or keeps."""
    unit, most = 10**7, 10**9
    held: list[tuple[UUID, int | None, int]] = []
    clock = one_book.beside.clock
    for what, which, amount in steps:
        taken = sum(size if size is not None else used for _, size, used in held)
        if what == "reserve":
            if taken + amount * unit > most:
                with pytest.raises(Exhausted):
                    await one_book.reserve({STORAGE: amount * unit})
                continue
            held.append((await one_book.reserve({STORAGE: amount * unit}), amount * unit, 0))
        elif which < len(held):
            reservation_id, size, used = held[which]
            keeps = min(amount * unit, size if size is not None else used)
            async with one_book.session() as session:
                if what == "settle":
                    done = await settle(session, reservation_id, {STORAGE: keeps}, clock=clock)
                    assert done == (size is not None)
                    held[which] = (reservation_id, None, keeps if size is not None else used)
                elif what == "give back":
                    await give_back(session, reservation_id, (STORAGE,), clock=clock)
                    held[which] = (reservation_id, None, 0)
                elif size is not None or used:
                    await keep_only(session, reservation_id, {STORAGE: keeps}, clock=clock)
                    held[which] = (reservation_id, None, keeps)
        wanted = (sum(size or 0 for _, size, _ in held), sum(used for _, size, used in held if size is None))
        assert (await one_book.counted()).get(("workspace", "max_storage_gb"), (0, 0)) == wanted
    for reservation_id, _, _ in held:
        async with one_book.session() as session:
            await give_back(session, reservation_id, (STORAGE,), clock=clock)


@pytest.mark.parametrize(
    ("quota", "zone", "now", "began"),
    [
        (DAILY, "UTC", "2026-03-10T00:00:00+00:00", "2026-03-10T00:00:00+00:00"),
        (DAILY, "UTC", "2026-03-09T23:59:59.999999+00:00", "2026-03-09T00:00:00+00:00"),
        (DAILY, "Europe/Berlin", "2026-03-09T23:30:00+00:00", "2026-03-09T23:00:00+00:00"),
        (DAILY, "Asia/Kathmandu", "2026-03-09T18:20:00+00:00", "2026-03-09T18:15:00+00:00"),
        (DAILY, "America/New_York", "2026-03-08T12:00:00+00:00", "2026-03-08T05:00:00+00:00"),
        (DAILY, "America/New_York", "2026-03-09T12:00:00+00:00", "2026-03-09T04:00:00+00:00"),
        (TOKENS, "Pacific/Auckland", "2026-02-28T12:00:00+00:00", "2026-02-28T11:00:00+00:00"),
        (TOKENS, "UTC", "2026-02-28T12:00:00+00:00", "2026-02-01T00:00:00+00:00"),
        (STORAGE, "UTC", "2026-02-28T12:00:00+00:00", ALWAYS.isoformat()),
    ],
)
def test_windows_begin_where_the_tenant_lives(quota: Quota, zone: str, now: str, began: str) -> None:
    found = window_start(quota, datetime.fromisoformat(now), ZoneInfo(zone))
    assert found == datetime.fromisoformat(began)
    assert found.tzinfo == UTC or found == ALWAYS


async def test_a_day_begins_anew_at_the_tenants_midnight(make_book: MakeBook) -> None:
    book = make_book(settings={"timezone": "Asia/Tokyo"})
    book.limit("workspace", daily_job_limit=1)
    clock = book.beside.clock
    now = datetime.now(UTC)
    tokyo = now.astimezone(ZoneInfo("Asia/Tokyo"))
    midnight = (tokyo + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        clock.ahead = midnight - tokyo - timedelta(seconds=30)
        await book.reserve({DAILY: 1})
        assert (await _refused(book, daily_job_limit=1)).fields["allow_with"][0] == "the next day"  # type: ignore[index]
        clock.ahead += timedelta(seconds=60)
        await book.reserve({DAILY: 1})
    finally:
        clock.ahead = timedelta()
