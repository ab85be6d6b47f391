"""SQL that finds what became of resources, as evidence names it."""

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from tenantry.capabilities.audit.types import TracedEvent
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.scope import Actor, ActorType

if TYPE_CHECKING:
    import asyncpg


async def trace_resources(
    session: TenantSession, ends: Mapping[str, str], *, among: Collection[str], most: int
) -> dict[str, list[TracedEvent]]:
    """List the events of each of these with one of these actions, up to that with the action which ends it."""
    rows = await session.fetch(
        """select r.resource, t.event_id, t.action, t.canonical, t.leaf,
                  (select s.sequence from audit_sequence s
                   where s.tenant_id = $1 and s.event_id = t.event_id) as sequence
           from unnest($2::text[], $3::text[]) r (resource, ended), lateral (
               select e.event_id, e.action, e.canonical, e.leaf from audit_events e
               where e.tenant_id = $1 and e.resource_id = r.resource
                 and (e.action = r.ended or e.action = any ($4::text[]))
               order by e.event_id desc limit $5
           ) t order by t.event_id""",
        session.scope.tenant_id,
        list(ends),
        list(ends.values()),
        list(among),
        most,
    )
    found: dict[str, list[TracedEvent]] = {resource: [] for resource in ends}
    for row in rows:
        if any(each.action == ends[row["resource"]] for each in found[row["resource"]]):
            continue  # what came after the end
        found[row["resource"]].append(_traced(row))
    return found


def _traced(row: "asyncpg.Record") -> TracedEvent:
    form = json.loads(row["canonical"])
    actor = form["actor"]
    return TracedEvent(
        event_id=row["event_id"],
        sequence=row["sequence"],
        action=row["action"],
        actor=Actor(ActorType(actor["type"]), actor["id"], tuple(actor["chain"])),
        details=form["details"],
        leaf=row["leaf"],
    )
