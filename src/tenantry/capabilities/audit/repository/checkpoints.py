"""SQL of whoever signs checkpoints."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.audit.repository.columns import unzipped
from tenantry.capabilities.audit.types import SignedCheckpoint

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]


async def find_unsigned(
    connection: "Sealing", *, after: UUID | None, limit: int
) -> dict[UUID, tuple[int | None, bytes | None]]:
    """Size and right edge of trees that have grown since their last checkpoint, in the order of their tenants."""
    rows = await connection.fetch(
        """select u.tenant_id, h.size, h.frontier
           from (select tenant_id from audit_unsigned where $1::uuid is null or tenant_id > $1
                 order by tenant_id limit $2) u
           left join audit_heads h on h.tenant_id = u.tenant_id
           order by u.tenant_id""",
        after,
        limit,
    )
    return {row["tenant_id"]: (row["size"], row["frontier"]) for row in rows}


async def end_unsigned(connection: "Sealing", sizes: Mapping[UUID, int | None]) -> None:
    """Let these trees be signed again once they have grown beyond these sizes; behind the gate."""
    await connection.execute(
        """delete from audit_unsigned u using unnest($1::uuid[], $2::bigint[]) s (tenant_id, size)
           where u.tenant_id = s.tenant_id
             and not exists (select from audit_heads h where h.tenant_id = s.tenant_id
                             and h.size is distinct from s.size)""",
        list(sizes),
        list(sizes.values()),
    )


async def insert_checkpoints(connection: "Sealing", made: Sequence[SignedCheckpoint]) -> None:
    """Keep checkpoints; one that is there already for its size stands."""
    columns = unzipped([(one.tenant_id, one.size, one.made_at, one.note) for one in made], 4)
    await connection.execute(
        """insert into audit_checkpoints (tenant_id, size, made_at, note)
           select tenant_id, size, made_at, note
           from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::bytea[]) c (tenant_id, size, made_at, note)
           on conflict do nothing""",
        *columns,
    )


async def thin_checkpoints(connection: "Sealing", tenants: Collection[UUID], *, before: datetime) -> None:
    """Delete of these tenants' checkpoints that are older those which another of the same hour follows."""
    await connection.execute(
        """delete from audit_checkpoints c using (
               select tenant_id, size, made_at, lead(made_at) over (partition by tenant_id order by size) as next_at
               from audit_checkpoints where tenant_id = any($1::uuid[]) and made_at < $2
           ) o
           where c.tenant_id = o.tenant_id and c.size = o.size
             and date_trunc('hour', o.next_at) = date_trunc('hour', o.made_at)""",
        list(tenants),
        before,
    )
