"""What follows the sealed audit events of a cell: streams to elsewhere, the index of words, the files of days.

Loops apart from the request's path and from each other: a sink that hangs holds up itself, and no index waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.audit.adapters.file_sink import FileSink
from tenantry.capabilities.audit.adapters.object_sink import ObjectSink
from tenantry.capabilities.audit.errors import NotTakenError
from tenantry.capabilities.audit.ports import Sink
from tenantry.capabilities.audit.service import (
    DayWriter,
    IndexService,
    Streaming,
    TargetSeals,
    list_due_days,
    list_due_streams,
    list_unindexed,
)
from tenantry.capabilities.audit.types.streams import AuditStream, Batch, DueDay, DueStream, StreamKind, Target
from tenantry.capabilities.notifications.adapters.resolving import Resolver
from tenantry.capabilities.notifications.adapters.webhook import WebhookSender
from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.service import StreamAddresses
from tenantry.capabilities.notifications.types import Address
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from tenantry.foundation.database.pool import Pool

_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 32
"""Streams; between their sendings they hold no connection."""
_PASSED_SECONDS: Final = 5.0
"""The same of one for which there was nothing to do after all."""
_INDEX_SECONDS: Final = 0.5
"""The same of one whose events are all indexed: what it does meanwhile is taken together."""
_BULKY_AT_ONCE: Final = 2
"""Tenants whose files are written, or whose events are indexed: each holds a connection all the while."""
_REST_SECONDS: Final = 15.0
"""How long a tenant that is suspended or moving, or whose database is away, is left alone."""
_BATCHES_OF_A_TURN: Final = 32

_log = structlog.get_logger(__name__)


class _OfATenant(Hashable, Protocol):
    @property
    def tenant_id(self) -> UUID: ...


Due = TypeVar("Due", bound=_OfATenant)
ListDue = Callable[
    ["PoolConnectionProxy[asyncpg.Record]", int, Collection[UUID], Collection[Due]], Awaitable[list[Due]]
]
"""Lists, as the dispatcher, at most so many; without these tenants, and without what is running."""


class WebhookSink:
    """The `Sink` port for webhooks: a signed POST, as notices are sent, of a batch a time."""

    def __init__(self, sender: WebhookSender) -> None:
        self._sender = sender

    async def take(self, stream: AuditStream, target: Target | None, batch: Batch) -> None:
        if target is None:
            raise NotTakenError("not_configured", lasting=True)
        headers = {
            "Content-Type": batch.media_type,
            "X-Tenantry-Stream": format_id(Prefix.AUDIT_STREAM, stream.stream_id),
            "X-Tenantry-First": str(batch.first),
            "X-Tenantry-Last": str(batch.last),
        }
        try:
            await self._sender.post(Address(target.url, target.secret), batch.array, headers=headers)
        except NotSentError as error:
            raise NotTakenError(error.code, lasting=error.lasting) from None


class Sinks:
    """What takes batches, by kind of stream; of one cell and process."""

    def __init__(self, parts: Parts, cell: Cell) -> None:
        settings, clock = parts.settings, parts.clock
        self._resolver = Resolver(allow_private=settings.notifications.allow_private_addresses)
        self._webhooks = WebhookSender(self._resolver, clock=clock)
        self.by_kind: dict[StreamKind, Sink] = {
            StreamKind.WEBHOOK: WebhookSink(self._webhooks),
            StreamKind.FILE: FileSink(settings.audit.stream_directories, clock=clock),
            StreamKind.OBJECT: ObjectSink(parts.objects[cell.region]),
        }

    async def close(self) -> None:
        await self._webhooks.close()
        self._resolver.close()


class Follower(Generic[Due]):
    """Does what is due in each place of a cell, some at once; a tenant where that fails is left alone for a while."""

    def __init__(
        self,
        parts: Parts,
        cell: Cell,
        *,
        table: str,
        list_due: ListDue[Due],
        work: Callable[[Due], Awaitable[bool]],
        at_once: int,
        pause_seconds: float = _PASSED_SECONDS,
    ) -> None:
        """`work` tells whether there may be more for that tenant; where not, it is left alone for the pause."""
        self.rounds = Rounds(
            parts.addresses.cells[cell.region].dispatcher,
            region=cell.region,
            directory=parts.directory,
            clock=parts.clock,
        )
        self._name = f"{table}-{cell.region}"
        self._table = table
        self._clock = parts.clock
        self._list_due = list_due
        self._work = work
        self._at_once = at_once
        self._pause_seconds = pause_seconds
        self._running: dict[tuple[str, Due], asyncio.Task[None]] = {}
        self._resting: dict[tuple[str, UUID], float] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        await forever(self._name, self.look, seconds=_LOOK_SECONDS, wake=self._wake)

    async def look(self) -> int:
        """Begin as much of what is due as there is room for; tells how much.

        Each place may have one going, however busy others are.
        """
        begun = 0
        async for place, pool, schema in self.rounds.waiting(self._table):
            at = f"{place}/{schema}"
            going = sum(1 for where, _ in self._running if where == at)
            if (room := max(self._at_once - len(self._running), 1 - going)) > 0:
                begun += await self._begin(place, pool, schema, room)
            else:
                self.rounds.stir(place)
        return begun

    @property
    def busy(self) -> bool:
        return bool(self._running)

    async def settled(self) -> None:
        """Wait until nothing is being done."""
        while self._running:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self) -> None:
        """Give up what is being done, which is due again when its lease ends."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.rounds.close()

    async def _begin(self, place: str, pool: "Pool", schema: str, room: int) -> int:
        at = f"{place}/{schema}"
        running = [due for where, due in self._running if where == at]
        try:
            async with platform_session(pool, schema=schema) as connection:
                found = await self._list_due(connection, room, self._rested(at), running)
        except (TenantryError, asyncpg.PostgresError) as error:  # it keeps none of the others waiting
            _log.warning("follower.place_unavailable", follower=self._name, reason=type(error).__name__)
            return 0
        fresh = [due for due in found if (at, due) not in self._running]
        for due in fresh:
            self._running[at, due] = asyncio.create_task(self._do(due, place, at))
        return len(fresh)

    async def _do(self, due: Due, place: str, at: str) -> None:
        now = self._clock.monotonic()
        try:
            if await self._work(due):
                self.rounds.stir(place)
                self._wake.set()
            else:  # another process is at it; or what is seen here is left of a tenant that has moved
                self._resting[at, due.tenant_id] = now + self._pause_seconds
                asyncio.get_running_loop().call_later(self._pause_seconds, self.rounds.stir, place)
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
            code = error.code if isinstance(error, TenantryError) else type(error).__name__
            _log.warning("follower.tenant_rests", follower=self._name, tenant=str(due.tenant_id), code=code)
            self._resting[at, due.tenant_id] = now + _REST_SECONDS
        finally:
            del self._running[at, due]

    def _rested(self, at: str) -> set[UUID]:
        now = self._clock.monotonic()
        for key in [key for key, until in self._resting.items() if until <= now]:
            del self._resting[key]
        return {tenant_id for where, tenant_id in self._resting if where == at}


@dataclass(frozen=True, slots=True)
class DueIndex:
    tenant_id: UUID


async def _list_unindexed(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    limit: int,
    resting: Collection[UUID],
    running: Collection[DueIndex],
) -> list[DueIndex]:
    without = {*resting, *(due.tenant_id for due in running)}
    return [DueIndex(each) for each in await list_unindexed(connection, limit=limit, without=without)]


@dataclass(frozen=True, slots=True)
class _Indexing:
    parts: Parts
    cell: Cell

    async def index(self, due: DueIndex) -> bool:
        """Take a tenant's next events, some thousands at most; tells whether there may be more."""
        # Lifecycle: also what happens to a suspended tenant can be searched at once when it is resumed.
        scope = TenantScope(tenant_id=due.tenant_id, region=self.cell.region, actor=SYSTEM)
        clock, day_seconds = self.parts.clock, self.parts.settings.audit.day_seconds
        for _ in range(_BATCHES_OF_A_TURN):
            async with self.cell.session(scope, lifecycle=True) as session:
                if not await IndexService(session=session, clock=clock, day_seconds=day_seconds).index():
                    return False
        return True


class AuditFollowers:
    """All that follows the events of one cell; `stir` it where events were sealed."""

    def __init__(self, parts: Parts, cell: Cell, *, sinks: Mapping[StreamKind, Sink] | None = None) -> None:
        """`sinks`: others than the installation's."""
        settings, clock = parts.settings, parts.clock
        objects = parts.objects[cell.region]
        self._sinks = Sinks(parts, cell)
        streaming = Streaming(
            cell=cell,
            sinks=self._sinks.by_kind if sinks is None else sinks,
            addresses=StreamAddresses.of(settings.notifications),
            seals=TargetSeals(parts.keyrings[cell.region]),
            patience=timedelta(days=settings.audit.stream_patience_days),
            clock=clock,
        )
        writer = DayWriter(cell=cell, objects=objects, clock=clock, day_seconds=settings.audit.day_seconds)
        self.streams = Follower[DueStream](
            parts,
            cell,
            table="audit_streams",
            list_due=lambda connection, limit, resting, running: list_due_streams(
                connection, now=clock.now(), limit=limit, resting=resting, running=running
            ),
            work=streaming.send,
            at_once=_AT_ONCE,
        )
        self.days = Follower[DueDay](
            parts,
            cell,
            table="audit_days",
            list_due=lambda connection, limit, resting, _running: list_due_days(
                connection, now=clock.now(), limit=limit, without=resting
            ),
            work=writer.write,
            at_once=_BULKY_AT_ONCE,
        )
        self.index = Follower[DueIndex](
            parts,
            cell,
            table="audit_heads",
            list_due=_list_unindexed,
            work=_Indexing(parts, cell).index,
            at_once=_BULKY_AT_ONCE,
            pause_seconds=_INDEX_SECONDS,
        )

    @property
    def _all(self) -> "tuple[Follower[DueStream], Follower[DueDay], Follower[DueIndex]]":
        return self.streams, self.days, self.index

    def stir(self, place: str) -> None:
        """Look at a place next time: events were sealed there."""
        for each in self._all:
            each.rounds.stir(place)

    async def run(self) -> None:
        await asyncio.gather(*(each.run() for each in self._all))

    async def close(self) -> None:
        for each in self._all:
            await each.close()
        await self._sinks.close()
