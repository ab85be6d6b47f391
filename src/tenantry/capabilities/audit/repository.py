"""All SQL of the audit trail."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit.types import (
    AuditEvent,
    AuditFilter,
    Growth,
    Outcome,
    SignedCheckpoint,
    canonical_bytes,
)
from tenantry.engines.merkle.proofs import Range
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.database.places import PLACE_NEWS
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.scope import Actor, ActorType

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]

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
_NARROWED: Final = {
    "actor": "e.actor_id = {0}",
    "action": "e.action ^@ {0}",
    "resource": "(e.resource_id = {0} or e.resource_type = {0})",
    "outcome": "e.outcome = {0}",
    "since": "e.occurred_at >= {0}",
    "until": "e.occurred_at < {0}",
    "workspace_id": "e.workspace_id = {0}",
}
"""What each field of a filter asks."""


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


async def list_events(
    session: TenantSession, query: AuditFilter, *, before: UUID | None, limit: int
) -> list[AuditEvent]:
    """Newest first. Only what is asked stands in the text: a plan for all that might be would read the whole trail."""
    asked: list[object] = [session.scope.tenant_id, limit]
    conditions = ["e.tenant_id = $1"]
    wanted = {"e.event_id < {0}": before} | {text: getattr(query, name) for name, text in _NARROWED.items()}
    for text, value in wanted.items():
        if value is not None:
            asked.append(value.value if isinstance(value, Outcome) else value)
            conditions.append(text.format(f"${len(asked)}"))
    rows = await session.fetch(
        f"""select e.event_id, e.workspace_id, e.canonical,
                   (select s.sequence from audit_sequence s
                    where s.tenant_id = e.tenant_id and s.event_id = e.event_id) as sequence
            from audit_events e where {" and ".join(conditions)} order by e.event_id desc limit $2""",
        *asked,
    )
    return [_event(session.scope.tenant_id, row) for row in rows]


async def find_checkpoint(session: TenantSession, *, at_least: int = 0) -> SignedCheckpoint | None:
    """Give the newest checkpoint of at least that size."""
    tenant_id = session.scope.tenant_id
    row = await session.fetchrow(
        """select size, made_at, note from audit_checkpoints
           where tenant_id = $1 and size >= $2 order by size desc limit 1""",
        tenant_id,
        at_least,
    )
    return SignedCheckpoint(tenant_id, row["size"], row["made_at"], row["note"]) if row else None


async def list_checkpoints(session: TenantSession, *, most: int) -> list[SignedCheckpoint]:
    """Give the newest checkpoint and of those before it at most so many, evenly spread, by ascending size."""
    tenant_id = session.scope.tenant_id
    rows = await session.fetch(
        """select size, made_at, note from (
               select size, made_at, note, row_number() over (order by size desc) - 1 as back, count(*) over () as known
               from audit_checkpoints where tenant_id = $1
           ) c where back % greatest(1, (known + $2 - 1) / $2) = 0 order by size""",
        tenant_id,
        most,
    )
    return [SignedCheckpoint(tenant_id, row["size"], row["made_at"], row["note"]) for row in rows]


async def list_log(session: TenantSession, *, after: int, until: int, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Sequence, canonical bytes and leaf of events in that order, from the one behind `after` to `until`."""
    rows = await session.fetch(
        """select s.sequence, e.canonical, s.leaf
           from audit_sequence s join audit_events e on e.tenant_id = s.tenant_id and e.event_id = s.event_id
           where s.tenant_id = $1 and s.sequence > $2 and s.sequence <= $3 order by s.sequence limit $4""",
        session.scope.tenant_id,
        after,
        until,
        limit,
    )
    return [(row["sequence"], row["canonical"], row["leaf"]) for row in rows]


async def find_hashes(session: TenantSession, ranges: Sequence[Range]) -> list[list[bytes]]:
    """Give the hashes of each range of a tile level, in order; level 0 are the leaves. One statement."""
    rows = await session.fetch(
        """select r.number, h.hash
           from unnest($2::int[], $3::smallint[], $4::bigint[], $5::bigint[]) r (number, level, start, stop),
           lateral (
               select s.leaf as hash, s.sequence as position from audit_sequence s
               where r.level = 0 and s.tenant_id = $1 and s.sequence > r.start and s.sequence <= r.stop
               union all
               select t.hash, t.position from audit_tiles t
               where t.tenant_id = $1 and t.level = r.level and t.position >= r.start and t.position < r.stop
           ) h order by r.number, h.position""",
        session.scope.tenant_id,
        list(range(len(ranges))),
        [one.level for one in ranges],
        [one.start for one in ranges],
        [one.stop for one in ranges],
    )
    found: list[list[bytes]] = [[] for _ in ranges]
    for row in rows:
        found[row["number"]].append(row["hash"])
    return found


async def find_event(session: TenantSession, event_id: UUID) -> AuditEvent | None:
    row = await session.fetchrow(
        """select e.event_id, e.workspace_id, e.canonical, s.sequence
           from audit_events e left join audit_sequence s on s.tenant_id = e.tenant_id and s.event_id = e.event_id
           where e.tenant_id = $1 and e.event_id = $2""",
        session.scope.tenant_id,
        event_id,
    )
    return _event(session.scope.tenant_id, row) if row else None


async def pass_gate(connection: "Sealing") -> None:
    """Wait to be the only sealer of this cell, until the end of the transaction."""
    await connection.execute("select epoch from fence.sealer_gate where gate_id = 1 for update")


async def find_waiting(
    connection: "Sealing", *, limit: int, passed_over: Collection[UUID]
) -> "list[tuple[UUID, UUID, bytes]]":
    """Tenant, event and leaf of waiting events in the order of their ids, but those of tenants that are passed over.

    Of what has its place already, whoever let it wait again, only the waiting ends here.
    """
    rows = await connection.fetch(
        """
        with again as (
            delete from audit_unsealed u using audit_sequence s
            where s.tenant_id = u.tenant_id and s.event_id = u.event_id and u.tenant_id <> all($2::uuid[])
            returning u.tenant_id, u.event_id
        )
        select u.tenant_id, u.event_id, e.leaf
        from audit_unsealed u join audit_events e on e.tenant_id = u.tenant_id and e.event_id = u.event_id
        where u.tenant_id <> all($2::uuid[]) and u.event_id not in (select event_id from again)
        order by u.event_id limit $1
        """,
        limit,
        list(passed_over),
    )
    return [(row["tenant_id"], row["event_id"], row["leaf"]) for row in rows]


async def find_heads(connection: "Sealing", tenants: Collection[UUID]) -> dict[UUID, tuple[int, bytes | None]]:
    """Size and stored right edge of these tenants' trees; whoever has no event yet is not in it."""
    rows = await connection.fetch(
        "select tenant_id, size, frontier from audit_heads where tenant_id = any($1::uuid[])", list(tenants)
    )
    return {row["tenant_id"]: (row["size"], row["frontier"]) for row in rows}


async def find_sealed_leaves(connection: "Sealing", tenant_id: UUID, *, after: int, limit: int) -> list[bytes]:
    """Leaves of a tenant in the order of their sequence, from the one behind `after`."""
    rows = await connection.fetch(
        "select leaf from audit_sequence where tenant_id = $1 and sequence > $2 order by sequence limit $3",
        tenant_id,
        after,
        limit,
    )
    return [row["leaf"] for row in rows]


async def write_growth(connection: "Sealing", grown: Sequence[Growth]) -> None:
    """Give events their places, and heads and tiles what their trees have become, in one statement.

    Runs as `tenantry_sealer` behind the gate. An event whose transaction is still open is sealed by a later call; it
    then stands behind younger ones, which is what its commit order says.
    """
    placed = [(g.tenant_id, g.first + at, *event) for g in grown for at, event in enumerate(g.events)]
    tiles = [
        (g.tenant_id, tile.level, tile.start + at, one)
        for g in grown
        for tile in g.tiles
        for at, one in enumerate(tile.hashes)
    ]
    heads = [(g.tenant_id, g.frontier.size, g.frontier.to_bytes()) for g in grown]
    columns = (*_unzipped(placed, 4), *_unzipped(heads, 3), *_unzipped(tiles, 4))
    await connection.execute(
        """
        with sealed as (
            delete from audit_unsealed u using unnest($1::uuid[], $3::uuid[]) s (tenant_id, event_id)
            where u.tenant_id = s.tenant_id and u.event_id = s.event_id
        ), grown as (
            insert into audit_heads (tenant_id, size, frontier)
            select tenant_id, size, frontier
            from unnest($5::uuid[], $6::bigint[], $7::bytea[]) h (tenant_id, size, frontier)
            on conflict (tenant_id) do update set size = excluded.size, frontier = excluded.frontier
        ), unsigned as (
            insert into audit_unsigned (tenant_id) select unnest($5::uuid[]) on conflict do nothing
        ), tiled as (
            insert into audit_tiles (tenant_id, level, position, hash)
            select tenant_id, level, position, hash
            from unnest($8::uuid[], $9::smallint[], $10::bigint[], $11::bytea[]) t (tenant_id, level, position, hash)
        )
        insert into audit_sequence (tenant_id, sequence, event_id, leaf)
        select tenant_id, sequence, event_id, leaf
        from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bytea[]) s (tenant_id, sequence, event_id, leaf)
        """,
        *columns,
    )


async def take_unsigned(connection: "Sealing", *, limit: int) -> dict[UUID, tuple[int, bytes | None]]:
    """Size and right edge of trees that have grown since their last checkpoint, which is taken to be made now."""
    rows = await connection.fetch(
        """with taken as (
               delete from audit_unsigned u using (select tenant_id from audit_unsigned order by tenant_id limit $1) t
               where u.tenant_id = t.tenant_id returning u.tenant_id
           )
           select h.tenant_id, h.size, h.frontier from taken t join audit_heads h on h.tenant_id = t.tenant_id""",
        limit,
    )
    return {row["tenant_id"]: (row["size"], row["frontier"]) for row in rows}


async def insert_checkpoints(connection: "Sealing", made: Sequence[SignedCheckpoint]) -> None:
    """Keep checkpoints; one that is there already for its size stands."""
    columns = _unzipped([(one.tenant_id, one.size, one.made_at, one.note) for one in made], 4)
    await connection.execute(
        """insert into audit_checkpoints (tenant_id, size, made_at, note)
           select tenant_id, size, made_at, note
           from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::bytea[]) c (tenant_id, size, made_at, note)
           on conflict do nothing""",
        *columns,
    )


def _unzipped(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


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


def _event(tenant_id: UUID, row: "asyncpg.Record") -> AuditEvent:
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
