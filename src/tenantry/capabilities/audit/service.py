"""The audit trail: record, query, seal."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import TrailFull
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import NotFound, TenantryError
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.telemetry import AUDIT_WAITING

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_BATCH: Final = 1000
_RETRY_SECONDS: Final = 0.5

_log = structlog.get_logger(__name__)


def make_event(
    scope: TenantScope,
    *,
    clock: Clock,
    action: str,
    resource_type: str,
    resource_id: str,
    outcome: Outcome = Outcome.SUCCESS,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Make an event of the scope's actor, now. Raises ValueError for details that have no canonical form."""
    return AuditEvent(
        tenant_id=scope.tenant_id,
        event_id=new_id(),
        occurred_at=clock.now(),
        actor=scope.actor,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        outcome=outcome,
        workspace_id=scope.workspace_id,
        reason=reason,
        ip=scope.ip,
        trace_id=scope.trace_id,
        details=details or {},
    )


class AuditService:
    """Events of one scope, in its session's transaction."""

    def __init__(self, *, session: TenantSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def record(
        self,
        action: str,
        *,
        resource_type: str,
        resource_id: str,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Record an effect; it commits with the effect or not at all."""
        event = make_event(
            self._session.scope,
            clock=self._clock,
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            outcome=outcome,
            reason=reason,
            details=details,
        )
        await repository.insert_event(self._session, event)

    async def list_events(self, query: AuditFilter, *, before: UUID | None = None, limit: int = 50) -> list[AuditEvent]:
        """Newest first, from just before the event `before`. `action` matches its prefix: `job.` finds all of jobs."""
        return await repository.list_events(self._session, query, before=before, limit=limit)

    async def get_event(self, event_id: UUID) -> AuditEvent:
        event = await repository.find_event(self._session, event_id)
        if event is None:
            raise NotFound("not_found", "no such audit event", layer="audit")
        return event


class AuditTrail:
    """The bounded group commit of one cell, for events that have no transaction of their own: reads and refusals.

    A crash loses at most `flush_seconds` of them. Each tenant's events are flushed in a transaction bound to that
    tenant, so one that cannot be written (moved, suspended) holds up nobody else.
    """

    def __init__(
        self,
        *,
        region: str,
        open_session: Callable[[TenantScope], TenantSession],
        clock: Clock,
        flush_seconds: float,
        capacity: int,
        sample_reads: float = 1.0,
    ) -> None:
        self._region = region
        self._open_session = open_session
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._capacity = capacity
        self._sample_reads = sample_reads
        self._waiting: dict[UUID, list[AuditEvent]] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._flushed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def read(self, scope: TenantScope, *, action: str, resource_type: str, resource_id: str) -> None:
        """Take note of an allowed read, or of its sample where the installation says so."""
        if self._sample_reads < 1.0 and random.random() >= self._sample_reads:  # noqa: S311 - a sample, not a secret
            return
        self.note(scope, action=action, resource_type=resource_type, resource_id=resource_id)

    def note(
        self,
        scope: TenantScope,
        *,
        action: str,
        resource_type: str,
        resource_id: str,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Take an event for the next flush; raises TrailFull (503) when too many of this tenant wait."""
        waiting = self._waiting.setdefault(scope.tenant_id, [])
        if len(waiting) >= self._capacity:
            raise TrailFull
        event = make_event(
            scope,
            clock=self._clock,
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            outcome=outcome,
            reason=reason,
            details=details,
        )
        waiting.append(event)
        self._count += 1
        self._wake.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"audit-trail-{self._region}")

    async def stop(self) -> None:
        """Flush what waits, then end."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()

    async def flush(self) -> None:
        """Write all that waits now."""
        waiting, self._waiting = self._waiting, {}
        for tenant_id, events in waiting.items():
            for start in range(0, len(events), _BATCH):
                await self._write(tenant_id, events[start : start + _BATCH])
        AUDIT_WAITING.labels(self._region).set(self._count)

    async def _write(self, tenant_id: UUID, events: list[AuditEvent]) -> None:
        scope = TenantScope(tenant_id=tenant_id, region=self._region, actor=SYSTEM)
        try:
            async with self._open_session(scope) as session:
                await repository.insert_events(session, events)
        except TenantryError as error:
            _log.warning("audit.flush_failed", code=error.code, events=len(events))
            self._waiting.setdefault(tenant_id, [])[:0] = events
            return
        except Exception as error:  # noqa: BLE001 - one event that cannot be written must not take others with it
            if len(events) > 1:
                await self._write(tenant_id, events[: len(events) // 2])
                await self._write(tenant_id, events[len(events) // 2 :])
                return
            _log.exception("audit.event_unwritable", action=events[0].action, kind=type(error).__name__)
        self._count -= len(events)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._flush_seconds)
            await self.flush()
            if self._count:
                self._wake.set()
                await asyncio.sleep(_RETRY_SECONDS)


async def seal(connection: "PoolConnectionProxy[asyncpg.Record]", *, limit: int = 500) -> int:
    """Give waiting events of all tenants their sequence; see `repository.seal_waiting`."""
    return await repository.seal_waiting(connection, limit=limit)
