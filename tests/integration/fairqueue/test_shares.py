"""Weights and caps that the owners of entries set: who gets how much, and how many run at once."""

import asyncio
import heapq
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest

from tenantry.engines.fairqueue import Claim, Levels

from .conftest import WORKER, Rig

if TYPE_CHECKING:
    Link = asyncpg.Connection[asyncpg.Record]


def levels(first: UUID | None = None, second: UUID | None = None) -> Levels:
    return first or uuid4(), second or uuid4(), uuid4()


async def holder(rig: Rig) -> "Link":
    """A second connection of the application, of whichever first-level key."""
    link = await rig.connect("queue_application")
    await link.execute("SET lock_timeout = '2s'")
    return link


# --- setting ---------------------------------------------------------------------------------------------------------


async def test_only_what_differs_is_written(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    assert not await rig.share(first), "the default is no row"
    assert await rig.count("shares") == 0
    assert await rig.share(first, weight=2, most=3)
    assert await rig.share(first, second, weight=2, most=3)
    await rig.queue.catch_up(rig.dispatcher)
    for keys in ((first,), (first, second)):
        assert not await rig.share(*keys, weight=2, most=3)
    assert await rig.count("shares WHERE changed") == 0
    assert await rig.share(first, weight=2, most=None)
    assert await rig.share(first, weight=3)
    assert await rig.count("shares WHERE changed") == 1
    assert await rig.queue.catch_up(rig.dispatcher) == 1
    assert await rig.queue.catch_up(rig.dispatcher) == 0


async def test_a_share_that_is_as_before_is_locked_by_nobody(rig: Rig) -> None:
    """Two transactions that submit at once: neither waits, nor leaves a lock on the row."""
    first = uuid4()
    await rig.share(first, weight=2, most=3)
    await rig.queue.catch_up(rig.dispatcher)
    links = [await holder(rig), await holder(rig)]
    transactions = [link.transaction() for link in links]
    for link, transaction in zip(links, transactions, strict=True):
        await transaction.start()
        await link.execute("SELECT set_config('queue.first', $1, true)", str(first))
        assert not await rig.queue.set_share(link, keys=(first,), weight=2, most_running=3)
    await rig.superuser.execute(rig.fill("SELECT FROM __schema__.shares FOR UPDATE NOWAIT"))
    await asyncio.wait_for(rig.share(first, weight=4, most=3), 5)
    for transaction in transactions:
        await transaction.commit()


async def test_writers_that_change_one_share_at_once_wait_and_the_last_one_counts(rig: Rig) -> None:
    first = uuid4()
    one, two = await holder(rig), await holder(rig)
    for link in (one, two):
        await link.execute("SELECT set_config('queue.first', $1, false)", str(first))
    transaction = one.transaction()
    await transaction.start()
    assert await rig.queue.set_share(one, keys=(first,), weight=2)
    waiting = asyncio.create_task(rig.queue.set_share(two, keys=(first,), weight=5))
    await rig.put(levels())
    assert len(await asyncio.wait_for(rig.take(), 5)) == 1, "the gate waits for no owner"
    await transaction.commit()
    assert await waiting
    await rig.queue.catch_up(rig.dispatcher)
    assert await rig.count("nodes WHERE weight = 5") == 1


async def test_a_share_its_owner_is_changing_is_taken_in_later(rig: Rig) -> None:
    first = uuid4()
    await rig.share(first, weight=2)
    link = await holder(rig)
    async with link.transaction():
        await link.execute("SELECT set_config('queue.first', $1, true)", str(first))
        await rig.queue.set_share(link, keys=(first,), weight=3)
        assert await asyncio.wait_for(rig.queue.catch_up(rig.dispatcher), 5) == 0
    assert await rig.queue.catch_up(rig.dispatcher) == 1
    assert await rig.count("nodes WHERE weight = 3") == 1


async def test_a_key_sets_no_other_ones_share(rig: Rig) -> None:
    await rig.bind(uuid4())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.queue.set_share(rig.application, keys=(uuid4(),), weight=9)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.application.execute(rig.fill("DELETE FROM __schema__.shares"))


@pytest.mark.parametrize(
    ("weight", "most"), [(0, None), (-1, None), (float("nan"), None), (1e7, 1), (1, -1), (1, 2**31)]
)
async def test_shares_are_checked(rig: Rig, weight: float, most: int | None) -> None:
    with pytest.raises(ValueError, match="weight"):
        await rig.share(uuid4(), weight=weight, most=most)


async def test_many_shares_are_taken_in_by_bounded_steps(rig: Rig) -> None:
    first = uuid4()
    await rig.bind(first)
    async with rig.application.transaction():
        for _ in range(250):
            await rig.queue.set_share(rig.application, keys=(first, uuid4()), most_running=1)
    assert [await rig.queue.catch_up(rig.dispatcher) for _ in range(4)] == [100, 100, 50, 0]
    assert await rig.count("nodes WHERE most_running = 1") == 250


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
async def test_weights_of_one_two_and_four_share_the_slot_seconds(rig: Rig, level: int) -> None:
    """Within 5 %, with entries of 1 to 5 seconds where 1 is expected. Time is simulated."""
    chance = random.Random(7)  # noqa: S311 - lengths that can be repeated
    first = uuid4()
    weights = {levels(first if level == 2 else None): float(weight) for weight in (1, 2, 4)}
    for place, weight in weights.items():
        await rig.share(*place[:level], weight=weight)
        await rig.put(place, 900)
    used = await run(rig, slots=8, until=400.0, seconds=lambda _: chance.uniform(1, 5))
    for place, weight in weights.items():
        assert used[place] / used.total() == pytest.approx(weight / 7, rel=0.05)


async def run(rig: Rig, *, slots: int, until: float, seconds: "object") -> Counter[Levels]:
    """Work off what waits on simulated slots; gives the slot-seconds each has used."""
    used: Counter[Levels] = Counter()
    order, now, free = itertools.count(), 0.0, slots
    running: list[tuple[float, int, Claim, float]] = []
    while now < until:
        for claim in await rig.take(free, capacity=slots):
            takes = seconds(claim)  # type: ignore[operator]
            heapq.heappush(running, (now + takes, next(order), claim, takes))
            used[claim.levels] += min(takes, until - now)
        now, free = running[0][0], 0
        while running and running[0][0] <= now:
            _, _, claim, takes = heapq.heappop(running)
            assert await rig.end(claim.ticket, used=takes)
            free += 1
    return used


# --- caps ------------------------------------------------------------------------------------------------------------


async def test_no_more_than_the_cap_run_over_all_lanes_and_workers(rig: Rig) -> None:
    first = uuid4()
    await rig.share(first, most=3)
    for label in ("a", "b", "c"):
        await rig.put(levels(first), 5, labels=(label,))
    taken = [claim for label in ("a", "b", "c") for claim in await rig.take(2, worker=uuid4(), labels=(label,))]
    assert len(taken) == 3
    assert await rig.take(50, labels=("a", "b", "c")) == []
    await rig.end(taken[0].ticket)
    assert len(await rig.take(50, labels=("a", "b", "c"))) == 1
    await rig.assert_counts_agree()


async def test_a_cap_counts_entries_not_slots(rig: Rig) -> None:
    first = uuid4()
    await rig.share(first, most=2)
    await rig.put(levels(first), 3, slots=4)
    assert len(await rig.take(64)) == 2


async def test_a_capped_second_level_blocks_no_sibling(rig: Rig) -> None:
    first = uuid4()
    capped, free, other = levels(first), levels(first), levels()
    await rig.share(*capped[:2], most=1)
    for place in (capped, free, other):
        await rig.put(place, 10)
    taken = Counter(claim.levels for claim in await rig.take(13))
    assert taken[capped] == 1
    assert abs(taken[free] + 1 - taken[other]) <= 1, "its part goes to its siblings, not to other keys"
    await rig.assert_counts_agree()


async def test_a_third_level_takes_turns_below_a_cap(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    loud, shy = levels(first, second), levels(first, second)
    await rig.share(first, second, most=1)
    await rig.put(loud, 20)
    await rig.put(shy, 5)
    turns: Counter[Levels] = Counter()
    for _ in range(8):
        (claim,) = await rig.take(10)
        turns[claim.levels] += 1
        await rig.end(claim.ticket)
    assert turns == {loud: 4, shy: 4}


async def test_a_raised_or_removed_cap_counts_at_the_next_claim(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    await rig.share(first, most=1)
    await rig.share(first, second, most=0)
    await rig.put(levels(first, second), 9)
    assert await rig.take(9) == []
    await rig.share(first, second, most=4)
    assert len(await rig.take(9)) == 1, "the level above has its own"
    await rig.share(first, most=3)
    assert len(await rig.take(9)) == 2
    await rig.share(first)
    assert len(await rig.take(9)) == 1
    await rig.share(first, second)
    assert len(await rig.take(9)) == 5
    await rig.assert_counts_agree()


async def test_a_lowered_cap_ends_nothing_and_starts_nothing_until_fewer_run(rig: Rig) -> None:
    first = uuid4()
    place = levels(first)
    await rig.put(place, 10)
    running = await rig.take(5)
    await rig.share(first, most=2)
    assert await rig.take(5) == []
    assert await rig.queue.cancelled(rig.dispatcher, worker=WORKER) == []
    for claim in running[:3]:
        await rig.end(claim.ticket)
        assert await rig.take(5) == []
    await rig.end(running[3].ticket)
    assert len(await rig.take(5)) == 1


async def test_a_cap_holds_for_lanes_that_come_later(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    await rig.share(first, second, most=1)
    await rig.put(levels(first, second), 3)
    assert len(await rig.take(9)) == 1
    await rig.put(levels(first, second), 3, labels=("late",))
    assert await rig.take(9, labels=("late",)) == []
    await rig.put(levels(first), labels=("late",))
    assert len(await rig.take(9, labels=("late",))) == 1
    await rig.assert_counts_agree()


@pytest.mark.parametrize(("level", "siblings"), [(1, False), (2, True), (2, False)])
async def test_a_freed_key_has_saved_up_no_credit(rig: Rig, level: int, siblings: bool) -> None:
    """Held, or all that waits below it is, for a hundred turns of another, then free: they take turns from there on."""
    held = levels()
    busy = levels(held[0]) if siblings else levels()
    await rig.share(*held[:level], most=1)
    await rig.put(held, 200)
    await rig.put(busy, 300)
    (claim,) = [claim for claim in await rig.take(102) if claim.levels == held]
    await rig.end(claim.ticket, used=0.5)  # a refund while it is held must not lower what it is lifted to
    await rig.share(*held[:level])
    taken = Counter(claim.levels for claim in await rig.take(20))
    assert abs(taken[held] - 10) <= 1
    await rig.assert_counts_agree()


async def test_a_key_whose_second_levels_were_all_held_has_saved_up_no_credit(rig: Rig) -> None:
    held, busy = levels(), levels()
    await rig.share(*held[:2], most=1)
    await rig.put(held, 200)
    await rig.put(busy, 300)
    await rig.take(101)
    await rig.put(levels(held[0]), 50)  # not held, so its key waits again
    taken = Counter(claim.levels[0] for claim in await rig.take(20))
    assert abs(taken[held[0]] - 10) <= 1
    await rig.assert_counts_agree()


async def test_what_is_given_back_has_saved_up_no_credit(rig: Rig) -> None:
    away, busy = levels(), levels()
    await rig.put(away)
    (claim,) = await rig.take(lease=0)
    await rig.put(busy, 300)
    await rig.take(100)
    assert await rig.queue.requeue(rig.dispatcher, ticket=claim.ticket)
    await rig.put(away, 100)
    taken = Counter(claim.levels for claim in await rig.take(20))
    assert abs(taken[away] - 10) <= 1


@pytest.mark.parametrize("level", [1, 2])
async def test_a_held_flood_is_not_even_looked_at(rig: Rig, level: int) -> None:
    """A thousand keys at their caps, each with work: a claim reads as many index entries as without them."""
    quiet = levels()
    await rig.put(quiet, 40)
    await rig.take(5)
    alone = await index_entries_read(rig)
    keys = [levels() for _ in range(1000)]
    await rig.superuser.executemany(
        rig.fill("INSERT INTO __schema__.shares (house, floor, most_running) VALUES ($1, $2, 1)"),
        [(key[0], key[1] if level == 2 else UUID(int=0)) for key in keys],
    )
    await rig.superuser.executemany(
        rig.fill(
            "INSERT INTO __schema__.entries (house, floor, room, task, estimate_seconds)"
            " VALUES ($1, $2, $3, gen_random_uuid(), 1)"
        ),
        [key for key in keys for _ in range(3)],
    )
    while await rig.queue.catch_up(rig.dispatcher):
        pass
    everything = await rig.take(1020)
    assert len({claim.levels for claim in everything}) == 1001
    assert [claim.levels for claim in await rig.take(3)] == [quiet] * 3
    assert await index_entries_read(rig) == alone
    await rig.assert_counts_agree()


async def index_entries_read(rig: Rig) -> int:
    """How many accounts one claim looks at, by whichever index, or by none; dead ones apart."""
    looking = "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
    async with asyncio.timeout(30):  # an ANALYZE by itself sees what is dead, and so keeps it
        while await rig.superuser.fetchval(looking):
            pass
    await rig.superuser.execute(rig.fill("VACUUM __schema__.fronts"))
    transaction = rig.dispatcher.transaction()
    await transaction.start()
    before = await entries_read(rig)
    assert len(await rig.take()) == 1
    read = await entries_read(rig) - before
    await transaction.rollback()
    assert read > 0
    return read


async def entries_read(rig: Rig) -> int:
    query = rig.fill("""SELECT sum(pg_stat_get_xact_tuples_returned(r.oid)) FROM (
        SELECT i.indexrelid AS oid FROM pg_index i WHERE i.indrelid = '__schema__.fronts'::regclass
        UNION ALL SELECT '__schema__.fronts'::regclass) r""")
    return int(await rig.dispatcher.fetchval(query))


class Storm:
    """Claimers and owners at one queue; each first-level key has an owner, two second-level ones, and caps."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.chance = rig, random.Random(3)  # noqa: S311 - a storm that can be repeated
        self.caps: dict[tuple[UUID, ...], int] = {}
        self.places: list[Levels] = []
        self.owners: dict[UUID, tuple[Link, asyncio.Lock]] = {}
        self.above: list[str] = []
        self.claimed = 0

    async def prepare(self) -> None:
        for most in (1, 3, 5):
            first, narrow, wide = (uuid4() for _ in range(3))
            self.caps |= {(first,): most, (first, narrow): 2, (first, wide): 9}
            self.places += [levels(first, second) for second in (narrow, narrow, wide, wide)]
            link = await self.rig.connect("queue_application")
            await link.execute("SELECT set_config('queue.first', $1, false)", str(first))
            self.owners[first] = (link, asyncio.Lock())
        for keys, most in self.caps.items():
            await self.rig.share(*keys, most=most)

    async def write(self, first: UUID) -> None:
        link, lock = self.owners[first]
        mine = [place for place in self.places if place[0] == first]
        for turn in range(40):
            async with lock:
                for labels in ((), ("a",), ("b",)):
                    await self.put(link, self.chance.choice(mine), labels)
                gone = await self.put(link, self.chance.choice(mine), ())
                if turn % 2:
                    await self.rig.queue.cancel(link, first=first, entry=gone)

    async def put(self, link: "Link", place: Levels, labels: tuple[str, ...]) -> UUID:
        entry = uuid4()
        await self.rig.queue.enqueue(link, levels=place, entry=entry, estimate_seconds=1, labels=labels)
        return entry

    async def claim(self, link: "Link", labels: tuple[str, ...]) -> None:
        worker = uuid4()
        for _ in range(40):
            async with link.transaction():  # the gate is held while it looks
                claims = await self.rig.queue.claim(
                    link,
                    worker=worker,
                    free_slots=self.chance.randint(1, 4),
                    capacity=8,
                    labels=labels,
                    lease_seconds=self.chance.choice([0, 60]),
                )
                await self.look(link)
            self.claimed += len(claims)
            for claim in claims:
                await self.end(link, worker, claim)

    async def look(self, link: "Link") -> None:
        for keys, most in self.caps.items():
            running = await link.fetchval(
                self.rig.fill("""SELECT count(*) FROM __schema__.entries
                     WHERE state = 'claimed' AND used_slot_seconds IS NULL
                       AND house = $1 AND floor = coalesce($2, floor)"""),
                *keys,
                *[None] * (2 - len(keys)),
            )
            if running > most:
                self.above.append(f"{running} of {most}")

    async def end(self, link: "Link", worker: UUID, claim: Claim) -> None:
        queue, ticket = self.rig.queue, claim.ticket
        done = False
        match self.chance.randint(0, 5):
            case 0:
                done = await queue.release(link, worker=worker, ticket=ticket)
            case 1:
                done = await queue.requeue(link, ticket=ticket)
            case 2:
                done = await queue.drop(link, ticket=ticket)
        if not done:
            owner, lock = self.owners[ticket.first]
            async with lock:
                await queue.cancel(owner, first=ticket.first, entry=ticket.entry)
                await queue.finish(owner, ticket=ticket, used_slot_seconds=self.chance.uniform(0, 3))


async def test_never_more_than_the_cap_with_eight_claimers_and_everything_else_at_once(rig: Rig) -> None:
    """Looked at after each claim, under the gate: whatever finishes, is cancelled, lapses or is put back meanwhile."""
    storm = Storm(rig)
    await storm.prepare()
    links = [await rig.connect("queue_dispatcher") for _ in range(8)]
    await asyncio.gather(
        *(storm.write(first) for first in storm.owners),
        *(storm.claim(link, ("a", "b")[: number % 3]) for number, link in enumerate(links)),
    )
    assert storm.above == []
    assert storm.claimed > 100
    await rig.assert_counts_agree()


# --- upkeep ----------------------------------------------------------------------------------------------------------


async def test_claims_that_vanished_hold_nobody_for_long(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    await rig.share(first, most=2)
    await rig.share(first, second, most=1)
    await rig.put(levels(first, second), 4)
    await rig.put(levels(first), 4)
    assert len(await rig.take(9)) == 2
    await rig.superuser.execute(rig.fill("DELETE FROM __schema__.entries WHERE state = 'claimed'"))
    assert await rig.take(9) == []
    assert await rig.queue.catch_up(rig.dispatcher) == 0, "it was counted a moment ago"
    await rig.superuser.execute(rig.fill("UPDATE __schema__.gate SET recounted_at = '-infinity'"))
    assert await rig.queue.catch_up(rig.dispatcher) == 2
    assert len(await rig.take(9)) == 2
    await rig.assert_counts_agree()


async def test_a_node_stays_while_it_has_a_share_and_forgets_one_that_was_deleted(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    await rig.share(first, second, most=0)
    await rig.share(uuid4(), weight=2)
    await rig.put(levels(first, second), 2)
    await rig.queue.catch_up(rig.dispatcher)
    assert await collected(rig) == 0
    await rig.superuser.execute(rig.fill("DELETE FROM __schema__.shares WHERE house = $1"), first)
    await rig.superuser.execute(rig.fill("DELETE FROM __schema__.entries WHERE house = $1"), first)
    await collected(rig)
    assert await rig.take(9) == [], "what is counted too high is seen by the claim that meets it"
    assert await collected(rig) == 3
    assert await rig.count("nodes") == 1


async def collected(rig: Rig) -> int:
    return sum([await rig.queue.collect(rig.dispatcher, idle_seconds=0) for _ in range(4)])


async def test_what_waits_at_a_cap_keeps_its_lane(rig: Rig) -> None:
    first = uuid4()
    await rig.share(first, most=0)
    (entry,) = await rig.put(levels(first), labels=("rare",))
    await rig.queue.catch_up(rig.dispatcher)
    await collected(rig)
    await rig.share(first)
    assert [claim.ticket.entry for claim in await rig.take(labels=("rare",))] == [entry]


# --- standing --------------------------------------------------------------------------------------------------------


async def test_standing_says_which_level_holds_back_and_when_it_may_start(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    place = levels(first, second)
    await rig.share(first, second, most=2)
    entries = sorted(await rig.put(place, 6, estimate=10))  # of one moment: in order of their ids
    (elsewhere,) = await rig.put(levels(first), estimate=10)

    async def look(entry: UUID) -> tuple[object, ...]:
        found = await rig.queue.standing(rig.dispatcher, first=first, entry=entry)
        assert found is not None
        starts = None if found.starts_in_seconds is None else round(found.starts_in_seconds)
        return (found.held_level, found.most_running, found.running, found.slots, found.slots_in_use, starts)

    await rig.queue.catch_up(rig.dispatcher)
    assert await look(entries[0]) == (None, None, None, 0, 0, None), "nobody serves it"
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=uuid4(), labels=(), slots=4)
    assert await look(entries[2]) == (None, None, None, 4, 0, 0), "there is room for all before it"
    assert await look(entries[5]) == (None, None, None, 4, 0, 15)
    assert len(await rig.take(3)) == 3
    assert [await look(entry) for entry in entries[2:]] == [(2, 2, 2, 4, 3, 10 + 5 * ahead) for ahead in range(4)]
    await rig.share(first, most=0)
    await rig.queue.catch_up(rig.dispatcher)
    assert await look(entries[2]) == (1, 0, 3, 4, 3, None)
    claimed = await rig.queue.standing(rig.dispatcher, first=first, entry=elsewhere)
    assert claimed is not None
    assert (claimed.state, claimed.held_level, claimed.starts_in_seconds) == ("claimed", None, None)


async def test_standing_divides_what_goes_first_by_the_slots(rig: Rig) -> None:
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=uuid4(), labels=(), slots=4)
    place = levels()
    await rig.put(place, 4, estimate=10)
    assert len(await rig.take(4)) == 4
    entries = await rig.put(place, 9, estimate=20)
    await rig.queue.catch_up(rig.dispatcher)
    found = [await rig.queue.standing(rig.dispatcher, first=place[0], entry=entry) for entry in entries]
    starts = sorted(round(each.starts_in_seconds or 0) for each in found if each is not None)
    assert starts == [10 + 5 * number for number in range(9)]
