"""SQL of whoever signs checkpoints."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.audit.repository.columns import unzipped
from tenantry.capabilities.audit.types import SignedCheckpoint

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]


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
