"""What the sealer does: a place for each event, and the tree of each tenant grown by it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import NotGrown
from tenantry.capabilities.audit.types import Growth
from tenantry.engines.merkle.errors import MerkleError, OutOfTree
from tenantry.engines.merkle.tree import Frontier, TileHashes

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_LEAVES: Final = 50_000
_EMPTY: Final = Frontier().to_bytes()

_log = structlog.get_logger(__name__)


async def seal(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, limit: int = 500, passed_over: set[UUID] | None = None
) -> int:
    """Give waiting events of all tenants their sequence, and grow each tenant's tree by them; tells how many.

    In one transaction, one sealer at a time: two that race do one after the other what one would. A tenant whose stored
    tree is damaged is put among those that are `passed_over`, and its events wait: they hold up nobody else's.
    """
    passed_over = set() if passed_over is None else passed_over
    await repository.pass_gate(connection)
    waiting = await repository.find_waiting(connection, limit=limit, passed_over=passed_over)
    events: dict[UUID, list[tuple[UUID, bytes | None]]] = {}
    for tenant_id, event_id, leaf in waiting:
        events.setdefault(tenant_id, []).append((event_id, leaf))
    heads = await repository.find_heads(connection, events)
    grown = []
    for tenant_id, theirs in events.items():
        try:
            grown.append(await _grown(connection, tenant_id, theirs, heads.get(tenant_id, (0, _EMPTY))))
        except MerkleError as error:
            _log.error("audit.tree_damaged", tenant=str(tenant_id), reason=str(error), events=len(theirs))
            passed_over.add(tenant_id)
    passed_over |= await _written(connection, grown)
    return len(waiting)


async def _written(connection: "PoolConnectionProxy[asyncpg.Record]", grown: Sequence[Growth]) -> set[UUID]:
    """Write what has grown, and where the database refuses that, what is left without those for whose sake it does.

    A tree that was set back as a whole looks sound, and grows into places that are taken. Tells whose are passed over.
    """
    if not grown:
        return set()
    try:
        await repository.write_growth(connection, grown)
    except NotGrown as error:
        if len(grown) == 1:
            [one] = grown
            _log.error("audit.tree_damaged", tenant=str(one.tenant_id), sqlstate=str(error), events=len(one.events))
            return {one.tenant_id}
        half = len(grown) // 2
        return await _written(connection, grown[:half]) | await _written(connection, grown[half:])
    return set()


async def _grown(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    tenant_id: UUID,
    waiting: list[tuple[UUID, bytes | None]],
    head: tuple[int, bytes | None],
) -> Growth:
    events = [(event_id, leaf) for event_id, leaf in waiting if leaf is not None]
    if len(events) < len(waiting):
        raise OutOfTree(f"{len(waiting) - len(events)} events that wait for a place are gone")
    size, stored = head
    tiles: tuple[TileHashes, ...] = ()
    if stored is None:  # sealed before there were trees
        frontier, tiles = await _regrown(connection, tenant_id)
    else:
        frontier = Frontier.from_bytes(stored)
    if frontier.size != size:
        raise OutOfTree(f"a tree of {frontier.size} events, of which {size} are counted")
    appended = frontier.append_many(leaf for _, leaf in events)
    return Growth(tenant_id, size + 1, tuple(events), appended.frontier, (*tiles, *appended.tiles))


async def _regrown(
    connection: "PoolConnectionProxy[asyncpg.Record]", tenant_id: UUID
) -> tuple[Frontier, tuple[TileHashes, ...]]:
    frontier, tiles = Frontier(), list[TileHashes]()
    while leaves := await repository.find_sealed_leaves(connection, tenant_id, after=frontier.size, limit=_LEAVES):
        appended = frontier.append_many(leaves)
        frontier = appended.frontier
        tiles += appended.tiles
    return frontier, tuple(tiles)
