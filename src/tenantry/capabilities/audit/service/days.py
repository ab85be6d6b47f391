"""The file of each day of a tenant, `audit/YYYY-MM-DD.jsonl` among its objects: a line an event, flat, in the sequence.

A file is made of what the database has of the day, and replaces the one before as a whole: a crash at any moment leaves
the old or the new, no half line and no event twice. It is due some time after its last event, later the bigger it is,
and once more when its day (UTC, by `occurred_at`) is over: then it is read back, and closed with its digest.
An event that commits after that opens the day again, and so does who forgets something that it says, and who finds
that its lease was lost while it wrote.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import day_not_found
from tenantry.capabilities.audit.service.documents import flat_line
from tenantry.capabilities.audit.types import AuditFilter
from tenantry.capabilities.audit.types.streams import AuditDay, DueDay
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.database.transfer import purge_lock
from tenantry.foundation.errors import Denied, NotFound
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_LEASE: Final = timedelta(minutes=15)
_WRITE_SECONDS: Final = 600.0
"""A write that has not ended by then is given up, well before another may begin."""
_AFTER_MIDNIGHT: Final = timedelta(minutes=10)
"""How long a day that is over waits for what commits late."""
_PAGE: Final = 250


def key_of(day: date) -> str:
    """Name a day's file among the tenant's objects."""
    return f"audit/{day.isoformat()}.jsonl"


class DayWriter:
    """Of one cell."""

    def __init__(self, *, cell: Cell, objects: ObjectStore, clock: Clock, day_seconds: float) -> None:
        self._cell = cell
        self._objects = objects
        self._clock = clock
        self._again = timedelta(seconds=day_seconds)

    async def write(self, due: DueDay) -> bool:
        """Write a day's file, or close it; False when it is not due any more, or another's.

        Raises what the session and the store raise: it is due again when the lease ends.
        """
        now = self._clock.now()
        lease = now + _LEASE
        async with self._session(due.tenant_id) as session:
            claimed = await repository.claim_day(session, due.day, now=now, until=lease)
        if claimed is None:
            return False
        day, epoch = claimed
        over = datetime.combine(due.day, datetime.min.time(), UTC) + timedelta(days=1) + _AFTER_MIDNIGHT
        try:
            if day.written < day.last or not await stands(self._objects, due.tenant_id, day):
                written = await self._written(due.tenant_id, day)
                next_at: datetime | None = self._clock.now() + self._again if written is None else max(over, now)
                day = written or day
            else:
                day = replace(day, closed_at=self._clock.now() if now >= over else None)
                next_at = None if day.closed_at else over
        except Exception:  # what was put may stand all the same
            await self._mend(due, epoch=epoch, lease=lease)
            raise
        again_at = self._clock.now() + self._again
        try:
            async with self._session(due.tenant_id) as session:
                noted = await repository.note_day(session, day, epoch=epoch, due_at=next_at, reopened_due_at=again_at)
            if not noted:
                await self._mend(due, epoch=epoch, lease=lease)
        except Denied:
            # Deleted meanwhile, perhaps erased: what came after that would stay behind. A suspended one's is made anew.
            await self._objects.delete(due.tenant_id, key_of(due.day))
            raise
        return noted

    async def _mend(self, due: DueDay, *, epoch: int, lease: datetime) -> None:
        """Have the file made anew if the lease was lost: what was put late may say what was forgotten meanwhile."""
        async with self._session(due.tenant_id) as session:
            if await repository.reopen_day(session, due.day, epoch=epoch, lease=lease, now=self._clock.now()):
                return
            if await repository.find_day(session, due.day) is None:
                await self._objects.delete(due.tenant_id, key_of(due.day))  # erased meanwhile, with all its events

    async def _written(self, tenant_id: UUID, day: AuditDay) -> AuditDay | None:
        """Write the file from one transaction; None while the tenant's objects must stay as they are."""
        seen, size = hashlib.sha256(), 0
        async with asyncio.timeout(_WRITE_SECONDS), self._session(tenant_id) as session:
            # Shared, as by purges: whoever copies the tenant's objects into an archive or elsewhere excludes it.
            if not await session.fetchval("select pg_try_advisory_xact_lock_shared($1)", purge_lock(tenant_id)):
                return None

            async def content() -> AsyncIterator[bytes]:
                nonlocal size
                after = day.first - 1
                while after < day.last:
                    piece, after = await day_lines(session, day, after=after)
                    seen.update(piece)
                    size += len(piece)
                    if piece:
                        yield piece

            await self._objects.put(tenant_id, key_of(day.day), content())
        return replace(day, written=day.last, size_bytes=size, sha256=seen.digest(), closed_at=None)

    def _session(self, tenant_id: UUID) -> TenantSession:
        # Without the right to pass a suspension: a suspended tenant's files wait as all else of it does.
        return self._cell.session(TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM))


async def stands(objects: ObjectStore, tenant_id: UUID, day: AuditDay) -> bool:
    """Say whether the file is what was written last: an import brings none, and a writer may have lost its lease."""
    try:
        stat = await objects.stat(tenant_id, key_of(day.day))
    except NotFound:
        return False
    return day.sha256 is not None and (stat.size, stat.sha256) == (day.size_bytes, day.sha256.hex())


class DayService:
    """Days of the session's tenant."""

    def __init__(self, *, session: TenantSession) -> None:
        self._session = session

    async def get(self, day: date) -> AuditDay:
        found = await repository.find_day(self._session, day)
        if found is None:
            raise day_not_found()
        return found

    async def list_days(self, *, before: date | None = None, limit: int = 50) -> list[AuditDay]:
        """Newest first."""
        return await repository.list_days(self._session, before=before, limit=limit)

    async def lines(self, day: AuditDay, *, after: int) -> tuple[bytes, int]:
        """Give some lines of a day from behind a place, and the place up to which was looked."""
        return await day_lines(self._session, day, after=after)


async def day_lines(session: TenantSession, day: AuditDay, *, after: int) -> tuple[bytes, int]:
    """Give the lines of those events of a day that are among the next places; bounded, perhaps empty."""
    start = datetime.combine(day.day, datetime.min.time(), UTC)
    asked = AuditFilter(since=start, until=start + timedelta(days=1))
    last = min(after + _PAGE, day.last)
    events = await repository.find_sealed(session, asked, first=after + 1, last=last, descending=False)
    return b"".join(flat_line(event) for event in events), last


async def list_due_days(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, now: datetime, limit: int, without: Collection[UUID]
) -> list[DueDay]:
    """List days whose file is due, as the dispatcher."""
    return await repository.list_due_days(connection, now=now, limit=limit, without=without)
