"""Whose turn it is."""

import heapq
import itertools
from collections import Counter
from uuid import UUID, uuid4

import pytest

from .conftest import Rig


def levels(first: UUID | None = None, second: UUID | None = None) -> tuple[UUID, UUID, UUID]:
    return first or uuid4(), second or uuid4(), uuid4()


async def test_two_keys_flooding_hundred_to_one_are_taken_alternately(rig: Rig) -> None:
    loud, quiet = levels(), levels()
    await rig.put(loud, 1000)
    await rig.put(quiet, 10)
    turns = [claim.levels for claim in await rig.take(20)]
    assert sorted(Counter(turns).values()) == [10, 10]
    assert all(set(pair) == {loud, quiet} for pair in zip(turns[::2], turns[1::2], strict=True))


async def test_an_entry_behind_a_flood_not_yet_taken_in_is_claimed_with_the_next(rig: Rig) -> None:
    loud, quiet = levels(), levels()
    await rig.put(loud, 2000)
    await rig.put(quiet)
    assert {claim.levels for claim in await rig.take(2)} == {loud, quiet}


async def test_the_second_and_third_level_take_turns_below_one_key(rig: Rig) -> None:
    first, second = uuid4(), uuid4()
    loud, shy, other = levels(first, second), levels(first, second), levels(first)
    await rig.put(loud, 50)
    await rig.put(shy, 10)
    await rig.put(other, 10)
    await rig.put(levels(), 1)
    taken = Counter(claim.levels for claim in await rig.take(17) if claim.levels[0] == first)
    assert taken == {other: 8, loud: 4, shy: 4}


async def test_one_leaf_is_first_in_first_out(rig: Rig) -> None:
    place = levels()
    wanted = [(await rig.put(place))[0] for _ in range(5)]
    assert [claim.ticket.entry for claim in await rig.take(5)] == wanted


async def test_weights_divide_the_turns(rig: Rig) -> None:
    heavy, light = levels(), levels()
    await rig.share(heavy[0], weight=3)
    await rig.put(heavy, 60)
    await rig.put(light, 60)
    taken = Counter(claim.levels for claim in await rig.take(40))
    assert abs(taken[heavy] - 30) <= 1


async def test_many_slots_cost_many_turns(rig: Rig) -> None:
    wide, narrow = levels(), levels()
    await rig.put(wide, 10, slots=4)
    await rig.put(narrow, 40)
    taken = Counter(claim.levels for claim in await rig.take(40))
    assert abs(taken[narrow] - 4 * taken[wide]) <= 4


async def test_idleness_earns_no_credit(rig: Rig) -> None:
    busy, late = levels(), levels()
    await rig.put(late)
    await rig.take()
    await rig.put(busy, 200)
    await rig.take(100)
    await rig.put(late, 100)
    taken = Counter(claim.levels for claim in await rig.take(20))
    assert abs(taken[late] - 10) <= 1


async def test_waiting_where_nobody_serves_earns_no_credit(rig: Rig) -> None:
    busy, parked = levels(), levels()
    await rig.put(parked, labels=("quantum",))
    await rig.put(busy, 200)
    await rig.take(100)
    await rig.put(parked, 100)
    taken = Counter(claim.levels for claim in await rig.take(20))
    assert abs(taken[parked] - 10) <= 1


async def test_spreading_over_labels_earns_no_more_turns(rig: Rig) -> None:
    spread, plain = levels(), levels()
    kinds = ("a", "b", "c", "d")
    for kind in kinds:
        await rig.put(spread, 50, labels=(kind,))
    await rig.put(plain, 50)
    taken = Counter(claim.levels for claim in await rig.take(40, labels=kinds))
    assert abs(taken[spread] - 20) <= 1


async def test_second_levels_of_different_labels_take_turns(rig: Rig) -> None:
    first = uuid4()
    one, two = levels(first), levels(first)
    await rig.put(one, 20, labels=("a",))
    await rig.put(two, 20, labels=("b",))
    taken = Counter(claim.levels for claim in await rig.take(10, labels=("a", "b")))
    assert taken == {one: 5, two: 5}


async def test_what_nobody_serves_blocks_nobody(rig: Rig) -> None:
    for _ in range(30):
        await rig.put(levels(), 3, labels=("gpu",))
    served = levels()
    await rig.put(served, 3)
    assert [claim.levels for claim in await rig.take(10)] == [served] * 3
    assert len(await rig.take(100, labels=("gpu", "more"))) == 90


async def test_below_one_leaf_unserved_entries_are_passed_over(rig: Rig) -> None:
    place = levels()
    await rig.put(place, 5, labels=("gpu",))
    (served,) = await rig.put(place)
    assert [claim.ticket.entry for claim in await rig.take(10)] == [served]


async def test_an_entry_wider_than_the_worker_blocks_nobody(rig: Rig) -> None:
    await rig.put(levels(), slots=8)
    await rig.put(levels(), 3)
    assert len(await rig.take(4, capacity=4)) == 3


async def test_the_turn_of_a_wide_entry_keeps_the_room_until_it_fits(rig: Rig) -> None:
    wide, narrow = levels(), levels()
    await rig.put(wide, slots=4)
    await rig.put(narrow, 30)
    first = await rig.take(3, capacity=4)
    assert {claim.levels for claim in first} <= {narrow}
    assert await rig.take(3, capacity=4) == []
    assert [claim.levels for claim in await rig.take(4, capacity=4)] == [wide]


async def test_what_was_really_used_corrects_the_turns(rig: Rig) -> None:
    greedy, modest = levels(), levels()
    await rig.put(greedy, 100)
    await rig.put(modest, 100)
    for claim in await rig.take(2):
        assert await rig.end(claim.ticket, used=21 if claim.levels == greedy else 1)
    taken = Counter(claim.levels for claim in await rig.take(20))
    assert taken[modest] >= 19


@pytest.mark.parametrize("weight", [1.0, 2.0])
async def test_worker_seconds_follow_the_weights_with_34_second_against_1_second_entries(
    rig: Rig, weight: float
) -> None:
    """Within 5 %, though the queue expects one second of both. Time is simulated."""
    slow, fast = levels(), levels()
    seconds = {slow: 34.0, fast: 1.0}
    await rig.share(slow[0], weight=weight)
    await rig.put(slow, 400)
    await rig.put(fast, 4000)
    used: Counter[tuple[UUID, UUID, UUID]] = Counter()
    running: list[tuple[float, int, object]] = []
    order, now, free, horizon = itertools.count(), 0.0, 8, 34.0 * 20
    while now < horizon:
        for claim in await rig.take(free, capacity=8):
            heapq.heappush(running, (now + seconds[claim.levels], next(order), claim))
            used[claim.levels] += int(min(seconds[claim.levels], horizon - now))
        now, free = running[0][0], 0
        while running and running[0][0] <= now:
            claim = heapq.heappop(running)[2]  # type: ignore[assignment]
            assert await rig.end(claim.ticket, used=seconds[claim.levels])
            free += 1
    share = used[slow] / used.total()
    assert share == pytest.approx(weight / (weight + 1), rel=0.05)
