"""Carries queue entries between the databases that tenants have for themselves and the queue of their cell.

A tenant's session writes its entries beside its jobs, wherever those lie, so they commit together. Where that is a
database of its own, no worker claims there: what is new, cancelled or finished is told to the cell's queue, and a
claim is noted back before the job begins, so that the attempt fences the tenant's own transactions as everywhere.
Weights and caps are told before the entries they are for. Each step may be repeated: an entry is known by its job, and
a finished one is forgotten here last; a share is what it was last set to.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.types import CANCELLATION, RemoteEntry, RemoteShare
from tenantry.engines.fairqueue.types import Cancellation, Claim, Lapsed, Ticket
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import SHARED, is_schema
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_BATCH: Final = 200


class OwnDatabases(Protocol):
    """The dispatcher's way into the databases of a cell that single tenants have."""

    def own_databases(self) -> AsyncIterator[str]:
        """Give each by its place's name; those that do not answer are passed over."""
        ...

    def queue_of(self, place: str) -> "AbstractAsyncContextManager[PoolConnectionProxy[asyncpg.Record]]":
        """Open a transaction on the queue's tables of one; raises Unavailable."""
        ...


class QueueRelay:
    """One for each worker process; several may run at once."""

    def __init__(self, *, cell: Cell, databases: OwnDatabases) -> None:
        self._cell = cell
        self._databases = databases

    async def relay(self) -> int:
        """Tell the cell's queue what is new; gives how many entries and shares it was."""
        told = 0
        async for place in self._databases.own_databases():
            told += await self._relay_shares(place)
            while True:
                more = False
                async with self._databases.queue_of(place) as connection:
                    entries = await repository.lock_remote_entries(connection, limit=_BATCH)
                    if entries:  # most looks find none: they end here
                        gone = [entry.job_id for entry in entries if await self._tell(entry)]
                        more = await repository.settle_remote_entries(connection, entries, gone=gone)
                told += len(entries)
                if len(entries) < _BATCH or not more:
                    break
        return told

    async def _relay_shares(self, place: str) -> int:
        """Tell all that were changed; those that somebody is just changing are told the next time."""
        told = 0
        while True:
            async with self._databases.queue_of(place) as connection:
                shares = await repository.lock_remote_shares(connection, limit=_BATCH)
                if shares:
                    for share in shares:
                        await self._tell_share(share)
                    await repository.settle_remote_shares(connection, shares)
            told += len(shares)
            if len(shares) < _BATCH:
                return told

    async def _tell_share(self, share: RemoteShare) -> None:
        """Set it in the cell's queue, and commit there before it is settled here."""
        keys = (share.tenant_id,) if share.workspace_id is None else (share.tenant_id, share.workspace_id)
        async with await self._at_the_queue(share.tenant_id, None) as session:
            connection = await session.connection()
            if await QUEUE.set_share(connection, keys=keys, weight=share.weight, most_running=share.most_running):
                await repository.wake_workers(session, "")

    async def note(self, claim: Claim) -> None:
        """Note a claim where the tenant's own transactions look; raises Unavailable: then the job must not begin."""
        # Of a place in the cell's database that it has left meanwhile, the start is refused, and this asked anew.
        place = await self._own_database(claim.levels[0])
        if place is None:
            return
        async with self._databases.queue_of(place) as connection:
            await repository.note_remote_claim(connection, claim.ticket)

    async def finish(self, lapsed: Lapsed, *, used_slot_seconds: float) -> None:
        """End a claim in the cell's queue that was decided on where its tenant's own entries are. Idempotent.

        Until then it is one to decide on; and where nothing lies there any more, nobody else would tell.
        """
        tenant_id, workspace_id, _ = lapsed.levels
        if await self._own_database(tenant_id) is None:
            return
        async with await self._at_the_queue(tenant_id, workspace_id) as session:
            connection = await session.connection()
            await QUEUE.finish(connection, ticket=lapsed.ticket, used_slot_seconds=used_slot_seconds)

    async def _own_database(self, tenant_id: UUID) -> str | None:
        """Name the place of a tenant's own database; None of one whose entries are in the cell's queue."""
        place = self._cell.places.known(tenant_id)
        if place is None or not is_schema(place.name):
            place = await self._cell.places.find(tenant_id)
        return None if is_schema(place.name) else place.name

    async def _at_the_queue(
        self, tenant_id: UUID, workspace_id: UUID | None
    ) -> AbstractAsyncContextManager[TenantSession]:
        """Open a session of a tenant where the cell's queue is."""
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM, workspace_id=workspace_id)
        return await self._cell.session_at(SHARED, scope, lifecycle=True)

    async def _tell(self, entry: RemoteEntry) -> bool:
        """Repeat one entry's state in the cell's queue; says whether it may be forgotten here.

        Commits there before it is settled here.
        """
        async with await self._at_the_queue(entry.tenant_id, entry.workspace_id) as session:
            connection = await session.connection()
            if entry.used_slot_seconds is not None:
                ticket = Ticket(entry.tenant_id, entry.job_id, entry.attempt)
                await QUEUE.finish(connection, ticket=ticket, used_slot_seconds=entry.used_slot_seconds)
                return True
            if entry.cancel_requested:
                known = await QUEUE.cancel(connection, first=entry.tenant_id, entry=entry.job_id)
                await repository.wake_workers(session, CANCELLATION)
                return known is not Cancellation.REQUESTED and entry.attempt == 0
            if not await repository.is_queued(session, entry.job_id):
                await QUEUE.enqueue(
                    connection,
                    levels=(entry.tenant_id, entry.workspace_id, entry.principal_id),
                    entry=entry.job_id,
                    estimate_seconds=entry.estimate_seconds,
                    slots=entry.slots,
                    labels=entry.labels,
                )
                await repository.wake_workers(session, "")
            return False
