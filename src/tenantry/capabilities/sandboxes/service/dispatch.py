"""Claims jobs for one worker, keeps their leases, sweeps what died. One for each worker process.

A worker that cannot renew kills its sandboxes before the lease ends, by its own monotonic clock: what another may
then take is not running any more. That watch asks nobody and waits for nobody, the database least of all.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.sandboxes.service.ending import LEASE_LOST, WORKER_STOPPED
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.service.runner import JobRunner
from tenantry.capabilities.sandboxes.types import CANCELLATION, JOBS, LANES, NARROWING
from tenantry.engines.fairqueue.types import Claim, Lapsed, Ticket
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.errors import TenantryError, Unavailable
from tenantry.foundation.settings import JobSettings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_LOOK_SECONDS: Final = 1.0
"""A look at the queue without news mends what was lost."""
_TOGETHER_SECONDS: Final = 0.005
"""Slots that come free within this are filled by one claim."""
_SWEEP_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 10.0
_COLLECT_SECONDS: Final = 300.0
_IDLE_SECONDS: Final = 3600.0
_STOP_SECONDS: Final = 10.0
_SAFETY: Final = 0.25
"""Share of a lease before whose end a worker that cannot renew kills."""

_log = structlog.get_logger(__name__)


class Dispatcher:
    """`pool` is the dispatcher role's: it sees the queue of all tenants, ids and numbers only.

    `worker` is the id of this worker; under an id that a dead process had, what that one claimed lapses at once.
    `boot` names this process: what dead ones held in memory goes. `lane` says of what it claims, `slots` how many at
    once: as the settings have it, unless told.
    """

    def __init__(
        self,
        *,
        pool: "Pool",
        runner: JobRunner,
        worker: UUID,
        boot: UUID,
        settings: JobSettings,
        clock: Clock,
        lane: str = JOBS,
        slots: int | None = None,
    ) -> None:
        self._pool = pool
        self._runner = runner
        self._worker = worker
        self._settings = settings
        self._lane = lane
        self._labels = (*settings.labels, lane)
        self._slots = settings.slots if slots is None else slots
        self._clock = clock
        self._boot = boot
        self._wake = asyncio.Event()
        self._upkeep = asyncio.Event()
        self._lapsing = asyncio.Event()
        self._look_for_cancelled = self._look_for_narrowed = False
        self._queue_is_empty = False
        self._jobs: dict[Ticket, asyncio.Task[None]] = {}
        self._renewed_at: dict[Ticket, float] = {}
        self._loops: list[asyncio.Task[None]] = []

    def wake(self, payload: str = "") -> None:
        """Look at the queue now: something was enqueued, or is to be cancelled or narrowed where `payload` says so.

        What was enqueued in another lane is left to those that serve it: one claim at a time goes through the queue.
        """
        if payload in LANES and payload != self._lane:
            return
        self._look_for_cancelled |= payload == CANCELLATION
        self._look_for_narrowed |= payload == NARROWING
        self._wake.set()

    def recover(self) -> None:
        """Look at everything now: news may have been missed."""
        self._upkeep.set()
        self._lapsing.set()
        self._look_for_narrowed = True
        self.wake(CANCELLATION)

    async def start(self) -> None:
        """Report for work, decide on what a predecessor of this id left, and begin."""
        with database_errors():
            await self._beat()
            await self._sweep()
        third = self._settings.lease_seconds / 3
        self._loops = [
            asyncio.create_task(self._repeat(self._sweep, self._lapsing, _SWEEP_SECONDS), name="sweep"),
            asyncio.create_task(self._repeat(self._work, self._wake, _LOOK_SECONDS), name="claims"),
            asyncio.create_task(self._repeat(self._keep_up, self._upkeep, min(_SWEEP_SECONDS, third)), name="upkeep"),
            asyncio.create_task(self._repeat(self._collect, asyncio.Event(), _COLLECT_SECONDS), name="collect"),
            asyncio.create_task(self._watch_leases(), name="leases"),
        ]

    async def stop(self) -> None:
        """Kill what runs, have it reported, and leave; what was claimed but not begun is another's at once."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for ticket in self._runner.tickets:
            self._runner.kill(ticket, WORKER_STOPPED)
        if jobs := list(self._jobs.values()):
            _, unfinished = await asyncio.wait(jobs, timeout=min(_STOP_SECONDS, self._settings.lease_seconds))
            for job in unfinished:
                job.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        with contextlib.suppress(TenantryError), database_errors():
            await QUEUE.leave(self._pool, worker=self._worker)

    async def _repeat(self, work: Callable[[], Awaitable[None]], wake: asyncio.Event, seconds: float) -> None:
        """Do `work` whenever woken and each `seconds`; what it raises does not end it."""
        while True:
            wake.clear()
            try:
                with database_errors():
                    await work()
            except TenantryError as error:
                _log.warning("dispatcher.interrupted", code=error.code)
            except Exception as error:  # noqa: BLE001 - a loop goes on
                _log.exception("dispatcher.fault", kind=type(error).__name__)
            try:
                async with asyncio.timeout(seconds):
                    await wake.wait()
            except TimeoutError:
                self._look_for_cancelled = self._look_for_narrowed = True

    async def _work(self) -> None:
        await self._claim()
        if self._look_for_cancelled and self._jobs:
            self._look_for_cancelled = False
            for ticket in await QUEUE.cancelled(self._pool, worker=self._worker):
                self._runner.kill(ticket, "cancelled")
        if self._look_for_narrowed:
            self._look_for_narrowed = False
            self._runner.narrow()

    async def _claim(self) -> None:
        free = self._slots - len(self._jobs)
        if free <= 0:
            self._queue_is_empty = False
            return
        asked = self._clock.monotonic()
        claims = await QUEUE.claim(
            self._pool,
            worker=self._worker,
            free_slots=free,
            capacity=self._slots,
            labels=self._labels,
            lease_seconds=self._settings.lease_seconds,
        )
        self._queue_is_empty = len(claims) < free
        for claim in claims:
            self._renewed_at[claim.ticket] = asked
            self._jobs[claim.ticket] = asyncio.create_task(self._run(claim))

    async def _run(self, claim: Claim) -> None:
        try:
            if not await self._runner.run(claim):
                with contextlib.suppress(TenantryError), database_errors():
                    await QUEUE.release(self._pool, worker=self._worker, ticket=claim.ticket)
        finally:
            self._jobs.pop(claim.ticket, None)
            self._renewed_at.pop(claim.ticket, None)
            # Where the last claim left slots free there was nothing more, and what came since has told.
            if not self._queue_is_empty:
                asyncio.get_running_loop().call_later(_TOGETHER_SECONDS, self._wake.set)

    async def _keep_up(self) -> None:
        await self._beat()
        await self._renew()

    async def _beat(self) -> None:
        await QUEUE.heartbeat(
            self._pool,
            worker=self._worker,
            boot=self._boot,
            labels=self._labels,
            slots=self._slots,
        )

    async def _renew(self) -> None:
        tickets = list(self._jobs)
        if not tickets:
            return
        asked = self._clock.monotonic()
        lease = self._settings.lease_seconds
        renewal = await QUEUE.renew(self._pool, worker=self._worker, tickets=tickets, lease_seconds=lease)
        for ticket in renewal.extended & self._renewed_at.keys():
            self._renewed_at[ticket] = asked
        # One that ended while this was asked is in neither set, and not running any more.
        for ticket in set(tickets) - renewal.extended - renewal.unchanged:
            self._runner.kill(ticket, LEASE_LOST)

    async def _sweep(self) -> None:
        """Decide on claims whose worker has died: not begun goes back, begun is reported lost.

        A tenant of which one cannot be decided on, as its place is away, rests until the next time; so does one of
        which one is still there after it was, so that this ends whatever becomes of them.
        """
        while await QUEUE.catch_up(self._pool):
            pass
        resting: set[UUID] = set()
        decided: set[Ticket] = set()
        while found := await QUEUE.sweep(self._pool, without=resting):
            resting |= {lapsed.levels[0] for lapsed in found if lapsed.ticket in decided}
            decided |= {lapsed.ticket for lapsed in found}
            by_tenant: dict[UUID, list[Lapsed]] = {}
            for lapsed in found:
                if lapsed.levels[0] not in resting:
                    by_tenant.setdefault(lapsed.levels[0], []).append(lapsed)
            settled = await asyncio.gather(*(self._settle(each) for each in by_tenant.values()))
            resting |= {tenant for tenant, done in zip(by_tenant, settled, strict=True) if not done}

    async def _settle(self, of_one: Sequence[Lapsed]) -> bool:
        """Decide on claims of one tenant; False once one cannot be."""
        for lapsed in of_one:
            try:
                async with asyncio.timeout(_SETTLE_SECONDS):
                    settled = await self._runner.settle_lapsed(lapsed)
            except (Unavailable, TimeoutError):
                _log.warning("dispatcher.tenant_rests", job=lapsed.ticket.entry.hex)
                return False
            except Exception as error:  # noqa: BLE001 - one that cannot be settled must not keep the others
                _log.exception("dispatcher.unsettled", job=lapsed.ticket.entry.hex, kind=type(error).__name__)
                return False
            if not settled and await QUEUE.requeue(self._pool, ticket=lapsed.ticket):
                self._wake.set()
        return True

    async def _collect(self) -> None:
        await QUEUE.collect(self._pool, idle_seconds=_IDLE_SECONDS)

    async def _watch_leases(self) -> None:
        lease = self._settings.lease_seconds
        while True:
            deadline = self._clock.monotonic() - lease * (1 - _SAFETY)
            for ticket, renewed in list(self._renewed_at.items()):
                if renewed < deadline:
                    self._runner.kill(ticket, LEASE_LOST)
            await asyncio.sleep(min(0.5, lease / 20))
