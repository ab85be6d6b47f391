"""What a worker process has one of: it runs claims, many at once, and decides on those of the dead."""

import asyncio
from typing import Final

import structlog

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.attempt import Attempt
from tenantry.capabilities.sandboxes.service.ending import end_job, lost_end
from tenantry.capabilities.sandboxes.service.live_attempt import LiveAttempt
from tenantry.capabilities.sandboxes.service.queue import ESTIMATE_SECONDS, QUEUE
from tenantry.capabilities.sandboxes.service.workshop import Workshop
from tenantry.capabilities.sandboxes.types import SANDBOXES, JobStatus
from tenantry.engines.fairqueue.types import Claim, Lapsed, Levels, Ticket
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM, TenantScope, scoped
from tenantry.foundation.telemetry import JOBS_RUNNING

_NARROW_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class JobRunner:
    """`run` is called for each claim."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._attempts: dict[Ticket, Attempt] = {}
        self._looks: dict[Ticket, asyncio.Task[None]] = {}
        self._again: set[Ticket] = set()

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        return tuple(self._attempts)

    def kill(self, ticket: Ticket, reason: str) -> None:
        """Kill a running job; with `LEASE_LOST` its result is another's to report and is discarded."""
        if attempt := self._attempts.get(ticket):
            attempt.kill(reason)

    def narrow(self) -> None:
        """Have every running job connect to no more than it may now; none waits for another's, whose place is away."""
        self._again |= self._attempts.keys()
        for ticket in self._attempts.keys() - self._looks.keys():
            self._looks[ticket] = asyncio.create_task(self._look(ticket), name="narrowing")

    async def _look(self, ticket: Ticket) -> None:
        """Look at what one may, and once more where that was asked for meanwhile."""
        try:
            while ticket in self._again and (attempt := self._attempts.get(ticket)):
                self._again.discard(ticket)
                async with asyncio.timeout(_NARROW_SECONDS):
                    await attempt.narrow()
        except Exception as error:  # noqa: BLE001 - the next look, a second later, begins anew
            code = error.code if isinstance(error, TenantryError) else type(error).__name__
            _log.warning("job.not_narrowed", job=format_id(Prefix.JOB, ticket.entry), code=code)
        finally:
            self._again.discard(ticket)
            del self._looks[ticket]

    async def run(self, claim: Claim) -> bool:
        """Run one claim to its end; False when it was not begun and is to be given back.

        What goes wrong is reported on the job; nothing is raised but cancellation.
        """
        scope = self._scope(claim.levels)
        attempt = self._attempts[claim.ticket] = self._attempt(claim, scope)
        JOBS_RUNNING.inc()
        try:
            with scoped(scope):
                return await attempt.live()
        except Exception as error:  # noqa: BLE001 - the job is still the queue's: its lease lapses, the sweep decides
            code = error.code if isinstance(error, TenantryError) else type(error).__name__
            _log.warning("job.interrupted", job=format_id(Prefix.JOB, claim.ticket.entry), code=code)
        finally:
            JOBS_RUNNING.dec()
            del self._attempts[claim.ticket]
        return True

    def _attempt(self, claim: Claim, scope: TenantScope) -> Attempt:
        room = self._workshop.room
        if room is not None and SANDBOXES in claim.labels:
            return LiveAttempt(self._workshop, claim, scope, room=room)
        return Attempt(self._workshop, claim, scope)

    async def settle_lapsed(self, lapsed: Lapsed) -> bool:
        """Report a job as lost if its attempt had begun; False when it had not, so that it may run again.

        The report ends the claim in the same transaction: whichever of this and the worker's own comes first counts.
        """
        async with self._workshop.cell.session(self._scope(lapsed.levels), lifecycle=True) as session:
            job = await repository.find_job(session, lapsed.ticket.entry, lock=True)
            if job is not None and job.status is JobStatus.QUEUED:
                return False
            used = 0.0
            if job is not None and job.started_at is not None:  # of one that has ended already the queue is yet to hear
                used = max(0.0, ((job.finished_at or self._workshop.clock.now()) - job.started_at).total_seconds())
            if job is not None and job.sandbox_id is not None:
                used = min(used, ESTIMATE_SECONDS)  # living is free, and what it worked nobody knows
            claim = await session.connection()
            mine = await QUEUE.finish(claim, ticket=lapsed.ticket, used_slot_seconds=used)
            if mine and job is not None and not job.status.ended:
                workshop = self._workshop
                await end_job(session, job, lost_end(job), settings=workshop.settings, clock=workshop.clock)
        await self._workshop.relay.finish(lapsed, used_slot_seconds=used)
        return True

    def _scope(self, levels: Levels) -> TenantScope:
        tenant_id, workspace_id, _ = levels
        return TenantScope(
            tenant_id=tenant_id, region=self._workshop.cell.region, actor=SYSTEM, workspace_id=workspace_id
        )
