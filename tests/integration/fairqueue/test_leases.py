"""Attempts, leases, cancellation, and what a crash leaves behind."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from tenantry.engines.fairqueue import Cancellation, Renewal, Ticket

from .conftest import WORKER, Rig

PLACE = (uuid4(), uuid4(), uuid4())
FIRST = PLACE[0]


async def test_each_claim_raises_the_attempt_and_a_stale_one_is_refused(rig: Rig) -> None:
    await rig.put(PLACE)
    (old,) = await rig.take(lease=0)
    assert await rig.queue.requeue(rig.dispatcher, ticket=old.ticket)
    assert not await rig.end(old.ticket), "it waits again, so no attempt is valid"
    (new,) = await rig.take(worker=uuid4())
    assert new.ticket == old.ticket._replace(attempt=2)
    assert not await rig.end(old.ticket)
    assert await rig.end(new.ticket)
    assert not await rig.end(new.ticket), "only once"
    await rig.assert_counts_agree()
    assert await rig.count("entries") == 0


async def test_a_lapsed_claim_may_still_finish_until_it_is_requeued(rig: Rig) -> None:
    await rig.put(PLACE)
    (claim,) = await rig.take(lease=0)
    assert await rig.end(claim.ticket)
    assert await rig.queue.sweep(rig.dispatcher) == []
    assert not await rig.queue.requeue(rig.dispatcher, ticket=claim.ticket)


async def test_renewal_extends_what_is_held_and_reports_the_rest_as_lost(rig: Rig) -> None:
    await rig.put(PLACE, 4)
    kept, finished, other = [claim.ticket for claim in await rig.take(3)]
    (lapsed,) = [claim.ticket for claim in await rig.take(1, lease=0)]
    assert await rig.end(finished)
    asked = [kept, finished, lapsed, other._replace(attempt=9)]
    renewal = await rig.queue.renew(rig.dispatcher, worker=WORKER, tickets=asked, lease_seconds=0)
    assert renewal == Renewal(frozenset({kept}), frozenset())
    assert {x.ticket for x in await rig.queue.sweep(rig.dispatcher)} == {kept, lapsed}
    stranger = await rig.queue.renew(rig.dispatcher, worker=uuid4(), tickets=[other], lease_seconds=60)
    assert stranger == Renewal(frozenset(), frozenset())


async def test_a_row_its_owner_is_changing_keeps_its_lease_and_delays_nobody(rig: Rig) -> None:
    await rig.put(PLACE, 2)
    busy, calm = [claim.ticket for claim in await rig.take(2)]
    await rig.bind(FIRST)
    async with rig.application.transaction():
        assert await rig.queue.cancel(rig.application, first=FIRST, entry=busy.entry) is Cancellation.REQUESTED
        renewal = await asyncio.wait_for(
            rig.queue.renew(rig.dispatcher, worker=WORKER, tickets=[busy, calm], lease_seconds=60), 5
        )
    assert renewal == Renewal(frozenset({calm}), frozenset({busy}))


async def test_locks_of_one_owner_delay_neither_claims_nor_absorption(rig: Rig) -> None:
    locked, waiting = await rig.put(PLACE, 2)
    others = [(uuid4(), uuid4(), uuid4()) for _ in range(3)]
    await rig.queue.catch_up(rig.dispatcher)
    (new,) = await rig.put(PLACE)
    await rig.bind(FIRST)
    link = await rig.connect("queue_application")
    await link.execute("SELECT set_config('queue.first', $1, false)", str(FIRST))
    async with link.transaction():
        for entry in (locked, new):
            await rig.queue.cancel(link, first=FIRST, entry=entry)
        for place in others:
            await rig.put(place)
        claims = await asyncio.wait_for(rig.take(10), 5)
        assert {claim.ticket.entry for claim in claims[:1]} | {waiting} == {c.ticket.entry for c in claims[:1]} | {
            waiting
        }
        assert {claim.levels for claim in claims} == {PLACE, *others}
        assert len(claims) == 4
    assert await rig.take(10) == []
    await rig.assert_counts_agree()


async def test_a_key_whose_entries_are_all_locked_is_passed_over(rig: Rig) -> None:
    rooms = [(FIRST, uuid4(), uuid4()) for _ in range(25)]
    entries = [(await rig.put(room))[0] for room in rooms]
    await rig.queue.catch_up(rig.dispatcher)
    other = (uuid4(), uuid4(), uuid4())
    link = await rig.connect("queue_application")
    await link.execute("SELECT set_config('queue.first', $1, false)", str(FIRST))
    async with link.transaction():
        for entry in entries:
            await rig.queue.cancel(link, first=FIRST, entry=entry)
        await rig.put(other)
        assert [claim.levels for claim in await asyncio.wait_for(rig.take(5), 5)] == [other]
    assert await rig.take(5) == []


async def test_what_was_passed_over_while_locked_keeps_its_turn(rig: Rig) -> None:
    """Invariant: no waiting node is below the least virtual time that descents start from."""
    (held,) = await rig.put(PLACE)
    other = (uuid4(), uuid4(), uuid4())
    await rig.put(other, 30)
    await rig.queue.catch_up(rig.dispatcher)
    link = await rig.connect("queue_application")
    await link.execute("SELECT set_config('queue.first', $1, false)", str(FIRST))
    transaction = link.transaction()
    await transaction.start()
    await rig.queue.cancel(link, first=FIRST, entry=held)
    assert len(await rig.take(20)) == 20
    await transaction.rollback()
    assert [claim.ticket.entry for claim in await rig.take()] == [held]


async def test_a_refund_leaves_the_entry_within_reach(rig: Rig) -> None:
    await rig.put(PLACE)
    (claim,) = await rig.take()
    other = (uuid4(), uuid4(), uuid4())
    await rig.put(other, 50)
    assert len(await rig.take(30)) == 30
    assert await rig.queue.release(rig.dispatcher, worker=WORKER, ticket=claim.ticket)
    assert (await rig.take())[0].ticket == claim.ticket._replace(attempt=2)
    await rig.assert_counts_agree()


async def test_release_belongs_to_the_holder(rig: Rig) -> None:
    await rig.put(PLACE)
    (claim,) = await rig.take()
    assert not await rig.queue.release(rig.dispatcher, worker=uuid4(), ticket=claim.ticket)
    assert not await rig.queue.requeue(rig.dispatcher, ticket=claim.ticket), "its lease runs"
    assert await rig.queue.release(rig.dispatcher, worker=WORKER, ticket=claim.ticket)


async def test_the_sweep_lists_lapsed_claims_and_drop_ends_them(rig: Rig) -> None:
    await rig.put(PLACE, 2)
    gone, kept = [claim.ticket for claim in await rig.take(1, lease=0) + await rig.take(1)]
    (lapsed,) = await rig.queue.sweep(rig.dispatcher)
    assert (lapsed.ticket, lapsed.levels, lapsed.worker, lapsed.cancel_requested) == (gone, PLACE, WORKER, False)
    assert await rig.queue.drop(rig.dispatcher, ticket=gone)
    assert not await rig.queue.drop(rig.dispatcher, ticket=gone)
    assert not await rig.queue.drop(rig.dispatcher, ticket=kept)
    await rig.assert_counts_agree()
    assert await rig.count("entries") == 1


async def test_cancelling_takes_a_waiting_entry_out_and_tells_the_worker_of_a_claimed_one(rig: Rig) -> None:
    entries = await rig.put(PLACE, 3)
    (claim,) = await rig.take()
    waiting = next(entry for entry in entries if entry != claim.ticket.entry)
    assert await rig.cancel(FIRST, waiting) is Cancellation.REMOVED
    assert await rig.cancel(FIRST, waiting) is Cancellation.ABSENT
    assert await rig.cancel(FIRST, claim.ticket.entry) is Cancellation.REQUESTED
    assert await rig.cancel(FIRST, uuid4()) is Cancellation.ABSENT
    assert await rig.queue.cancelled(rig.dispatcher, worker=WORKER) == [claim.ticket]
    assert len(await rig.take(10)) == 1
    assert await rig.end(claim.ticket)
    assert await rig.cancel(FIRST, claim.ticket.entry) is Cancellation.ABSENT
    assert await rig.queue.cancelled(rig.dispatcher, worker=WORKER) == []
    await rig.assert_counts_agree()


async def test_a_mass_cancellation_leaves_the_rest_claimable(rig: Rig) -> None:
    entries = await rig.put(PLACE, 700)
    while await rig.queue.catch_up(rig.dispatcher):
        pass
    for entry in entries[:-1]:
        await rig.queue.cancel(rig.application, first=FIRST, entry=entry)
    assert [claim.ticket.entry for claim in await rig.take()] == entries[-1:]
    await rig.assert_counts_agree()


async def test_a_connection_killed_before_the_commit_has_claimed_nothing(rig: Rig) -> None:
    entries = await rig.put(PLACE, 3)
    link = await rig.connect("queue_dispatcher")
    await link.execute("BEGIN")
    claims = await rig.queue.claim(link, worker=WORKER, free_slots=3, capacity=3, labels=(), lease_seconds=60)
    assert len(claims) == 3
    await rig.superuser.execute("SELECT pg_terminate_backend($1, 5000)", link.get_server_pid())
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await link.execute("COMMIT")
    assert await rig.count("entries WHERE state = 'claimed'") == 0
    again = await rig.take(3)
    assert {claim.ticket for claim in again} == {Ticket(FIRST, entry, 1) for entry in entries}
    await rig.assert_counts_agree()


async def test_claims_of_a_worker_lapse_when_it_boots_anew_or_leaves(rig: Rig) -> None:
    boot = uuid4()
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=boot, labels=(), slots=4)
    await rig.put(PLACE)
    (claim,) = await rig.take()
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=boot, labels=(), slots=4)
    assert await rig.queue.sweep(rig.dispatcher) == []
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=uuid4(), labels=(), slots=4)
    assert [x.ticket for x in await rig.queue.sweep(rig.dispatcher)] == [claim.ticket]
    assert await rig.queue.requeue(rig.dispatcher, ticket=claim.ticket)
    (claim,) = await rig.take()
    await rig.queue.leave(rig.dispatcher, worker=WORKER)
    assert [x.ticket for x in await rig.queue.sweep(rig.dispatcher)] == [claim.ticket]


async def test_eight_claimers_meet_neither_a_duplicate_nor_a_false_empty(rig: Rig) -> None:
    for _ in range(20):
        await rig.put((uuid4(), uuid4(), uuid4()), 20)
    links = [await rig.connect("queue_dispatcher") for _ in range(8)]
    got: list[Ticket] = []

    async def claimer(link: "asyncpg.Connection[asyncpg.Record]") -> None:
        while len(got) <= 400 - len(links):
            claims = await rig.queue.claim(link, worker=uuid4(), free_slots=1, capacity=1, labels=(), lease_seconds=60)
            assert claims, "there was work left for every claimer"
            got.extend(claim.ticket for claim in claims)

    await asyncio.gather(*(claimer(link) for link in links))
    got += [claim.ticket for claim in await rig.take(10)]
    assert len(got) == len(set(got)) == 400
