"""Sends what streams have to send: claim and commit, send, move the cursor and commit. At least once, in order.

The cursor moves only after the sink has confirmed, under the epoch of the claim: what a crash leaves is sent again when
its lease ends, and whoever has lost the lease moves nothing. A turn ends after some batches, so that others come next.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import NotTakenError
from tenantry.capabilities.audit.ports import Addresses, Sink
from tenantry.capabilities.audit.service.checkpoints import Notary
from tenantry.capabilities.audit.service.documents import cloud_document, written
from tenantry.capabilities.audit.service.erasing import attest_erasure
from tenantry.capabilities.audit.service.events import AuditService
from tenantry.capabilities.audit.service.ocsf import ocsf_document
from tenantry.capabilities.audit.service.streams import TargetSeals, record
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.capabilities.audit.types.streams import (
    AuditStream,
    Batch,
    Claim,
    DueStream,
    StreamFormat,
    StreamKind,
    StreamStatus,
    Target,
)
from tenantry.foundation import outbox
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.kit import cloud_events

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

SEND_SECONDS: Final = 30.0
PAUSED_TOPIC: Final = "audit_stream.paused"
"""News of a stream that nobody has asked to pause."""
PER_TENANT: Final = 4
_LEASE: Final = timedelta(seconds=120)
_BATCH_EVENTS: Final = 200
_BATCH_BYTES: Final = 1 << 20
_TURN_BATCHES: Final = 16
_TURN_SECONDS: Final = 10.0
"""After so many batches, or so long, others come first."""
_MOST_FAILING: Final = 16
"""Streams whose last attempt has failed, at once: of what may run, the rest is for those that do not hang."""
_FIRST_RETRY_SECONDS: Final = 5.0
_MOST_RETRY_SECONDS: Final = 3600.0
_TOLD_AT: Final = 3
"""The attempt whose failure stands in the trail; those around it stand in the stream."""
_EVERYTHING: Final = AuditFilter()
_SHAPES: Final[Mapping[StreamFormat, tuple[Callable[[AuditEvent], dict[str, Any]], str]]] = {
    StreamFormat.CLOUDEVENTS: (cloud_document, cloud_events.BATCH),
    StreamFormat.OCSF: (ocsf_document, "application/json"),
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Streaming:
    """Of one cell. `sinks` by kind. A stream that has failed for `patience` is paused."""

    cell: Cell
    sinks: Mapping[StreamKind, Sink]
    addresses: Addresses
    seals: TargetSeals
    patience: timedelta
    clock: Clock

    async def send(self, due: DueStream) -> bool:
        """Give a stream its turn; False when it was not to be had: another's, paused, or with nothing to send.

        Raises Denied or Unavailable for a tenant that is suspended, moving or away: nothing is sent then.
        """
        now = self.clock.now()
        async with self._session(due.tenant_id) as session:
            claim = await repository.claim_stream(session, due.stream_id, now=now, until=now + _LEASE)
        if claim is None:
            return False
        ends_at = self.clock.monotonic() + _TURN_SECONDS
        position = claim.stream.position
        for left in range(_TURN_BATCHES, 0, -1):
            reached = await self._send_next(due.tenant_id, claim, position, ends_at=ends_at if left > 1 else 0.0)
            if reached is None:
                break
            position = reached
        return True

    async def _send_next(self, tenant_id: UUID, claim: Claim, position: int, *, ends_at: float) -> int | None:
        """Send one batch and move the cursor; gives its new place, None where the turn is over."""
        held_until = self.clock.monotonic() + _LEASE.total_seconds()
        async with self._session(tenant_id) as session:
            batch, sent, more = await _batch_of(session, tenant_id, claim.stream, position)
        if batch is not None and batch.documents:
            try:
                await self._take(tenant_id, claim, batch, held_until=held_until)
            except NotTakenError as failure:
                await self._fail(tenant_id, claim, failure)
                return None
        again = more and self.clock.monotonic() < ends_at
        now = self.clock.now()
        async with self._session(tenant_id) as session:
            noted = await repository.note_sent(
                session,
                claim,
                position=batch.last if batch is not None else position,
                sent=sent,
                now=now,
                until=now + _LEASE if again else None,
            )
        return batch.last if batch is not None and again and noted else None

    async def _take(self, tenant_id: UUID, claim: Claim, batch: Batch, *, held_until: float) -> None:
        """Hand a batch over; raises NotTakenError."""
        stream, sink = claim.stream, self.sinks.get(claim.stream.kind)
        if sink is None:
            raise NotTakenError("not_configured")
        target: Target | None = None
        if claim.sealed is not None:
            try:
                target = await self.seals.open(claim.sealed, tenant_id=tenant_id, stream_id=stream.stream_id)
                # Once more: what was imported, or written before the rules were stricter, is no better for lying here.
                self.addresses.require(target.url)
            except TenantryError as error:
                raise NotTakenError(error.code, lasting=not isinstance(error, Unavailable)) from None
        if self.clock.monotonic() + SEND_SECONDS > held_until:
            raise NotTakenError("lease_short")
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await sink.take(stream, target, batch)
        except TimeoutError:
            raise NotTakenError("timed_out") from None

    async def _fail(self, tenant_id: UUID, claim: Claim, failure: NotTakenError) -> None:
        stream, now = claim.stream, self.clock.now()
        since = stream.failing_since or now
        pause = "refused" if failure.lasting else "failing" if now - since >= self.patience else None
        attempts = stream.attempts + 1
        _log.info("audit_stream.retry", stream=str(stream.stream_id), code=failure.code, attempts=attempts)
        async with self._session(tenant_id) as session:
            noted = await repository.note_failed(
                session, claim, error=failure.code, now=now, at=now + retry_after(attempts), paused_because=pause
            )
            if noted is None or (pause is None and attempts != _TOLD_AT):
                return
            audit = AuditService(session=session, clock=self.clock)
            details = {"error": failure.code, "attempts": attempts, "position": noted.position}
            await _record_failure(audit, noted, failure.code, details)
            if noted.status is StreamStatus.PAUSED:
                await record(audit, "audit_stream.paused", noted, {**details, "reason": pause})
                name = format_id(Prefix.AUDIT_STREAM, stream.stream_id)
                await outbox.publish(session, topic=PAUSED_TOPIC, payload={"stream_id": name, "error": failure.code})

    def _session(self, tenant_id: UUID) -> TenantSession:
        return self.cell.session(TenantScope(tenant_id=tenant_id, region=self.cell.region, actor=SYSTEM))


async def _record_failure(audit: AuditService, stream: AuditStream, code: str, details: Mapping[str, Any]) -> None:
    await audit.record(
        "audit_stream.failed",
        resource_type="audit_stream",
        resource_id=format_id(Prefix.AUDIT_STREAM, stream.stream_id),
        outcome=Outcome.ERROR,
        reason=code,
        details={"name": stream.name, **details},
    )


async def _batch_of(
    session: TenantSession, tenant_id: UUID, stream: AuditStream, position: int
) -> tuple[Batch | None, int, bool]:
    """Make the next batch: at most 200 events and about 1 MiB. Gives it, how many it holds, and whether more follow."""
    events = await repository.find_sealed(
        session, _EVERYTHING, first=position + 1, last=position + _BATCH_EVENTS, descending=False
    )
    if not events or events[0].sequence != position + 1:
        # Of what has left there is nothing to send: a stream that begins before goes on behind it.
        erased = (await repository.find_log_extent(session)).erased
        if position < erased:
            return await _batch_of(session, tenant_id, stream, erased)
    if not events:
        return None, 0, False
    shape, media_type = _SHAPES[stream.format]
    documents: list[bytes] = []
    size, reached = 0, position
    for event in events:
        if stream.filter.passes(event):
            document = written(shape(event))
            if documents and size + len(document) > _BATCH_BYTES:
                break
            documents.append(document)
            size += len(document)
        reached = event.sequence or reached
    batch = Batch(tenant_id, stream.stream_id, position + 1, reached, tuple(documents), media_type)
    return batch, len(documents), reached < position + len(events) or len(events) == _BATCH_EVENTS


def retry_after(attempts: int) -> timedelta:
    """Tell how long to wait after so many failures: 5 s, twice as long each time, an hour at most, ± a fifth."""
    seconds = min(_FIRST_RETRY_SECONDS * 2.0 ** min(attempts - 1, 20), _MOST_RETRY_SECONDS)
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - to spread retries, not a secret


async def list_due_streams(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    *,
    now: datetime,
    limit: int,
    resting: Collection[UUID],
    running: Collection[DueStream],
) -> list[DueStream]:
    """List what may begin now beside what is running, as the dispatcher: no tenant gets it all."""
    tenants = [due.tenant_id for due in running]
    full = {tenant for tenant in tenants if tenants.count(tenant) >= PER_TENANT}
    return await repository.list_due_streams(
        connection,
        now=now,
        limit=limit,
        per_tenant=PER_TENANT,
        failing=max(0, _MOST_FAILING - sum(due.failing for due in running)),
        without_tenants={*full, *resting},
        without=[due.stream_id for due in running],
    )


class AuditArrival:
    """The `Arrival` port of tenants for their logs. `notaries` by region."""

    def __init__(self, *, notaries: Mapping[str, Notary], clock: Clock) -> None:
        self._notaries = notaries
        self._clock = clock

    async def arrive(self, session: TenantSession) -> None:
        """Pause all streams: they go on where the tenant came from. Have the files of its days made from its events.

        What had left the log where it came from is signed anew, since here others' signatures do not count.
        """
        now = self._clock.now()
        await attest_erasure(session, notary=self._notaries[session.scope.region], clock=self._clock)
        await repository.pause_all(session, because="tenant_imported", now=now)
        await repository.reopen_days(session, due_at=now)
