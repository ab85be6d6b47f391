"""SQL of a tenant's log as its holder reads it: events in their sequence, hashes, checkpoints."""

from collections.abc import Sequence

from tenantry.capabilities.audit.repository.columns import grouped
from tenantry.capabilities.audit.types import SignedCheckpoint
from tenantry.engines.merkle.proofs import Range
from tenantry.foundation.database.session import TenantSession


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
    return grouped(rows, len(ranges))
