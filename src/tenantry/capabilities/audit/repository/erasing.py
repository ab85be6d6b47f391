"""SQL of erasures: what of a log has left, and what is to leave with it.

What is signed is read in the session of the tenant; events themselves are deleted by the sealer's role, and by it only
up to the size that the head says was signed away.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.audit.types import LogExtent
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class ErasureEvent:
    """An event that tells of an erasure, as it is stored; whether it is true is for its reader to see."""

    canonical: bytes
    sequence: int | None


@dataclass(frozen=True, slots=True)
class CutDay:
    """A day that has erased events: of it `left` events are still there, up to the place `last`."""

    day: date
    last: int
    left: int


async def list_erasable(connection: "Sealing", *, before: UUID, after: UUID | None, limit: int) -> list[UUID]:
    """List tenants, behind one, of which another tile may be old enough, or has been signed away and not swept.

    `before` is the least id of what is not old enough.
    """
    rows = await connection.fetch(
        """select h.tenant_id from audit_heads h
           where ($2::uuid is null or h.tenant_id > $2)
             and (h.swept < h.erased
                  or exists (select from audit_sequence s where s.tenant_id = h.tenant_id
                             and s.sequence = h.erased + 256 and s.event_id < $1))
           order by h.tenant_id limit $3""",
        before,
        after,
        limit,
    )
    return [row["tenant_id"] for row in rows]


async def sign_away(connection: "Sealing", tenant_id: UUID, *, size: int) -> None:
    """Let the first `size` events of a log be erased from now on; it is never taken back."""
    await connection.execute(
        "update audit_heads set erased = $2 where tenant_id = $1 and erased < $2 and size >= $2", tenant_id, size
    )


async def sweep_events(connection: "Sealing", tenant_id: UUID, *, limit: int) -> LogExtent:
    """Delete so many more of the events that were signed away; tells how far that is. Two that race take turns."""
    row = await connection.fetchrow(
        """with head as (
               select size, erased, swept, least(erased, swept + $2) as reached
               from audit_heads where tenant_id = $1 for update
           ), gone as (
               delete from audit_events e using head h, audit_sequence s
               where s.tenant_id = $1 and s.sequence > h.swept and s.sequence <= h.reached
                 and e.tenant_id = $1 and e.event_id = s.event_id
           )
           update audit_heads a set swept = h.reached from head h where a.tenant_id = $1
           returning a.size, a.erased, a.swept""",
        tenant_id,
        limit,
    )
    return _extent(row)


async def find_log_extent(session: TenantSession) -> LogExtent:
    row = await session.fetchrow(
        "select size, erased, swept from audit_heads where tenant_id = $1", session.scope.tenant_id
    )
    return _extent(row)


async def take_index(session: TenantSession) -> int:
    """Wait to be the only one who follows or erases the log, until the end of the transaction.

    Tells up to which event its words and days are known.
    """
    found: int | None = await session.fetchval(
        "select sequence from audit_index where tenant_id = $1 for update", session.scope.tenant_id
    )
    return found or 0


async def find_least_position(session: TenantSession) -> int | None:
    """Tell up to which event all active streams have sent; None: there are none."""
    found: int | None = await session.fetchval(
        "select min(position) from audit_streams where tenant_id = $1 and status = 'active'", session.scope.tenant_id
    )
    return found


async def list_erasures(session: TenantSession, action: str, *, limit: int) -> list[ErasureEvent]:
    """List what the trail tells of erasures, the newest first."""
    rows = await session.fetch(
        """select e.canonical, s.sequence
           from audit_events e left join audit_sequence s on s.tenant_id = e.tenant_id and s.event_id = e.event_id
           where e.tenant_id = $1 and e.action = $2 order by e.event_id desc limit $3""",
        session.scope.tenant_id,
        action,
        limit,
    )
    return [ErasureEvent(row["canonical"], row["sequence"]) for row in rows]


async def forget_words(
    session: TenantSession, *, below: int, after: tuple[str, int], limit: int
) -> tuple[str, int] | None:
    """Forget words of the blocks below one, among the next entries of the index; tells where it goes on."""
    row = await session.fetchrow(
        """with looked as (
               select word, block from audit_words where tenant_id = $1 and (word, block) > ($2, $3)
               order by word, block limit $5
           ), gone as (
               delete from audit_words w using looked l
               where w.tenant_id = $1 and w.word = l.word and w.block = l.block and l.block < $4
           )
           select word, block from looked order by word desc, block desc limit 1""",
        session.scope.tenant_id,
        *after,
        below,
        limit,
    )
    return (row["word"], row["block"]) if row else None


async def list_cut_days(session: TenantSession, *, erased: int) -> list[CutDay]:
    """List days that have events among the first `erased`, the earliest first."""
    rows = await session.fetch(
        """select d.day, d.last,
                  (select count(*) from audit_sequence s
                   join audit_events e on e.tenant_id = s.tenant_id and e.event_id = s.event_id
                   where s.tenant_id = $1 and s.sequence > $2 and s.sequence <= d.last
                     and e.occurred_at >= d.day::timestamp at time zone 'UTC'
                     and e.occurred_at < (d.day + 1)::timestamp at time zone 'UTC') as remain
           from audit_days d where d.tenant_id = $1 and d.first <= $2 order by d.day""",
        session.scope.tenant_id,
        erased,
    )
    return [CutDay(row["day"], row["last"], row["remain"]) for row in rows]


async def delete_day(session: TenantSession, day: date) -> None:
    await session.execute("delete from audit_days where tenant_id = $1 and day = $2", session.scope.tenant_id, day)


async def cut_day(session: TenantSession, cut: CutDay, *, erased: int, due_at: datetime) -> None:
    """Have a day's file written anew, of what is left; whoever is writing it may not note it any more."""
    await session.execute(
        """update audit_days set first = $3, events = $4, written = 0, closed_at = null, due_at = $5,
                  epoch = epoch + 1, lease_until = null
           where tenant_id = $1 and day = $2""",
        session.scope.tenant_id,
        cut.day,
        erased + 1,
        cut.left,
        due_at,
    )


async def find_newest_erased(session: TenantSession, *, erased: int) -> UUID | None:
    """Give the highest id in the last tile that has left."""
    found: UUID | None = await session.fetchval(
        """select event_id from audit_sequence where tenant_id = $1 and sequence > $2 - 256 and sequence <= $2
           order by event_id desc limit 1""",
        session.scope.tenant_id,
        erased,
    )
    return found


async def list_leaves(session: TenantSession, *, after: int, until: int, limit: int) -> list[bytes]:
    """Leaves of events in the order of their sequence, from the one behind `after` to `until`."""
    rows = await session.fetch(
        """select leaf from audit_sequence where tenant_id = $1 and sequence > $2 and sequence <= $3
           order by sequence limit $4""",
        session.scope.tenant_id,
        after,
        until,
        limit,
    )
    return [row["leaf"] for row in rows]


async def find_place(session: TenantSession, event_id: UUID) -> tuple[int, bytes] | None:
    """Tell place and leaf of an event, also of one that has left."""
    row = await session.fetchrow(
        "select sequence, leaf from audit_sequence where tenant_id = $1 and event_id = $2",
        session.scope.tenant_id,
        event_id,
    )
    return (row["sequence"], row["leaf"]) if row else None


def _extent(row: "asyncpg.Record | None") -> LogExtent:
    return LogExtent(row["size"], row["erased"], row["swept"]) if row else LogExtent()
