"""SQL of the sealer."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.audit.errors import NotGrown
from tenantry.capabilities.audit.repository.columns import unzipped
from tenantry.capabilities.audit.types import Growth

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]

_GROWN: Final = """
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
    from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bytea[]) s (tenant_id, sequence, event_id, leaf)"""
_REFUSED: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.RaiseError)


async def pass_gate(connection: "Sealing") -> None:
    """Wait to be the only sealer of this cell, until the end of the transaction."""
    await connection.execute("select epoch from fence.sealer_gate where gate_id = 1 for update")


async def find_waiting(
    connection: "Sealing", *, limit: int, passed_over: Collection[UUID]
) -> "list[tuple[UUID, UUID, bytes | None]]":
    """Tenant, event and leaf of waiting events in the order of their ids, but those of tenants that are passed over.

    Of what has its place already, whoever let it wait again, only the waiting ends here. None for the leaf of an event
    that is gone.
    """
    rows = await connection.fetch(
        """
        with bite as materialized (
            select tenant_id, event_id from audit_unsealed
            where tenant_id <> all($2::uuid[]) order by event_id limit $1
        ), again as (
            delete from audit_unsealed u using bite b, audit_sequence s
            where u.tenant_id = b.tenant_id and u.event_id = b.event_id
              and s.tenant_id = b.tenant_id and s.event_id = b.event_id
            returning u.tenant_id, u.event_id
        )
        select b.tenant_id, b.event_id, e.leaf
        from bite b left join audit_events e on e.tenant_id = b.tenant_id and e.event_id = b.event_id
        where (b.tenant_id, b.event_id) not in (select tenant_id, event_id from again)
        order by b.event_id
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
    """Give events their places, and heads and tiles what their trees have become, in one statement, or none of it.

    Raises NotGrown where a row is refused, be it of one tenant alone; the transaction goes on without any.

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
    columns = (*unzipped(placed, 4), *unzipped(heads, 3), *unzipped(tiles, 4))
    try:
        async with connection.transaction():
            await connection.execute(_GROWN, *columns)
    except _REFUSED as error:
        raise NotGrown(error.sqlstate or "") from error
