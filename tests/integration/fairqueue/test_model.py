"""Whatever happens in whatever order, an entry has one holder and the tree counts what is there."""

import asyncio
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.engines.fairqueue import Cancellation, Claim, Levels

from .conftest import Rig

HOUSES = [uuid4() for _ in range(3)]
ROOMS = [uuid4() for _ in range(2)]
LABELS: list[tuple[str, ...]] = [(), ("a",), ("b",), ("a", "b")]
WORKERS = [uuid4(), uuid4()]

index = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(0, 1), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.just("take"), st.integers(0, 1), st.integers(0, 3), st.integers(1, 4), st.sampled_from([0, 60])),
        st.tuples(st.just("share"), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.sampled_from(["end", "release", "requeue", "drop", "cancel"]), index, index, index, index),
    ),
    max_size=40,
)


class Model:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.entries: dict[UUID, UUID] = {}
        self.waiting: set[UUID] = set()
        self.held: dict[UUID, tuple[Claim, UUID, bool]] = {}
        self.past: list[Claim] = []
        self.caps: dict[tuple[UUID, ...], int] = {}

    async def put(self, house: int, room: int, labels: int, slots: int) -> None:
        place = (HOUSES[house], ROOMS[room], ROOMS[room])
        for entry in await self.rig.put(place, slots=slots, labels=LABELS[labels]):
            self.entries[entry] = place[0]
            self.waiting.add(entry)

    async def take(self, worker: int, labels: int, free: int, lease: int) -> None:
        claims = await self.rig.take(free, worker=WORKERS[worker], labels=LABELS[labels], capacity=4, lease=lease)
        assert sum(claim.slots for claim in claims) <= free
        for claim in claims:
            assert claim.ticket.entry in self.waiting, "waiting, and nobody else's"
            assert set(claim.labels) <= set(LABELS[labels])
            self.waiting.remove(claim.ticket.entry)
            self.held[claim.ticket.entry] = (claim, WORKERS[worker], lease == 0)
            self.past.append(claim)
        self.check_caps([claim.levels for claim in claims])

    async def share(self, house: int, room: int, most: int, weight: int) -> None:
        """Room 2 is the house itself; a cap of 3 is none."""
        keys = (HOUSES[house], ROOMS[room]) if room < 2 else (HOUSES[house],)
        await self.rig.share(*keys, weight=weight, most=None if most == 3 else most)
        self.caps.pop(keys, None)
        if most < 3:
            self.caps[keys] = most

    def check_caps(self, started: list[Levels]) -> None:
        for keys in {levels[:depth] for levels in started for depth in (1, 2)}:
            running = sum(claim.levels[: len(keys)] == keys for claim, _, _ in self.held.values())
            assert running <= self.caps.get(keys, running)

    async def finishing(self, verb: str, number: int) -> None:
        if not self.past:
            return
        claim = self.past[number % len(self.past)]
        entry = claim.ticket.entry
        present = self.held.get(entry)
        valid = present is not None and present[0].ticket == claim.ticket
        lapsed = valid and present is not None and present[2]
        worker = present[1] if present else WORKERS[0]
        queue, link = self.rig.queue, self.rig.dispatcher
        if verb == "end":
            done, wanted = await self.rig.end(claim.ticket, used=number), valid
        elif verb == "release":
            done, wanted = await queue.release(link, worker=worker, ticket=claim.ticket), valid
        elif verb == "requeue":
            done, wanted = await queue.requeue(link, ticket=claim.ticket), lapsed
        else:
            done, wanted = await queue.drop(link, ticket=claim.ticket), lapsed
        assert done == wanted
        if done:
            del self.held[entry]
            if verb in {"release", "requeue"} and entry in self.entries:
                self.waiting.add(entry)

    async def cancel(self, number: int) -> None:
        if not self.waiting:
            return
        entry = sorted(self.waiting)[number % len(self.waiting)]
        assert await self.rig.cancel(self.entries[entry], entry) is Cancellation.REMOVED
        self.waiting.remove(entry)

    async def check(self) -> None:
        await self.rig.assert_counts_agree()
        for keys in self.caps:
            await self.rig.share(*keys)
        everything = await self.rig.take(1000, labels=("a", "b"), capacity=4)
        assert {claim.ticket.entry for claim in everything} == self.waiting
        await self.rig.assert_holds_agree()
        await self.rig.superuser.execute(
            self.rig.fill(
                "TRUNCATE __schema__.entries, __schema__.fronts, __schema__.nodes, __schema__.lanes, __schema__.shares"
            )
        )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_any_history_keeps_one_holder_and_true_counts(rig: Rig, steps: list[tuple[object, ...]]) -> None:
    model = Model(rig)
    for verb, a, b, c, d in steps:
        numbers = [int(str(x)) for x in (a, b, c, d)]
        if verb == "put":
            await model.put(*numbers)
        elif verb == "take":
            await model.take(*numbers)
        elif verb == "share":
            await model.share(*numbers)
        elif verb == "cancel":
            await model.cancel(numbers[0])
        else:
            await model.finishing(str(verb), numbers[0])
    await model.check()


async def test_concurrent_writers_and_claimers_lose_and_double_nothing(rig: Rig) -> None:
    writers = [await rig.connect("queue_application") for _ in range(4)]
    claimers = [await rig.connect("queue_dispatcher") for _ in range(4)]
    put: list[UUID] = []
    got: list[UUID] = []

    async def write(link: object, house: UUID) -> None:
        await link.execute("SELECT set_config('queue.first', $1, false)", str(house))  # type: ignore[attr-defined]
        for _ in range(40):
            put.append(entry := uuid4())
            await rig.queue.enqueue(link, levels=(house, house, house), entry=entry, estimate_seconds=1)  # type: ignore[arg-type]

    async def claim(link: object) -> None:
        while len(got) < 160:
            claims = await rig.queue.claim(
                link,  # type: ignore[arg-type]
                worker=uuid4(),
                free_slots=3,
                capacity=3,
                labels=(),
                lease_seconds=60,
            )
            got.extend(claim.ticket.entry for claim in claims)

    await asyncio.gather(*(write(link, uuid4()) for link in writers), *(claim(link) for link in claimers))
    assert sorted(got) == sorted(put)
    await rig.assert_counts_agree()
