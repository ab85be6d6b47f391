"""SQL of events: recorded, and read back as what they are."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.database.places import PLACE_NEWS
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.scope import Actor, ActorType

if TYPE_CHECKING:
    import asyncpg

# Event and waiting row in one statement: one round trip.
_INSERT: Final = """
    with event as (
        insert into audit_events (tenant_id, event_id, workspace_id, occurred_at, actor_type, actor_id, action,
                                  resource_type, resource_id, outcome, canonical, leaf)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    )
    insert into audit_unsealed (tenant_id, event_id) values ($1, $2)
"""
# An event whose commit was not confirmed comes again. It may be sealed by then, so only a new one begins to wait.
_INSERT_MANY: Final = """
    with event as (
        insert into audit_events (tenant_id, event_id, workspace_id, occurred_at, actor_type, actor_id, action,
                                  resource_type, resource_id, outcome, canonical, leaf)
        select $1, * from unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                                 $8::text[], $9::text[], $10::text[], $11::bytea[], $12::bytea[])
        on conflict (tenant_id, event_id) do nothing returning event_id
    )
    insert into audit_unsealed (tenant_id, event_id) select $1, event_id from event
"""


async def insert_event(session: TenantSession, event: AuditEvent) -> bytes:
    """Insert an event; gives its leaf hash."""
    session.forward(PLACE_NEWS)
    canonical = canonical_bytes(event)
    leaf = leaf_hash(canonical)
    await session.execute(_INSERT, event.tenant_id, *_columns(event, canonical, leaf))
    return leaf


async def insert_events(session: TenantSession, events: Sequence[tuple[AuditEvent, bytes]]) -> None:
    """Insert events of one tenant, with their canonical bytes; those that are there already are left as they are."""
    session.forward(PLACE_NEWS)
    columns = zip(*(_columns(event, canonical, leaf_hash(canonical)) for event, canonical in events), strict=True)
    await session.execute(_INSERT_MANY, session.scope.tenant_id, *(list(column) for column in columns))


async def find_event(session: TenantSession, event_id: UUID) -> AuditEvent | None:
    row = await session.fetchrow(
        """select e.event_id, e.workspace_id, e.canonical, s.sequence
           from audit_events e left join audit_sequence s on s.tenant_id = e.tenant_id and s.event_id = e.event_id
           where e.tenant_id = $1 and e.event_id = $2""",
        session.scope.tenant_id,
        event_id,
    )
    return event_of(session.scope.tenant_id, row) if row else None


def _columns(event: AuditEvent, canonical: bytes, leaf: bytes) -> tuple[object, ...]:
    return (
        event.event_id,
        event.workspace_id,
        event.occurred_at,
        event.actor.type.value,
        event.actor.id,
        event.action,
        event.resource_type,
        event.resource_id,
        event.outcome.value,
        canonical,
        leaf,
    )


def event_of(tenant_id: UUID, row: "asyncpg.Record") -> AuditEvent:
    """Read an event from `event_id, workspace_id, canonical, sequence`."""
    form = json.loads(row["canonical"])
    actor = form["actor"]
    return AuditEvent(
        tenant_id=tenant_id,
        event_id=row["event_id"],
        occurred_at=datetime.fromisoformat(form["occurred_at"]),
        actor=Actor(ActorType(actor["type"]), actor["id"], tuple(actor["chain"])),
        action=form["action"],
        resource_type=form["resource"]["type"],
        resource_id=form["resource"]["id"],
        outcome=Outcome(form["outcome"]),
        workspace_id=row["workspace_id"],
        reason=form["reason"],
        ip=form["ip"],
        trace_id=form["trace_id"],
        details=form["details"],
        sequence=row["sequence"],
    )
