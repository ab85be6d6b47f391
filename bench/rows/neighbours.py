"""Row 13: what one tenant's flood does to another's wait, and whether worker-seconds follow the weights.

The queue and its PostgreSQL are real, every claim and finish is a statement of its own. The workers are not: a job is a
length of virtual time, and the clock jumps from one event to the next. So waits are those that the order of the claims
makes, not what the machine takes for a claim (row 14b), and hours pass in seconds.
"""

import asyncio
import heapq
import itertools
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import asyncpg

from bench.fairqueue_claim import COLUMNS, NAMES, prepare
from bench.installation import Installation
from bench.plot import plot
from bench.report import Bar, Result, Series
from tenantry.engines.fairqueue import Claim, FairQueue
from tenantry.foundation.database.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from bench.fairqueue_claim import Link

SLOTS: Final = 8
_BURST, _EVERY = 24, 20.0
"""B: so many jobs of a second at once, every so many seconds; A sends a hundred times as many at each."""


@dataclass
class Floor:
    """Simulated workers at a real queue; `waits` and `used` (slot-seconds) by first-level key."""

    superuser: "Link"
    application: "Link"
    dispatcher: "Link"
    slots: int = SLOTS
    now: float = 0.0
    waits: dict[UUID, list[float]] = field(default_factory=dict)
    used: defaultdict[UUID, float] = field(default_factory=lambda: defaultdict(float))
    queue: FairQueue = field(default_factory=lambda: FairQueue(NAMES))
    _put_at: dict[UUID, float] = field(default_factory=dict)
    _running: list[tuple[float, int, Claim, float]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def empty(self, *, slots: int = SLOTS) -> None:
        tables = ", ".join(f"queue.{table}" for table in ("entries", "shares", "fronts", "nodes", "lanes"))
        await self.superuser.execute(f"TRUNCATE {tables}")
        self.slots, self.now = slots, 0.0
        self.waits, self.used = {}, defaultdict(float)
        self._put_at, self._running = {}, []

    async def share(self, first: UUID, *, weight: float = 1.0, most_running: int | None = None) -> None:
        await self.application.execute("SELECT set_config('queue.first', $1, false)", str(first))
        await self.queue.set_share(self.application, keys=(first,), weight=weight, most_running=most_running)

    async def put(self, first: UUID, count: int) -> None:
        """Enqueue all at once; the queue expects a second of each."""
        rows = [(first, first, first, uuid4(), 1.0) for _ in range(count)]
        self._put_at |= {row[3]: self.now for row in rows}
        await self.superuser.copy_records_to_table("entries", schema_name="queue", records=rows, columns=COLUMNS)

    async def run_until(self, end: float, seconds: Callable[[UUID], float]) -> None:
        """Claim whenever a slot is free, and end what is over, until that time."""
        while True:
            await self._fill(seconds)
            if not self._running or self._running[0][0] > end:
                self.now = end
                return
            self.now = self._running[0][0]
            while self._running and self._running[0][0] <= self.now:
                _, _, claim, takes = heapq.heappop(self._running)
                self.used[claim.ticket.first] += takes
                await self.application.execute("SELECT set_config('queue.first', $1, false)", str(claim.ticket.first))
                assert await self.queue.finish(self.application, ticket=claim.ticket, used_slot_seconds=takes)

    async def _fill(self, seconds: Callable[[UUID], float]) -> None:
        free = self.slots - len(self._running)
        if not free:
            return
        for claim in await self.queue.claim(
            self.dispatcher, worker=_WORKER, free_slots=free, capacity=self.slots, labels=(), lease_seconds=1e6
        ):
            takes = seconds(claim.ticket.first)
            heapq.heappush(self._running, (self.now + takes, next(self._numbers), claim, takes))
            self.waits.setdefault(claim.ticket.first, []).append(self.now - self._put_at.pop(claim.ticket.entry))

    def used_now(self, first: UUID) -> float:
        """Slot-seconds up to now, of what still runs its part."""
        running = sum(
            takes - (ends - self.now) for ends, _, claim, takes in self._running if claim.ticket.first == first
        )
        return self.used[first] + running


_WORKER: Final = uuid4()


@asynccontextmanager
async def open_floor() -> AsyncIterator[Floor]:
    with tempfile.TemporaryDirectory(prefix="fairqueue-bench-") as home:
        server = EmbeddedPostgres(Path(home))
        await asyncio.to_thread(server.start)
        try:
            parts = await prepare(server)
            superuser = await asyncpg.connect(**asdict(server.superuser))
            links = [await asyncpg.connect(**asdict(parts[role])) for role in ("application", "dispatcher")]
            yield Floor(superuser, *links)
            for link in (superuser, *links):
                await link.close()
        finally:
            await asyncio.to_thread(server.purge)


async def waits_of_b(
    floor: Floor, name: str, *, bursts: int, slots: int = SLOTS, flood: bool = True, cap: int | None = None
) -> Series:
    """B's waits, the first burst apart: A's flood has just begun."""
    begun = time.monotonic()
    await floor.empty(slots=slots)
    loud, quiet, chance = uuid4(), uuid4(), random.Random(1)  # noqa: S311 - load, no secret
    if cap is not None:
        await floor.share(loud, most_running=cap)
    for number in range(bursts):
        if flood:
            await floor.put(loud, 100 * _BURST)
        await floor.put(quiet, _BURST)
        await floor.run_until((number + 1) * _EVERY, lambda _: chance.uniform(0.5, 1.5))
    return Series(name, floor.waits[quiet][_BURST:], seconds=time.monotonic() - begun, unit="s (virtual)")


async def times_within_a_share(floor: Floor, name: str, *, seconds: float, flood: bool) -> Series:
    """B sends a job now and then, a quarter of all slots' worth: how long from sending it to its end."""
    begun = time.monotonic()
    await floor.empty()
    loud, quiet, chance = uuid4(), uuid4(), random.Random(2)  # noqa: S311 - load, no secret
    lengths: list[float] = []

    def takes(first: UUID) -> float:
        length = chance.uniform(0.5, 1.5)
        if first == quiet:
            lengths.append(length)
        return length

    if flood:
        await floor.put(loud, int(100 * seconds * SLOTS / 4))
        await floor.run_until(_EVERY, takes)
    while floor.now < seconds:
        await floor.put(quiet, 1)
        await floor.run_until(floor.now + chance.expovariate(SLOTS / 4), takes)
    waits = floor.waits[quiet]
    return Series(
        name,
        [wait + length for wait, length in zip(waits, lengths, strict=True)],
        unit="s (virtual)",
        seconds=time.monotonic() - begun,
    )


async def shares(
    floor: Floor, *, weight: float, minutes: float, slow_seconds: float = 34.0
) -> tuple[float, list[tuple[float, float]], list[tuple[float, float]]]:
    """Two tenants with more than enough work, jobs of 34 s and of 1 s; the part of the first, and both over time."""
    await floor.empty()
    slow, fast = uuid4(), uuid4()
    seconds = {slow: slow_seconds, fast: 1.0}
    await floor.share(slow, weight=weight)
    await floor.put(slow, int(minutes * 60 * SLOTS / slow_seconds) + SLOTS)
    await floor.put(fast, int(minutes * 60 * SLOTS) + SLOTS)
    over_time: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    part = 0.0
    for step in range(1, int(minutes * 6) + 1):
        await floor.run_until(step * 10.0, seconds.__getitem__)
        used = [floor.used_now(key) for key in (slow, fast)]
        part = used[0] / sum(used)
        for line, value in zip(over_time, (part, 1 - part), strict=True):
            line.append((step / 6, value))
    return part, *over_time


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - it has its own server
    result = Result("13", "noisy neighbour: A sends 100 times as much as B — against B alone; workers are simulated")
    bursts, minutes = (3, 8.0) if quick else (16, 60.0)
    async with open_floor() as floor:
        alone = await waits_of_b(floor, "B alone, 8 slots", bursts=bursts, flood=False)
        half = await waits_of_b(floor, "B alone, 4 slots: its share beside A", bursts=bursts, slots=4, flood=False)
        equal = await waits_of_b(floor, "B beside A's flood, equal weights", bursts=bursts)
        capped = await waits_of_b(floor, "B beside A's flood, A at a cap of 2", bursts=bursts, cap=2)
        within = [
            await times_within_a_share(
                floor, f"B within its share{what}, sent to ended", seconds=minutes * 6, flood=flood
            )
            for what, flood in ((" alone", False), (" beside A's flood", True))
        ]
        result.series += [*within, alone, half, equal, capped]
        for name, ours, theirs in (
            ("p95 of B within its share, sent to ended, to B alone", within[1], within[0]),
            ("B's p95 wait, A capped at a quarter, to B alone", capped, alone),
            ("B's p95 wait, equal weights, to B alone on its half", equal, half),
        ):
            result.bars.append(Bar(name, ours.percentile(0.95) / theirs.percentile(0.95), 1.5))
        for weight in (1.0, 2.0):
            part, slow, fast = await shares(floor, weight=weight, minutes=minutes)
            ideal = weight / (weight + 1)
            name = f"worker-seconds off their part, weights {weight:g}:1, 34 s against 1 s jobs"
            result.bars.append(Bar(name, abs(part / ideal - 1) * 100, 5, unit=" %"))
            if weight == 1.0:
                result.plots["shares"] = plot(
                    f"Worker-seconds of two tenants of equal weight ({SLOTS} slots)",
                    lines={"A: jobs of 34 s": slow, "B: jobs of 1 s": fast},
                    x="minutes (virtual)",
                    y="part of all worker-seconds so far",
                    level=("equal parts", 0.5),
                )
    result.remarks += _remarks(alone, equal, quick=quick)
    return [result]


def _remarks(alone: Series, equal: Series, *, quick: bool) -> list[str]:
    ratio = equal.percentile(0.95) / alone.percentile(0.95)
    told: list[Any] = [
        f"B sends {_BURST} jobs of 0.5-1.5 s every {_EVERY:g} s, A {100 * _BURST}; the queue expects 1 s of every job",
        f"equal weights, no cap, to B alone on all slots: {ratio:.2f}x; twice is fair, for half of the slots is A's",
        "time is virtual: the clock jumps to the next event; the queue and its statements are real",
    ]
    return [*told, *(["--quick: too short for the shares to even out"] if quick else [])]
