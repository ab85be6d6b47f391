"""SQL of the region's log, in the database of its cell."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tenantry.capabilities.audit.repository.columns import grouped, unzipped
from tenantry.capabilities.audit.types import SignedRoot
from tenantry.engines.merkle.proofs import Range
from tenantry.engines.merkle.tree import Appended

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]


async def take_region_head(connection: "Sealing") -> tuple[int, bytes]:
    """Size and right edge of the region's tree, which nobody else appends to until the end of the transaction."""
    row = await connection.fetchrow("select size, frontier from fence.region_head where head_id = 1 for update")
    if row is None:
        raise LookupError("fence.region_head has lost its one row")
    return row["size"], row["frontier"]


async def find_known_leaves(connection: "Sealing", leaves: Sequence[bytes]) -> dict[bytes, int]:
    """Tell which of the leaves are in the region's tree, and at which place, from 0."""
    rows = await connection.fetch("select leaf, position from fence.region_log where leaf = any($1)", leaves)
    return {row["leaf"]: row["position"] for row in rows}


async def write_region_growth(
    connection: "Sealing", leaves: Sequence[bytes], *, first: int, appended: Appended
) -> None:
    """Append leaves at the places from `first` on, and write what the tree has become."""
    tiles = [(tile.level, tile.start + at, one) for tile in appended.tiles for at, one in enumerate(tile.hashes)]
    await connection.execute(
        """with grown as (
               update fence.region_head set size = $3, frontier = $4 where head_id = 1
           ), tiled as (
               insert into fence.region_tiles (level, position, hash)
               select level, position, hash
               from unnest($5::smallint[], $6::bigint[], $7::bytea[]) t (level, position, hash)
           )
           insert into fence.region_log (position, leaf)
           select $1::bigint + n - 1, leaf from unnest($2::bytea[]) with ordinality l (leaf, n)""",
        first,
        leaves,
        appended.frontier.size,
        appended.frontier.to_bytes(),
        *unzipped(tiles, 3),
    )


async def find_region_root(connection: "Sealing", *, above: int = 0) -> SignedRoot | None:
    """Give the newest signed root, if it is of more than `above` checkpoints."""
    row = await connection.fetchrow(
        "select size, made_at, note from fence.region_roots where size > $1 order by size desc limit 1", above
    )
    return SignedRoot(row["size"], row["made_at"], row["note"]) if row else None


async def insert_region_root(connection: "Sealing", root: SignedRoot) -> None:
    await connection.execute(
        "insert into fence.region_roots (size, made_at, note) values ($1, $2, $3)", root.size, root.made_at, root.note
    )


async def thin_region_roots(connection: "Sealing", *, before: datetime) -> None:
    """Delete of the roots that are older those which another of the same hour follows."""
    await connection.execute(
        """delete from fence.region_roots r using (
               select size, made_at, lead(made_at) over (order by size) as next_at
               from fence.region_roots where made_at < $1
           ) o
           where r.size = o.size and date_trunc('hour', o.next_at) = date_trunc('hour', o.made_at)""",
        before,
    )


async def take_region_note(connection: "Sealing", size: int) -> bytes:
    """Give the note of a root, whose signatures nobody else adds to until the end of the transaction."""
    note: bytes = await connection.fetchval("select note from fence.region_roots where size = $1 for update", size)
    return note


async def write_region_note(connection: "Sealing", size: int, note: bytes) -> None:
    await connection.execute("update fence.region_roots set note = $2 where size = $1", size, note)


async def find_region_hashes(connection: "Sealing", ranges: Sequence[Range]) -> list[list[bytes]]:
    """Give the hashes of each range of a tile level, in order; level 0 are the leaves. One statement."""
    rows = await connection.fetch(
        """select r.number, h.hash
           from unnest($1::int[], $2::smallint[], $3::bigint[], $4::bigint[]) r (number, level, start, stop),
           lateral (
               select l.leaf as hash, l.position from fence.region_log l
               where r.level = 0 and l.position >= r.start and l.position < r.stop
               union all
               select t.hash, t.position from fence.region_tiles t
               where t.level = r.level and t.position >= r.start and t.position < r.stop
           ) h order by r.number, h.position""",
        list(range(len(ranges))),
        [one.level for one in ranges],
        [one.start for one in ranges],
        [one.stop for one in ranges],
    )
    return grouped(rows, len(ranges))


async def take_seen_root(connection: "Sealing", origin: str) -> tuple[int, bytes] | None:
    """Size and root of what was last seen of another region's log, alone until the end of the transaction."""
    await connection.execute("select pg_advisory_xact_lock(hashtextextended('seen_roots/' || $1, 0))", origin)
    row = await connection.fetchrow("select size, root from fence.seen_roots where origin = $1", origin)
    return (row["size"], row["root"]) if row else None


async def write_seen_root(connection: "Sealing", origin: str, *, size: int, root: bytes) -> None:
    await connection.execute(
        """insert into fence.seen_roots (origin, size, root) values ($1, $2, $3)
           on conflict (origin) do update set size = excluded.size, root = excluded.root""",
        origin,
        size,
        root,
    )
