"""SQL of what follows the sealed events of a tenant: the index of their words, and the files of their days."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit.types.streams import AuditDay, DueDay
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_DAY: Final = "day, first, last, events, written, size_bytes, sha256, closed_at"


@dataclass(frozen=True, slots=True)
class DaySpan:
    """Of some events those of one day: the first and last place, and how many."""

    first: int
    last: int
    events: int


async def list_unindexed(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, limit: int, without: Collection[UUID]
) -> list[UUID]:
    """List tenants that have sealed events which the index does not know, as the dispatcher."""
    rows = await connection.fetch(
        """select h.tenant_id from audit_heads h left join audit_index i on i.tenant_id = h.tenant_id
           where h.size > coalesce(i.sequence, 0) and h.tenant_id <> all($2::uuid[]) limit $1""",
        limit,
        list(without),
    )
    return [row["tenant_id"] for row in rows]


async def lock_index(session: TenantSession) -> int | None:
    """Take the tenant's index for this transaction and tell how far it is; None when another has it."""
    tenant_id = session.scope.tenant_id
    await session.execute(
        "insert into audit_index (tenant_id, sequence) values ($1, 0) on conflict do nothing", tenant_id
    )
    found: int | None = await session.fetchval(
        "select sequence from audit_index where tenant_id = $1 for update skip locked", tenant_id
    )
    return found


async def advance_index(session: TenantSession, *, to: int, entries: Collection[tuple[str, int]]) -> None:
    """Keep that these words stand in these blocks, and that all up to a place is known."""
    words, blocks = zip(*entries, strict=True) if entries else ((), ())
    await session.execute(
        """insert into audit_words (tenant_id, word, block)
           select $1, word, block from unnest($2::text[], $3::bigint[]) w (word, block) on conflict do nothing""",
        session.scope.tenant_id,
        list(words),
        list(blocks),
    )
    await session.execute("update audit_index set sequence = $2 where tenant_id = $1", session.scope.tenant_id, to)


async def extend_days(session: TenantSession, spans: Mapping[date, DaySpan], *, due_at: datetime) -> None:
    """Count further events to their days, whose files are then due."""
    for day, span in sorted(spans.items()):
        await session.execute(
            """insert into audit_days as d (tenant_id, day, first, last, events, due_at)
               values ($1, $2, $3, $4, $5, $6)
               on conflict (tenant_id, day) do update
               set last = excluded.last, events = d.events + excluded.events, closed_at = null,
                   due_at = least(d.due_at, excluded.due_at
                                            + make_interval(secs => coalesce(d.size_bytes, 0) / 100000.0))""",
            session.scope.tenant_id,
            day,
            span.first,
            span.last,
            span.events,
            due_at,
        )


async def list_due_days(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, now: datetime, limit: int, without: Collection[UUID]
) -> list[DueDay]:
    """List days whose file is to be written or closed, as the dispatcher; one of a tenant, the longest due first."""
    rows = await connection.fetch(
        """select tenant_id, day from (
               select distinct on (tenant_id) tenant_id, day, due_at from audit_days
               where due_at <= $1 and (lease_until is null or lease_until <= $1) and tenant_id <> all($3::uuid[])
               order by tenant_id, due_at
           ) d order by due_at limit $2""",
        now,
        limit,
        list(without),
    )
    return [DueDay(row["tenant_id"], row["day"]) for row in rows]


async def claim_day(
    session: TenantSession, day: date, *, now: datetime, until: datetime
) -> tuple[AuditDay, int] | None:
    """Take a day for a while; gives it and the epoch of the lease, None when it is not due or another's."""
    row = await session.fetchrow(
        f"""update audit_days set epoch = epoch + 1, lease_until = $4
            where (tenant_id, day) in (
                select tenant_id, day from audit_days
                where tenant_id = $1 and day = $2 and due_at <= $3 and (lease_until is null or lease_until <= $3)
                for update skip locked)
            returning {_DAY}, epoch""",
        session.scope.tenant_id,
        day,
        now,
        until,
    )
    return (_day(row), row["epoch"]) if row else None


async def note_day(
    session: TenantSession,
    day: AuditDay,
    *,
    epoch: int,
    due_at: datetime | None,
    reopened_due_at: datetime,
) -> bool:
    """Note what was written of a day, and close it where nothing has come since; False when the lease was lost."""
    row = await session.fetchrow(
        """update audit_days set written = $4, size_bytes = $5, sha256 = $6, lease_until = null,
               closed_at = case when last = $4 then $7::timestamptz end,
               due_at = case when last = $4 then $8::timestamptz else $9::timestamptz end
           where tenant_id = $1 and day = $2 and epoch = $3 returning day""",
        session.scope.tenant_id,
        day.day,
        epoch,
        day.written,
        day.size_bytes,
        day.sha256,
        day.closed_at,
        due_at,
        reopened_due_at,
    )
    return row is not None


async def reopen_day(session: TenantSession, day: date, *, epoch: int, lease: datetime, now: datetime) -> bool:
    """Have a day's file written again, after a write under a lease that was lost; False when it was not.

    Whoever has a lease may not note the day any more, and keeps it until it ends, so that no two go on by turns.
    """
    row = await session.fetchrow(
        """update audit_days set written = 0, closed_at = null, due_at = $5, epoch = epoch + 1,
               lease_until = case when lease_until <> $4 then lease_until end
           where tenant_id = $1 and day = $2 and epoch <> $3 returning day""",
        session.scope.tenant_id,
        day,
        epoch,
        lease,
        now,
    )
    return row is not None


async def reopen_days(session: TenantSession, *, due_at: datetime) -> None:
    """Have all files of the tenant's days written again."""
    await session.execute(
        """update audit_days set written = 0, closed_at = null, due_at = $2, epoch = epoch + 1, lease_until = null
           where tenant_id = $1""",
        session.scope.tenant_id,
        due_at,
    )


async def find_day(session: TenantSession, day: date) -> AuditDay | None:
    row = await session.fetchrow(
        f"select {_DAY} from audit_days where tenant_id = $1 and day = $2", session.scope.tenant_id, day
    )
    return _day(row) if row else None


async def list_days(session: TenantSession, *, before: date | None, limit: int) -> list[AuditDay]:
    """Newest first."""
    rows = await session.fetch(
        f"""select {_DAY} from audit_days where tenant_id = $1 and ($2::date is null or day < $2)
            order by day desc limit $3""",
        session.scope.tenant_id,
        before,
        limit,
    )
    return [_day(row) for row in rows]


def _day(row: "asyncpg.Record") -> AuditDay:
    return AuditDay(
        day=row["day"],
        first=row["first"],
        last=row["last"],
        events=row["events"],
        written=row["written"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        closed_at=row["closed_at"],
    )
