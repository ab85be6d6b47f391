"""The audit trail, queried."""

from typing import Any

from fastapi import Query, Request

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import Reach, RouteRegistry
from tenantry.interfaces.api.schema import Answer, CursorText, Instant, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()


class EventAnswer(Answer):
    id: str
    sequence: int | None
    occurred_at: Moment
    tenant: str
    workspace: str | None
    actor: dict[str, Any]
    action: str
    resource: dict[str, str]
    outcome: str
    reason: str | None
    ip: str | None
    trace_id: str
    details: dict[str, Any]


@routes.get("/audit", needs=Permission.AUDIT_READ, narrowed=Reach.EITHER)
async def query_audit(
    request: Request,
    actor: str | None = Query(default=None, max_length=60),
    action: str | None = Query(default=None, max_length=80, description="a prefix: `job.` finds all of jobs"),
    resource: str | None = Query(default=None, max_length=120, description="an id, or a type"),
    outcome: Outcome | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    workspace: str | None = Query(default=None, max_length=40),
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[EventAnswer]:
    """Events of the tenant (or of the one workspace that the credential or X-Workspace-Id names), newest first."""
    unit = unit_of(request)
    query = AuditFilter(
        actor=actor,
        action=action,
        resource=resource,
        outcome=outcome,
        since=since,
        until=until,
        workspace_id=parse_id(Prefix.WORKSPACE, workspace) if workspace else unit.scope.workspace_id,
    )
    found = await unit.audit.list_events(query, before=after(unit, cursor, filters=str(query)), limit=limit + 1)
    items = [render(event) for event in found]
    return Page[EventAnswer](**page(unit, items, ids=[e.event_id for e in found], limit=limit, filters=str(query)))


def render(event: AuditEvent) -> EventAnswer:
    return EventAnswer(
        id=format_id(Prefix.AUDIT_EVENT, event.event_id),
        sequence=event.sequence,
        occurred_at=event.occurred_at,
        tenant=format_id(Prefix.TENANT, event.tenant_id),
        workspace=named(Prefix.WORKSPACE, event.workspace_id),
        actor={"type": event.actor.type, "id": event.actor.id, "chain": list(event.actor.chain)},
        action=event.action,
        resource={"type": event.resource_type, "id": event.resource_id},
        outcome=event.outcome,
        reason=event.reason,
        ip=event.ip,
        trace_id=event.trace_id,
        details=dict(event.details),
    )
