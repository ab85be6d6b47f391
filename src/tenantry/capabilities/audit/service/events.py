"""Events of one scope: recorded with their effect, queried."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import event_erased
from tenantry.capabilities.audit.service.receipts import collect
from tenantry.capabilities.audit.service.searching import Found, search, search_sequence
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import NotFound
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import TenantScope


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
    """Make an event of the scope's actor, now. Raises ValueError for a name that no database keeps."""
    if "\0" in f"{action}{resource_type}{resource_id}{scope.actor.id}":
        raise ValueError("an audit event names nothing with NUL")
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
        details={**(details or {}), "allowed_by": scope.allowed_by} if scope.allowed_by else details or {},
    )


async def find_erased(session: TenantSession, event_id: UUID) -> tuple[int, bytes] | None:
    """Tell place and leaf of an event that has left; nothing to who sees a workspace: whose it was nobody knows."""
    place = await repository.find_place(session, event_id) if session.scope.workspace_id is None else None
    if place is None or place[0] > (await repository.find_log_extent(session)).erased:
        return None
    return place


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
        collect(self._session, event.event_id, await repository.insert_event(self._session, event))

    async def list_events(self, query: AuditFilter, *, limit: int = 50) -> list[AuditEvent]:
        """Newest first. `action` matches its prefix: `job.` finds all of jobs."""
        return list((await self.search(query, limit=limit)).events)

    async def search(self, query: AuditFilter, *, position: str | None = None, limit: int = 50) -> Found:
        """Give a page of the newest events first, from where the page before has ended; see `service/searching`."""
        return await search(self._session, query, position=position, limit=limit)

    async def search_sequence(self, query: AuditFilter, *, after: int, limit: int = 50) -> Found:
        """Give a page of sealed events in the order of their places, from behind one."""
        return await search_sequence(self._session, query, after=after, limit=limit)

    async def get_event(self, event_id: UUID) -> AuditEvent:
        """Give it; raises NotFound, and Gone `event_erased` to who sees the whole trail of one that has left it."""
        event = await repository.find_event(self._session, event_id)
        if event is not None:
            return event
        if (place := await find_erased(self._session, event_id)) is not None:
            sequence, leaf = place
            raise event_erased(sequence, b64encode(leaf).decode())
        raise NotFound("not_found", "no such audit event", layer="audit")
