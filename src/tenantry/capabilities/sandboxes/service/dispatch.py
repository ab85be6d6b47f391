"""Claims jobs for one worker, keeps their leases, sweeps what died. One for each worker process.

A worker that cannot renew kills its sandboxes before the lease ends, by its own monotonic clock: what another may
then take is not running any more.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.service.runner import LEASE_LOST, JobRunner
from tenantry.engines.fairqueue.types import Claim, Ticket
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import new_id
from tenantry.foundation.settings import JobSettings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_SWEEP_SECONDS: Final = 1.0
_COLLECT_EVERY: Final = 300
_IDLE_SECONDS: Final = 3600.0
_SAFETY: Final = 0.25
"""Share of a lease before whose end a worker that cannot renew kills."""

_log = structlog.get_logger(__name__)


class Dispatcher:
    """`pool` is the dispatcher role's: it sees the queue of all tenants, ids and numbers only."""

    def __init__(self, *, pool: "Pool", runner: JobRunner, settings: JobSettings, clock: Clock) -> None:
        self._pool = pool
        self._runner = runner
        self._settings = settings
        self._clock = clock
        self._worker = new_id()
        self._boot = new_id()
        self._wake = asyncio.Event()
        self._jobs: dict[Ticket, asyncio.Task[None]] = {}
        self._renewed_at: dict[Ticket, float] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    def wake(self, _payload: str = "") -> None:
        """Look at the queue now: something was enqueued, cancelled, or news may have been missed."""
        self._wake.set()

    async def start(self) -> None:
        await self._beat()
        self._loops = [
            asyncio.create_task(self._claim_loop(), name="claims"),
            asyncio.create_task(self._lease_loop(), name="leases"),
        ]

    async def stop(self) -> None:
        """Kill what runs, report it as cancelled by the worker's stop, and leave."""
        self._stopping = True
        for ticket in self._runner.tickets:
            self._runner.kill(ticket, "worker_stopped")
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)
        for loop in self._loops:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
        with contextlib.suppress(Unavailable), database_errors():
            await QUEUE.leave(self._pool, worker=self._worker)

    async def _claim_loop(self) -> None:
        while not self._stopping:
            try:
                with database_errors():
                    await self._claim()
                    await self._cancel()
            except Unavailable as error:
                _log.warning("queue.unavailable", code=error.code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=_SWEEP_SECONDS)
            self._wake.clear()

    async def _claim(self) -> None:
        while (free := self._settings.slots - len(self._jobs)) > 0 and not self._stopping:
            asked = self._clock.monotonic()
            claims = await QUEUE.claim(
                self._pool,
                worker=self._worker,
                free_slots=free,
                capacity=self._settings.slots,
                labels=self._settings.labels,
                lease_seconds=self._settings.lease_seconds,
            )
            for claim in claims:
                self._renewed_at[claim.ticket] = asked
                self._jobs[claim.ticket] = asyncio.create_task(self._run(claim))
            if not claims:
                return

    async def _run(self, claim: Claim) -> None:
        try:
            await self._runner.run(claim)
        finally:
            self._jobs.pop(claim.ticket, None)
            self._renewed_at.pop(claim.ticket, None)
            self._wake.set()

    async def _cancel(self) -> None:
        if self._jobs:
            for ticket in await QUEUE.cancelled(self._pool, worker=self._worker):
                self._runner.kill(ticket, "cancelled")

    async def _lease_loop(self) -> None:
        rounds = 0
        while True:
            rounds += 1
            try:
                with database_errors():
                    await self._beat()
                    await self._renew()
                    await self._sweep()
                    if rounds % _COLLECT_EVERY == 0:
                        await QUEUE.collect(self._pool, idle_seconds=_IDLE_SECONDS)
            except Unavailable as error:
                _log.warning("leases.unavailable", code=error.code)
            self._kill_unrenewed()
            await asyncio.sleep(min(_SWEEP_SECONDS, self._settings.lease_seconds / 5))

    async def _beat(self) -> None:
        await QUEUE.heartbeat(
            self._pool,
            worker=self._worker,
            boot=self._boot,
            labels=self._settings.labels,
            slots=self._settings.slots,
        )

    async def _renew(self) -> None:
        tickets = list(self._jobs)
        if not tickets:
            return
        asked = self._clock.monotonic()
        lease = self._settings.lease_seconds
        renewal = await QUEUE.renew(self._pool, worker=self._worker, tickets=tickets, lease_seconds=lease)
        for ticket in renewal.extended:
            if ticket in self._renewed_at:
                self._renewed_at[ticket] = asked
        for ticket in set(tickets) - renewal.extended - renewal.unchanged:
            if ticket in self._jobs:
                self._runner.kill(ticket, LEASE_LOST)

    def _kill_unrenewed(self) -> None:
        deadline = self._clock.monotonic() - self._settings.lease_seconds * (1 - _SAFETY)
        for ticket, renewed in list(self._renewed_at.items()):
            if renewed < deadline:
                self._runner.kill(ticket, LEASE_LOST)

    async def _sweep(self) -> None:
        """Decide on claims whose worker has died: not started goes back, started is reported lost."""
        for lapsed in await QUEUE.sweep(self._pool):
            if await self._runner.report_lost(lapsed.levels, lapsed.ticket):
                await QUEUE.requeue(self._pool, ticket=lapsed.ticket)
            else:
                await QUEUE.drop(self._pool, ticket=lapsed.ticket)

    @property
    def worker_id(self) -> UUID:
        return self._worker
