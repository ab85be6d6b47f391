"""The ledger proved against what it stands for: what does not agree is set right, and told."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from tests.conftest import Installation
from tests.integration.limits.conftest import Book, MakeBook
from tests.integration.limits.test_quotas import told

from tenantry.capabilities.limits.service import Reconciler
from tenantry.capabilities.limits.types.quotas import Quota, Repair
from tenantry.capabilities.sandboxes.service import ImageTakings, JobTakings
from tenantry.entrypoints.reconcile import make_reconcile_round
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.ids import Prefix, parse_id

pytestmark = pytest.mark.xdist_group("api")

JOBS, STORAGE = Quota.CONCURRENT_JOBS, Quota.STORAGE


async def reconcile(book: Book) -> list[Repair]:
    async with book.session(whole=True) as session:
        subjects = (JobTakings(), ImageTakings())
        return await Reconciler(session=session, subjects=subjects, clock=book.beside.clock).run()


async def spoil(book: Book, statement: str, *values: object) -> None:
    async with book.session(whole=True) as session:
        await session.execute(statement, *values)


def run_a_job(book: Book, *command: str) -> UUID:
    body = {"command": list(command)}
    answer = book.tenant.owner.post(f"/workspaces/{book.workspace}/jobs", params={"wait": 30}, json=body)
    assert answer.json()["finished_at"], answer.text
    return parse_id(Prefix.JOB, answer.json()["id"])


async def test_a_ledger_that_agrees_is_left_alone(make_book: MakeBook) -> None:
    book = make_book()
    run_a_job(book, "echo", "hello")
    body = {"command": ["sleep", "30"]}
    running = book.tenant.owner.post(f"/workspaces/{book.workspace}/jobs", json=body).json()["id"]
    before = await book.counted()
    assert before["workspace", "max_concurrent_jobs"] == (1, 0)
    assert await reconcile(book) == []
    assert await book.counted() == before
    book.tenant.owner.post(f"/workspaces/{book.workspace}/jobs/{running}/cancel")


async def test_a_counter_that_is_not_the_sum_of_its_reservations_is_set_to_it(make_book: MakeBook) -> None:
    book = make_book()
    await book.reserve({JOBS: 2, STORAGE: 700}, kind="elsewhere")
    before = await book.counted()
    await spoil(book, "update quota_counters set held = held + 5, used = used + 9 where quota = 'max_storage_gb'")
    await spoil(book, "delete from quota_counters where quota = 'max_concurrent_jobs' and holder_id <> tenant_id")
    repairs = await reconcile(book)
    assert await book.counted() == before
    assert sorted((repair.quota, dict(repair.was)) for repair in repairs) == [
        ("max_concurrent_jobs", {"held": 0, "used": 0}),
        ("max_storage_gb", {"held": 705, "used": 9}),
        ("max_storage_gb", {"held": 705, "used": 9}),
    ]
    assert await reconcile(book) == []
    [event] = await asyncio.to_thread(told, book.tenant, action="quota.repaired")
    assert (event["outcome"], event["details"]["count"]) == ("success", 3)


async def test_what_a_job_held_that_has_ended_is_given_back(make_book: MakeBook) -> None:
    book = make_book()
    job = run_a_job(book, "echo", "hello")
    kept = await book.counted()
    await spoil(
        book,
        """update reservations set state = 'held', amount = 1000, used = 0
           where reservation_id = $1 and quota in ('max_concurrent_jobs', 'max_storage_gb')""",
        job,
    )
    repairs = await reconcile(book)
    assert "reservation" in {repair.quota for repair in repairs}
    assert await book.counted() == kept


async def test_what_stands_for_a_job_that_is_no_more_is_given_back(make_book: MakeBook) -> None:
    book = make_book()
    held = await book.reserve({JOBS: 1, STORAGE: 100}, kind="job")
    kept = await book.reserve({STORAGE: 50}, kind="image")
    await book.settle(kept, max_storage_gb=50)
    assert len(await reconcile(book)) == 2
    assert await book.counted() == {}
    assert held != kept


async def test_a_reservation_whose_time_is_over_is_given_back_and_one_in_time_is_not(make_book: MakeBook) -> None:
    book = make_book()
    now = book.beside.clock.now()
    await book.reserve({JOBS: 1}, kind="elsewhere", expires_at=now - timedelta(seconds=1))
    await book.reserve({JOBS: 3}, kind="elsewhere", expires_at=now + timedelta(minutes=5))
    assert await reconcile(book) == []
    assert await book.counted() == {(holder, "max_concurrent_jobs"): (3, 0) for holder in ("tenant", "workspace")}


async def test_a_servers_round_finds_who_has_used_something_and_sets_it_right(
    make_book: MakeBook, installation: Installation
) -> None:
    book = make_book()
    await book.reserve({JOBS: 2}, kind="elsewhere")
    before = await book.counted()
    await spoil(book, "update quota_counters set held = held + 5, updated_at = now()")
    async with open_parts(installation.settings) as parts:
        going = make_reconcile_round(parts, parts.cells.get("us"))
        try:
            await going.go_round()  # how many it repairs is not asked: the installation's own round may be on its way
        finally:
            await going.rounds.close()
    assert await book.counted() == before


async def test_what_another_tenant_holds_is_not_touched(make_book: MakeBook) -> None:
    book, other = make_book(), make_book()
    await other.reserve({JOBS: 1}, kind="job")
    assert await reconcile(book) == []
    assert (await other.counted())["tenant", "max_concurrent_jobs"] == (1, 0)
