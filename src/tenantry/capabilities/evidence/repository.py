"""All SQL of evidence and holds."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.evidence.types import Candidate, Envelope, Evidence, Hold, Selector, State, Subject
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    import asyncpg

_ROW: Final = (
    "e.evidence_id, e.workspace_id, e.subject_kind, e.subject_id, e.state, e.persistence_mode, e.labels, e.judged, "
    "e.created_at, e.ended_at, e.due_at, e.checked_at, e.faults, "
    "v.sha256, v.size_bytes, v.first_sequence, v.last_sequence, v.locked_at"
)
_FROM: Final = """evidence e left join evidence_envelopes v
                  on v.tenant_id = e.tenant_id and v.evidence_id = e.evidence_id"""
_SELECTOR: Final = "subject_kind, subject_id, label_name, label_value, since, until"
_HOLD: Final = (
    f"hold_id, workspace_id, case_id, reason, {_SELECTOR}, placed_at, placed_by, released_at, released_by, "
    "release_reason"
)
_HELD: Final = """exists (
    select from evidence_holds h
    where h.tenant_id = e.tenant_id and h.workspace_id = e.workspace_id and h.released_at is null
      and (h.subject_id is null or (h.subject_kind = e.subject_kind and h.subject_id = e.subject_id))
      and (h.label_name is null or e.labels ->> h.label_name = h.label_value)
      and (h.until is null or e.created_at <= h.until)
      and (h.since is null or e.ended_at is null or e.ended_at >= h.since))"""

_FLOORED: Final = "(e.ended_at + make_interval(days => $4) > $3)"
_EXPIRED: Final = f"""{_FROM} join workspaces w on w.tenant_id = e.tenant_id and w.workspace_id = e.workspace_id
    where e.tenant_id = $1 and ($2::uuid is null or e.workspace_id = $2) and e.state <> 'wip'
      and e.ended_at + make_interval(days => coalesce((w.settings ->> 'retention_days')::integer, 30)) <= $3"""


async def note_subject(
    session: TenantSession, subject: Subject, *, now: datetime, ended_at: datetime | None, due_at: datetime | None
) -> None:
    """Begin evidence of work or, where it has begun, note that the work has ended; one statement."""
    await session.execute(
        """insert into evidence (tenant_id, evidence_id, workspace_id, subject_kind, subject_id, state,
               persistence_mode, labels, judged, created_at, ended_at, due_at)
           values ($1, $2, $3, $4, $5, 'wip', $6, $7, $8, $9, $10, $11)
           on conflict (tenant_id, subject_kind, subject_id) do update
               set ended_at = excluded.ended_at, due_at = excluded.due_at where evidence.ended_at is null""",
        session.scope.tenant_id,
        new_id(),
        subject.workspace_id,
        subject.kind,
        subject.id,
        subject.persistence_mode,
        dict(subject.labels),
        dict(subject.judged),
        now,
        ended_at,
        due_at,
    )


async def find_evidence(session: TenantSession, evidence_id: UUID, *, sealed: bool = False) -> Evidence | None:
    columns = f"{_ROW}, v.sealed" if sealed else _ROW
    row = await session.fetchrow(
        f"select {columns} from {_FROM} where e.tenant_id = $1 and e.evidence_id = $2",
        session.scope.tenant_id,
        evidence_id,
    )
    return _evidence(row) if row else None


async def list_evidence(
    session: TenantSession,
    *,
    workspace_id: UUID,
    before: UUID | None,
    limit: int,
    state: State | None = None,
    subject_id: UUID | None = None,
    sealed: bool = False,
) -> list[Evidence]:
    """Newest first."""
    columns = f"{_ROW}, v.sealed" if sealed else _ROW
    rows = await session.fetch(
        f"""select {columns} from {_FROM}
            where e.tenant_id = $1 and e.workspace_id = $2 and ($3::uuid is null or e.evidence_id < $3)
              and ($4::text is null or e.state = $4) and ($5::uuid is null or e.subject_id = $5)
            order by e.evidence_id desc limit $6""",
        session.scope.tenant_id,
        workspace_id,
        before,
        state.value if state else None,
        subject_id,
        limit,
    )
    return [_evidence(row) for row in rows]


async def take_evidence(session: TenantSession, ids: Sequence[UUID], *, wait: bool = False) -> list[Evidence]:
    """Lock rows for work on them, with what is sealed of each; those that another works on are passed over.

    With `wait` they are waited for.
    """
    rows = await session.fetch(
        f"""select {_ROW}, v.sealed from {_FROM} where e.tenant_id = $1 and e.evidence_id = any ($2::uuid[])
            order by e.evidence_id for update of e {"" if wait else "skip locked"}""",
        session.scope.tenant_id,
        list(ids),
    )
    return [_evidence(row) for row in rows]


async def list_locked(session: TenantSession, *, workspace_id: UUID, limit: int) -> list[UUID]:
    """Ids of what is locked, or has an envelope though it says that it is not; first what was examined longest ago."""
    rows = await session.fetch(
        f"""select e.evidence_id from {_FROM}
            where e.tenant_id = $1 and e.workspace_id = $2
              and (e.state = 'locked' or (e.state = 'wip' and v.evidence_id is not null))
            order by e.checked_at nulls first, e.evidence_id limit $3""",
        session.scope.tenant_id,
        workspace_id,
        limit,
    )
    return [row["evidence_id"] for row in rows]


async def insert_envelopes(session: TenantSession, made: Sequence[Envelope], *, check_at: datetime) -> None:
    """Keep envelopes of rows that are locked here, and call them `locked`; each is there once at most."""
    columns = [field.name for field in dataclasses.fields(Envelope)]
    await session.execute(
        f"""with kept as (
                insert into evidence_envelopes (tenant_id, {", ".join(columns)})
                select $1, {", ".join(columns)}
                from unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[],
                            $9::timestamptz[]) m ({", ".join(columns)})
                returning evidence_id, locked_at
            )
            update evidence e set state = 'locked', due_at = $10, checked_at = k.locked_at
            from kept k where e.tenant_id = $1 and e.evidence_id = k.evidence_id""",
        session.scope.tenant_id,
        *([getattr(one, name) for one in made] for name in columns),
        check_at,
    )


async def postpone(session: TenantSession, ids: Sequence[UUID], *, due_at: datetime) -> None:
    """Say when to look again at what cannot be locked now."""
    await session.execute(
        "update evidence set due_at = $3 where tenant_id = $1 and evidence_id = any ($2::uuid[])",
        session.scope.tenant_id,
        list(ids),
        due_at,
    )


async def note_examined(session: TenantSession, ids: Sequence[UUID], *, now: datetime, due_at: datetime) -> None:
    """Note that these have held."""
    await session.execute(
        """update evidence set checked_at = $3, due_at = $4
           where tenant_id = $1 and evidence_id = any ($2::uuid[]) and state = 'locked'""",
        session.scope.tenant_id,
        list(ids),
        now,
        due_at,
    )


async def note_tampered(session: TenantSession, evidence_id: UUID, faults: Sequence[str], *, now: datetime) -> None:
    await session.execute(
        """update evidence set state = 'tampered', faults = $3, checked_at = $4, due_at = null
           where tenant_id = $1 and evidence_id = $2""",
        session.scope.tenant_id,
        evidence_id,
        list(faults),
        now,
    )


async def count_states(session: TenantSession, *, workspace_id: UUID | None) -> dict[State, int]:
    """Count by state, of a workspace or with None of the tenant."""
    rows = await session.fetch(
        """select state, count(*) as number from evidence
           where tenant_id = $1 and ($2::uuid is null or workspace_id = $2) group by state""",
        session.scope.tenant_id,
        workspace_id,
    )
    return dict.fromkeys(State, 0) | {State(row["state"]): row["number"] for row in rows}


async def hold_still(session: TenantSession, *, workspace_id: UUID | None) -> None:
    """Let nobody place a hold in the workspace, or with None in any, until the transaction ends."""
    await session.execute(
        "select from workspaces where tenant_id = $1 and ($2::uuid is null or workspace_id = $2) for share",
        session.scope.tenant_id,
        workspace_id,
    )


async def find_limits(session: TenantSession) -> Mapping[str, Any]:
    """Give what the platform has set for the tenant."""
    found = await session.fetchval("select limits from tenants where tenant_id = $1", session.scope.tenant_id)
    return dict(found or {})


async def tally_expired(
    session: TenantSession, *, workspace_id: UUID | None, floor_days: int, now: datetime
) -> tuple[int, int, int]:
    """Count what its workspace's days are over for: all, those under the floor, and of the others what is held."""
    row = await session.fetchrow(
        f"""select count(*) as expired, count(*) filter (where {_FLOORED}) as under_floor,
                   count(*) filter (where not {_FLOORED} and {_HELD}) as held
            from {_EXPIRED}""",
        session.scope.tenant_id,
        workspace_id,
        now,
        floor_days,
    )
    return (row["expired"], row["under_floor"], row["held"]) if row else (0, 0, 0)


async def list_collectable(
    session: TenantSession, *, workspace_id: UUID | None, floor_days: int, now: datetime, limit: int
) -> list[Candidate]:
    """List what neither days, floor nor a hold keeps any longer, oldest first."""
    rows = await session.fetch(
        f"""select e.evidence_id, e.workspace_id, e.subject_kind, e.subject_id, e.state, e.ended_at, v.sha256,
                   coalesce(v.size_bytes, 0) as size_bytes
            from {_EXPIRED} and not {_FLOORED} and not {_HELD} order by e.ended_at, e.evidence_id limit $5""",
        session.scope.tenant_id,
        workspace_id,
        now,
        floor_days,
        limit,
    )
    return [Candidate(**{**row, "state": State(row["state"])}) for row in rows]


async def delete_evidence(session: TenantSession, ids: Sequence[UUID]) -> set[UUID]:
    """Delete rows with their envelopes, but those that another works on; tells which."""
    rows = await session.fetch(
        """with gone as (
               select evidence_id from evidence where tenant_id = $1 and evidence_id = any ($2::uuid[])
               order by evidence_id for update skip locked
           )
           delete from evidence e using gone g where e.tenant_id = $1 and e.evidence_id = g.evidence_id
           returning e.evidence_id""",
        session.scope.tenant_id,
        list(ids),
    )
    return {row["evidence_id"] for row in rows}


async def is_held(session: TenantSession, *, kind: str, subject_id: UUID) -> bool:
    """Say whether a hold keeps work; looked at with `hold_still`, nothing comes in between."""
    found: bool | None = await session.fetchval(
        f"""select {_HELD} from evidence e where e.tenant_id = $1 and e.subject_kind = $2 and e.subject_id = $3""",
        session.scope.tenant_id,
        kind,
        subject_id,
    )
    return bool(found)


async def find_workspace_of(session: TenantSession, *, kind: str, subject_id: UUID) -> UUID | None:
    found: UUID | None = await session.fetchval(
        "select workspace_id from evidence where tenant_id = $1 and subject_kind = $2 and subject_id = $3",
        session.scope.tenant_id,
        kind,
        subject_id,
    )
    return found


async def lock_holds(session: TenantSession, *, workspace_id: UUID) -> int:
    """Wait for whoever collects in the workspace or deletes the tenant, and keep them out until the commit.

    Tells how many holds are active.
    """
    await session.execute("select from tenants where tenant_id = $1 for share", session.scope.tenant_id)
    await session.execute(
        "select from workspaces where tenant_id = $1 and workspace_id = $2 for no key update",
        session.scope.tenant_id,
        workspace_id,
    )
    found: int = await session.fetchval(
        """select count(*) from evidence_holds
           where tenant_id = $1 and workspace_id = $2 and released_at is null""",
        session.scope.tenant_id,
        workspace_id,
    )
    return found


async def insert_hold(session: TenantSession, hold: Hold) -> None:
    selector = hold.selector
    await session.execute(
        f"""insert into evidence_holds (tenant_id, hold_id, workspace_id, case_id, reason, {_SELECTOR}, placed_at,
               placed_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)""",
        session.scope.tenant_id,
        hold.hold_id,
        hold.workspace_id,
        hold.case_id,
        hold.reason,
        selector.subject_kind,
        selector.subject_id,
        selector.label_name,
        selector.label_value,
        selector.since,
        selector.until,
        hold.placed_at,
        hold.placed_by,
    )


async def find_hold(session: TenantSession, hold_id: UUID, *, lock: bool = False) -> Hold | None:
    row = await session.fetchrow(
        f"""select {_HOLD} from evidence_holds where tenant_id = $1 and hold_id = $2 {"for update" if lock else ""}""",
        session.scope.tenant_id,
        hold_id,
    )
    return _hold(row) if row else None


async def list_holds(
    session: TenantSession, *, workspace_id: UUID, before: UUID | None, limit: int, active: bool | None
) -> list[Hold]:
    """Newest first; with `active` those that are, or are not any more."""
    rows = await session.fetch(
        f"""select {_HOLD} from evidence_holds
            where tenant_id = $1 and workspace_id = $2 and ($3::uuid is null or hold_id < $3)
              and ($4::boolean is null or (released_at is null) = $4)
            order by hold_id desc limit $5""",
        session.scope.tenant_id,
        workspace_id,
        before,
        active,
        limit,
    )
    return [_hold(row) for row in rows]


async def release_hold(session: TenantSession, hold_id: UUID, *, by: str, reason: str | None, now: datetime) -> None:
    await session.execute(
        """update evidence_holds set released_at = $3, released_by = $4, release_reason = $5
           where tenant_id = $1 and hold_id = $2""",
        session.scope.tenant_id,
        hold_id,
        now,
        by,
        reason,
    )


async def find_oldest_open(session: TenantSession, *, ended_since: datetime) -> datetime | None:
    """Tell when the oldest evidence began that is to be locked, of work that goes on or has ended since then."""
    found: datetime | None = await session.fetchval(
        """select min(created_at) from evidence
           where tenant_id = $1 and state = 'wip' and (ended_at is null or ended_at >= $2)""",
        session.scope.tenant_id,
        ended_since,
    )
    return found


async def list_cases(session: TenantSession) -> list[str]:
    """Name the cases of all active holds of the tenant."""
    rows = await session.fetch(
        """select distinct case_id from evidence_holds where tenant_id = $1 and released_at is null order by case_id""",
        session.scope.tenant_id,
    )
    return [row["case_id"] for row in rows]


def _evidence(row: "asyncpg.Record") -> Evidence:
    values: dict[str, Any] = dict(row)
    return Evidence(**values | {"state": State(values["state"]), "faults": tuple(values["faults"])})


def _hold(row: "asyncpg.Record") -> Hold:
    values: dict[str, Any] = dict(row)
    selector = Selector(**{name: values.pop(name) for name in _SELECTOR.split(", ")})
    return Hold(**values, selector=selector)
