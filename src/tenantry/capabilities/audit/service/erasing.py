"""Erases the beginning of a tenant's log, once it is old enough: signed for, then told, then done (ADR 0046).

    recorded     an event `audit.erased` stands in the trail, with the log's signature over what is to leave
    signed away  that event is under a signed checkpoint: the head says how many events have left
    swept        words, files of days and at last the events themselves are gone, in bounded steps

Each step may be done twice, and goes on from wherever another has died. What is signed is what the events themselves
say, by their hashed bytes: what was altered is not erased, nor what claims an age in a column.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.ports import Reserve
from tenantry.capabilities.audit.service.checkpoints import Notary
from tenantry.capabilities.audit.service.days import key_of
from tenantry.capabilities.audit.service.erasures import ERASED, Erasure, open_erasure
from tenantry.capabilities.audit.service.events import AuditService
from tenantry.capabilities.audit.types import LogExtent
from tenantry.capabilities.audit.types.words import BLOCK
from tenantry.engines.merkle.checkpoints import open_checkpoint
from tenantry.engines.merkle.errors import MerkleError
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.engines.merkle.proofs import consistency_plan, frontier_plan, verify_consistency
from tenantry.engines.merkle.tree import TILE_WIDTH, Frontier, leaf_hash
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.database.transfer import purge_lock
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, first_id_at, format_id, parse_id
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.telemetry import ERASURES_REFUSED

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = Callable[[], AbstractAsyncContextManager[PoolConnectionProxy[asyncpg.Record]]]

_MOST_TILES: Final = 256
"""Of one erasure: 65 536 events, which are read and hashed in its transaction."""
_PAGE: Final = 8 * TILE_WIDTH
_SWEPT: Final = 5000
_WORDS: Final = 20_000
_TOLD: Final = 20
_TENANTS: Final = 100

_log = structlog.get_logger(__name__)


async def list_erasable(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, before: datetime | None, after: UUID | None
) -> list[UUID]:
    """List tenants of whose logs something may leave, as the sealer: a hundred at most, behind one.

    With `before` None only what was signed away and is not swept yet.
    """
    oldest = UUID(int=0) if before is None else first_id_at(before)
    return await repository.list_erasable(connection, before=oldest, after=after, limit=_TENANTS)


def oldest_kept(now: datetime, *, days: int) -> datetime:
    """Give the moment before which events leave: a midnight (UTC), so that a log has an erasure a day at most."""
    return datetime.combine((now.astimezone(UTC) - timedelta(days=days)).date(), datetime.min.time(), UTC)


@dataclass(frozen=True, slots=True)
class Eraser:
    """Of one cell. `keys` gives those of all regions: a tenant that has moved brings what another has signed.

    With `days` 0 nothing new is signed away.
    """

    cell: Cell
    objects: ObjectStore
    notary: Notary
    keys: Callable[[], Sequence[VerifierKey]]
    reserve: Reserve
    days: int
    clock: Clock

    async def erase(self, tenant_id: UUID, sealing: "Sealing") -> bool:
        """Bring a log one step further; True: something waits for its checkpoint or may follow, call again soon.

        `sealing` opens a transaction as the sealer at the tenant's place. Raises what a session raises: of a tenant
        that moves, or is gone, nothing is erased.
        """
        await self._sweep(tenant_id, sealing)
        async with self._session(tenant_id) as session:
            indexed = await repository.take_index(session)
            extent = await repository.find_log_extent(session)
            if extent.swept < extent.erased:  # a hold, or a copy of the tenant's objects, keeps it
                return False
            told = await self._told(session, extent)
            if told is None:
                return self.days > 0 and await self._record(session, extent, indexed)
            erasure, sequence = told
            checkpoint = await repository.find_checkpoint(session, at_least=sequence or 0)
            if sequence is None or checkpoint is None:
                return True
            if await self.reserve.needed_from(session, before=self.clock.now()) is None:
                return False
            async with sealing() as connection:
                await repository.sign_away(connection, tenant_id, size=erasure.size)
        await self._sweep(tenant_id, sealing)
        return True

    async def _told(self, session: TenantSession, extent: LogExtent) -> tuple[Erasure, int | None] | None:
        """Find an erasure that was signed and recorded, and has not been done; with its place, None while it has none.

        What somebody else has written under its name, or is of another tree than there is, does not count.
        """
        origin = self.notary.origin(session.scope.tenant_id)
        for event in await repository.list_erasures(session, ERASED, limit=_TOLD):
            try:
                erasure = open_erasure(event.canonical, origin=origin, keys=self.keys())
                if extent.erased < erasure.size <= extent.size and erasure.root == await _root(session, erasure.size):
                    return erasure, event.sequence
            except MerkleError:
                continue
        return None

    async def _record(self, session: TenantSession, extent: LogExtent, indexed: int) -> bool:
        """Sign and tell what may leave now; False when nothing may."""
        checkpoint = await repository.find_checkpoint(session)
        if checkpoint is None:
            return False
        sent = await repository.find_least_position(session)
        bounds = [indexed, checkpoint.size, extent.erased + _MOST_TILES * TILE_WIDTH, *([] if sent is None else [sent])]
        most = min(bounds) // TILE_WIDTH * TILE_WIDTH
        if most <= extent.erased:
            return False
        before = oldest_kept(self.clock.now(), days=self.days)
        needed = await self.reserve.needed_from(session, before=before)
        if needed is None:
            return False
        origin = self.notary.origin(session.scope.tenant_id)
        try:
            edge = await _frontier(session, extent.erased)
            frontier = await self._walked(session, edge, until=most, before=min(needed, before))
            if frontier.size == extent.erased:
                return False
            signed = open_checkpoint(checkpoint.note, origin=origin, keys=self.keys(), at=checkpoint.made_at).checkpoint
            plan = consistency_plan(size1=frontier.size, size2=signed.size)
            verify_consistency(
                size1=frontier.size,
                root1=frontier.root,
                size2=signed.size,
                root2=signed.root,
                proof=plan.compute(await repository.find_hashes(session, plan.ranges)),
            )
        except MerkleError as error:
            ERASURES_REFUSED.labels(self.cell.region).inc()
            _log.error("audit.erasure_refused", tenant=str(session.scope.tenant_id), reason=str(error))
            return False
        await record_erasure(session, notary=self.notary, frontier=frontier, days=self.days, clock=self.clock)
        return True

    async def _walked(self, session: TenantSession, frontier: Frontier, *, until: int, before: datetime) -> Frontier:
        """Read events on from the edge, tile by tile, up to the first that is too young; give the edge then.

        Raises MerkleError for one that is not what its leaf says: to erase it would hide that it was altered.
        """
        while frontier.size < until:
            last = min(until, frontier.size + _PAGE)
            rows = await repository.list_log(session, after=frontier.size, until=last, limit=_PAGE)
            old = await asyncio.to_thread(_old_leaves, rows, frontier.size, before)
            frontier = frontier.append_many(old[: len(old) // TILE_WIDTH * TILE_WIDTH]).frontier
            if frontier.size < last:
                break
        return frontier

    async def _sweep(self, tenant_id: UUID, sealing: "Sealing") -> None:
        """Remove what was signed away: the words, then the files of days, then the events."""
        async with self._session(tenant_id) as session:
            extent = await repository.find_log_extent(session)
        if extent.swept >= extent.erased:
            return
        after: tuple[str, int] | None = ("", -1)
        while after is not None:
            async with self._session(tenant_id) as session:
                if await self._kept(session):
                    return
                below = extent.erased // BLOCK
                after = await repository.forget_words(session, below=below, after=after, limit=_WORDS)
        async with self._session(tenant_id) as session:
            if await self._kept(session) or not await self._sweep_days(session, extent.erased):
                return
        while extent.swept < extent.erased:
            async with self._session(tenant_id) as session:
                if await self._kept(session):
                    return
                async with sealing() as connection:
                    extent = await repository.sweep_events(connection, tenant_id, limit=_SWEPT)

    async def _kept(self, session: TenantSession) -> bool:
        """Tell whether a hold was placed since; until the transaction ends none is, and nobody else sweeps."""
        await repository.take_index(session)
        return await self.reserve.needed_from(session, before=self.clock.now()) is None

    async def _sweep_days(self, session: TenantSession, erased: int) -> bool:
        """Remove files of days that have left, have those written anew of which some has; False while they must stay.

        The file first: a crash then leaves a day that is removed once more, and no file that nobody knows of.
        """
        tenant_id = session.scope.tenant_id
        if not await session.fetchval("select pg_try_advisory_xact_lock_shared($1)", purge_lock(tenant_id)):
            return False
        for cut in await repository.list_cut_days(session, erased=erased):
            if cut.left:
                await repository.cut_day(session, cut, erased=erased, due_at=self.clock.now())
            else:
                await self.objects.delete(tenant_id, key_of(cut.day))
                await repository.delete_day(session, cut.day)
        return True

    def _session(self, tenant_id: UUID) -> TenantSession:
        # Lifecycle: what is over leaves a suspended tenant's log as well.
        return self.cell.session(TenantScope(tenant_id, self.cell.region, SYSTEM), lifecycle=True)


async def record_erasure(
    session: TenantSession, *, notary: Notary, frontier: Frontier, days: int, clock: Clock
) -> None:
    """Sign an erasure of all that the frontier has, and tell the tenant's trail of it. Raises Fault."""
    tenant_id = session.scope.tenant_id
    erasure = Erasure(notary.origin(tenant_id), clock.now(), frontier.size, frontier.root, days)
    await AuditService(session=session, clock=clock).record(
        "audit.erased",
        resource_type="tenant",
        resource_id=format_id(Prefix.TENANT, tenant_id),
        details=erasure.details(notary.noted(erasure.text)),
    )


async def attest_erasure(session: TenantSession, *, notary: Notary, clock: Clock) -> None:
    """Sign anew, of a log that has come from another installation, what had left it there; nothing where none has."""
    extent = await repository.find_log_extent(session)
    if extent.erased:
        frontier = await _frontier(session, extent.erased)
        await record_erasure(session, notary=notary, frontier=frontier, days=0, clock=clock)


async def _root(session: TenantSession, size: int) -> bytes:
    return (await _frontier(session, size)).root


async def _frontier(session: TenantSession, size: int) -> Frontier:
    """Compute what the edge of the tree was at an earlier size; raises MerkleError where hashes are missing."""
    plan = frontier_plan(size=size)
    return Frontier(size, plan.compute(await repository.find_hashes(session, plan.ranges)))


def _old_leaves(rows: Sequence[tuple[int, bytes, bytes]], after: int, before: datetime) -> list[bytes]:
    """Give the leaves of the events behind a place up to the first that is not older, by the id among its bytes."""
    leaves: list[bytes] = []
    for sequence, canonical, leaf in rows:
        if sequence != after + len(leaves) + 1 or leaf_hash(canonical) != leaf:
            raise MerkleError(f"event {after + len(leaves) + 1} is not as it was sealed")
        try:
            event_id = parse_id(Prefix.AUDIT_EVENT, json.loads(canonical)["id"])
        except (ValueError, KeyError, TypeError, Invalid):
            raise MerkleError(f"event {sequence} is none") from None
        if event_id >= first_id_at(before):
            break
        leaves.append(leaf)
    return leaves
