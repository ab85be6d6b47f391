"""SQL of events: recorded, and read back as what they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.capabilities.audit.types.privacy import Openings, committed, opened
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.database.places import PLACE_NEWS
from tenantry.foundation.database.session import Sealer, TenantSession
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.scope import Actor, ActorType

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """An event as it will be written: with commitments, its canonical bytes, and what opens them, not yet sealed."""

    event: AuditEvent
    canonical: bytes
    openings: Openings = field(repr=False)

    @property
    def by_mode(self) -> bool:
        """Say whether the mode of its workspace decides what is kept; a tenant's own events keep all."""
        return self.event.workspace_id is not None and self.openings.differ


def made_ready(event: AuditEvent) -> ReadyEvent:
    """Raise ValueError for an event without a canonical form."""
    bare, openings = committed(event)
    return ReadyEvent(bare, canonical_bytes(bare), openings)


# Event and waiting row in one statement: one round trip. Which openings are kept is decided in it too, by the mode that
# the workspace has in this transaction; without one that says `full`, those without content.
_KEPT: Final = """case when exists (
            select from workspaces w where w.tenant_id = $1 and w.workspace_id = {workspace}
                                       and w.settings ->> 'persistence_mode' = 'full'
        ) then {whole} else {personal} end"""
_INSERT_EVENT: Final = """
    with event as (
        insert into audit_events (tenant_id, event_id, workspace_id, occurred_at, actor_type, actor_id, action,
                                  resource_type, resource_id, outcome, canonical, leaf, sealed)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, {sealed})
    )
    insert into audit_unsealed (tenant_id, event_id) values ($1, $2)
"""
_INSERT: Final = _INSERT_EVENT.format(sealed="$13")
_INSERT_BY_MODE: Final = _INSERT_EVENT.format(
    sealed=_KEPT.format(workspace="$3::uuid", whole="$14::bytea", personal="$13::bytea")
)
# An event whose commit was not confirmed comes again. It may be sealed by then, so only a new one begins to wait.
_INSERT_EVENTS: Final = """
    with event as (
        insert into audit_events (tenant_id, event_id, workspace_id, occurred_at, actor_type, actor_id, action,
                                  resource_type, resource_id, outcome, canonical, leaf, sealed)
        select {columns} from unnest(
            $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bytea[], $12::bytea[], {arrays}) {names}
        on conflict (tenant_id, event_id) do nothing returning event_id
    )
    insert into audit_unsealed (tenant_id, event_id) select $1, event_id from event
"""
_GIVEN: Final = (
    "event_id, workspace_id, occurred_at, actor_type, actor_id, action, resource_type, resource_id, outcome, canonical,"
    " leaf"
)
_INSERT_MANY: Final = _INSERT_EVENTS.format(columns="$1, *", arrays="$13::bytea[]", names="")
_INSERT_MANY_BY_MODE: Final = _INSERT_EVENTS.format(
    columns=f"$1, {_GIVEN}, {_KEPT.format(workspace='e.workspace_id', whole='e.whole', personal='e.personal')}",
    arrays="$13::bytea[], $14::bytea[]",
    names=f"e ({_GIVEN}, personal, whole)",
)


async def insert_event(session: TenantSession, event: AuditEvent) -> bytes:
    """Insert an event; gives its leaf hash."""
    session.forward(PLACE_NEWS)
    ready = made_ready(event)
    leaf = leaf_hash(ready.canonical)
    keys = await _keys(session, ready.openings.whole)
    statement = _INSERT_BY_MODE if ready.by_mode else _INSERT
    await session.execute(statement, event.tenant_id, *_columns(ready, leaf, keys, by_mode=ready.by_mode))
    return leaf


async def insert_events(session: TenantSession, events: Sequence[ReadyEvent]) -> None:
    """Insert events of one tenant; those that are there already are left as they are."""
    session.forward(PLACE_NEWS)
    keys = await _keys(session, b"".join(one.openings.whole for one in events))
    by_mode = any(one.by_mode for one in events)
    rows = (_columns(one, leaf_hash(one.canonical), keys, by_mode=by_mode) for one in events)
    statement = _INSERT_MANY_BY_MODE if by_mode else _INSERT_MANY
    await session.execute(statement, session.scope.tenant_id, *(list(column) for column in zip(*rows, strict=True)))


async def find_event(session: TenantSession, event_id: UUID) -> AuditEvent | None:
    row = await session.fetchrow(
        """select e.event_id, e.workspace_id, e.canonical, e.sealed, s.sequence
           from audit_events e left join audit_sequence s on s.tenant_id = e.tenant_id and s.event_id = e.event_id
           where e.tenant_id = $1 and e.event_id = $2""",
        session.scope.tenant_id,
        event_id,
    )
    return (await events_of(session, [row]))[0] if row else None


async def events_of(session: TenantSession, rows: "Sequence[asyncpg.Record]") -> list[AuditEvent]:
    """Read events from `event_id, workspace_id, canonical, sealed, sequence`, and open what is sealed beside them."""
    keys = await _keys(session, b"".join(row["sealed"] or b"" for row in rows))
    return [_event(session.scope.tenant_id, row, keys) for row in rows]


async def _keys(session: TenantSession, needed_for: bytes) -> Sealer | None:
    return await session.vault.keys(session) if needed_for and session.vault is not None else None


def _columns(ready: ReadyEvent, leaf: bytes, keys: Sealer | None, *, by_mode: bool) -> tuple[object, ...]:
    """Give a row; at its end what is sealed beside it: with `by_mode` what is kept without content, and with it."""
    event, (personal, whole), place = ready.event, ready.openings, _place(ready.event.tenant_id, ready.event.event_id)
    in_full = keys.seal(whole, place) if keys and whole else None
    without = in_full
    if ready.by_mode:
        without = keys.seal(personal, place) if keys and personal else None
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
        ready.canonical,
        leaf,
        *((without, in_full) if by_mode else (in_full,)),
    )


def _place(tenant_id: UUID, event_id: UUID) -> bytes:
    """Name what is sealed, so that it opens nowhere else."""
    return b"tenantry/audit/" + tenant_id.bytes + event_id.bytes


def _event(tenant_id: UUID, row: "asyncpg.Record", keys: Sealer | None) -> AuditEvent:
    form = json.loads(row["canonical"])
    actor = form["actor"]
    event = AuditEvent(
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
        committed=form.get("committed", {}),
    )
    if not event.committed:
        return event
    return opened(event, _unsealed(row["sealed"], _place(tenant_id, event.event_id), keys))


def _unsealed(sealed: bytes | None, place: bytes, keys: Sealer | None) -> bytes:
    """Open what lies beside an event; where that cannot be, it is as if it were not there, and the reader is told."""
    if sealed is None or keys is None:
        return b""
    try:
        return keys.open(sealed, place)
    except TenantryError:
        return b""
