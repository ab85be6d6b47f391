"""Moves of a tenant: between isolation strategies, and between regions where two administrators have agreed.

    provision  the new place is made, empty and behind the fence
    drain      to another region only: no new work, until what runs has ended; what lives is stopped, its files kept
    freeze     read only: writes are refused with 503 and Retry-After, reads go on
    copy       all rows, in one transaction, counted and summed up on both sides
    files      to another region only: objects and images
    switch     the directory says where it is, the old place says `moved`, the new one opens
    announce   the tenant's trail says it
    close      after the grace period the old rows, files or place are removed

Each step may be done again. Until the directory says otherwise the old place is the tenant's, and a move that is called
off or given up opens it again and removes what has arrived at the new one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final

import structlog

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import AuditFilter, Outcome
from tenantry.capabilities.tenants.errors import move_overdue
from tenantry.capabilities.tenants.ports import Drain, Provisioner, TenantStore
from tenantry.capabilities.tenants.service.operations import DONE, Next, OperationLog
from tenantry.capabilities.tenants.types import REVOCATIONS, Isolation, Operation, OperationStatus, Seat
from tenantry.foundation.changes import CHANGES, EVERYTHING
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.database.places import SHARED, is_schema, schema_at
from tenantry.foundation.database.transfer import RowsDigest, TenantRows, copy_rows, digest_of_all, open_rows
from tenantry.foundation.errors import Fault, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM, TenantScope

PROVISION: Final = "provision"
_UNTOLD: Final = "(state = 'new' or cancel_requested or used_slot_seconds is not null)"
# No worker serves this label: what waits in the queue is kept, and takes nobody's slot, until the tenant has arrived.
_PARKED: Final = "tenantry:parked"
_SETTLE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05
_PARK: Final = """
    with gone as (
        delete from queue.entries where tenant_id = $1 and state <> 'claimed' and not cancel_requested
            and used_slot_seconds is null and ($2 = any (labels)) = $3
        returning tenant_id, workspace_id, principal_id, job_id, estimate_seconds, slots, labels, enqueued_at, attempt
    )
    insert into queue.entries (tenant_id, workspace_id, principal_id, job_id, estimate_seconds, slots, labels,
                               enqueued_at, attempt)
    select tenant_id, workspace_id, principal_id, job_id, estimate_seconds, slots,
           case when $3 then array_remove(labels, $2) else labels || $2 end, enqueued_at, attempt from gone
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class MoverAccess:
    """As whom to move the tenants of one region: the mover's address of the cell, and its contexts."""

    dsn: str
    signer: ContextSigner


class Moves:
    """The steps of a move; `access` by region, `drain_seconds` how long a tenant has to come to rest."""

    interruptible: ClassVar[frozenset[str]] = frozenset({"copy", "files"})

    def __init__(
        self,
        *,
        log: OperationLog,
        cells: Cells,
        access: Mapping[str, MoverAccess],
        provisioner: Provisioner,
        stores: Mapping[str, TenantStore],
        drains: Sequence[Drain],
        drain_seconds: int,
        clock: Clock,
    ) -> None:
        self._log = log
        self._cells = cells
        self._access = access
        self._provisioner = provisioner
        self._stores = stores
        self._drains = drains
        self._patience = timedelta(seconds=drain_seconds)
        self._clock = clock

    async def run(self, operation: Operation) -> Next:
        """Do `operation.step`; see the table above."""
        steps = {
            PROVISION: self._provision,
            "drain": self._drain,
            "freeze": self._freeze,
            "copy": self._copy,
            "files": self._files,
            "switch": self._switch,
            "announce": self._announce,
            "close": self._close,
        }
        return await steps[operation.step](operation)

    async def abandon(self, operation: Operation) -> None:
        """Open the old place again, tell its trail, and remove what has arrived at the new one: in this order.

        So the tenant works again even where the new place cannot be reached for a while.
        """
        await self._open_again(operation)
        await self._tell_end(operation)
        await self._remove(operation, gone=operation.target, stays=operation.source)

    async def _provision(self, operation: Operation) -> Next:
        await self._provisioner.make(region=operation.target.region, place=operation.target.place)
        return Next("drain" if _crosses(operation) else "freeze")

    async def _drain(self, operation: Operation) -> Next:
        """Refuse new work and wait for what runs; workers may still write its end."""
        async with self._rows(operation, operation.source) as rows:
            mode, home = await _state_of(rows)
            if mode == "active":
                await rows.place("draining", home=home)
        await self._park(operation, operation.source, back=False)
        scope = TenantScope(tenant_id=operation.tenant_id, region=operation.source.region, actor=SYSTEM)
        async with self._cells.session(scope, lifecycle=True) as session:
            for each in self._drains:
                await each.drain(session)
        async with self._rows(operation, operation.source) as rows:
            running = await rows.count("jobs", "status = 'running'")
        if running:
            self._require_patience(operation, f"{running} jobs run still")
            raise Unavailable("tenant_draining", f"{running} jobs run still", layer="tenants", retry_after=2)
        return Next("freeze")

    def _require_patience(self, operation: Operation, waited_for: str) -> None:
        """Raise Fault `move_overdue` for a move that has waited too long for its tenant to come to rest."""
        if self._clock.now() - operation.step_since >= self._patience:
            raise move_overdue(waited_for, seconds=int(self._patience.total_seconds()))

    async def _freeze(self, operation: Operation) -> Next:
        """Close the old place to writes, and wait for those already under way."""
        async with self._rows(operation, operation.source) as rows:
            _, home = await _state_of(rows)
            await rows.place("read_only", home=home)
            number = await rows.transaction_number()
        await self._park(operation, operation.source, back=False)
        deadline = self._clock.monotonic() + _SETTLE_SECONDS
        while (unsettled := await self._unsettled(operation, number)) is not None:
            if self._clock.monotonic() > deadline:
                self._require_patience(operation, unsettled)
                raise Unavailable("tenant_unsettled", f"what was under way goes on: {unsettled}", layer="tenants")
            await asyncio.sleep(_LOOK_SECONDS)
        return Next("copy")

    async def _unsettled(self, operation: Operation, number: int) -> str | None:
        """Name what a copy taken now would miss: a write under way, an event or queue entry on its way elsewhere."""
        async with self._rows(operation, operation.source) as rows:
            if await rows.oldest_transaction() <= number:
                return "older transactions"
            if await rows.count("audit_unsealed"):
                return "events without their sequence"
            if await rows.count("audit_unsigned"):  # only behind the other: what is sealed is unsigned in one commit
                return "events without their checkpoint"
            untold = not is_schema(operation.source.place) and await rows.count("queue.entries", _UNTOLD)
        return "queue entries on their way to the cell" if untold else None

    async def _copy(self, operation: Operation) -> Next:
        """Copy everything in one transaction at the new place; nothing of an earlier try is left there."""
        source, target = operation.source, operation.target
        async with (
            self._rows(operation, source, snapshot=True) as ours,
            self._rows(operation, target) as theirs,
        ):
            tables = await ours.tables()
            for table in reversed(await theirs.tables()):
                await theirs.delete(table)
            digests = {table.name: await copy_rows(ours, theirs, table) for table in tables}
            if not _same_database(operation):
                await theirs.place("read_only", home=schema_at(target.place))
                digests |= await self._copy_queue(operation, ours, theirs)
            await theirs.execute(
                "update tenants set region = $1, isolation = $2, version = version + 1",
                target.region,
                target.isolation.value,
            )
            if _crosses(operation):
                await theirs.execute("update workspaces set region = $1, version = version + 1", target.region)
        _log.info(
            "move.copied",
            operation=operation.operation_id.hex,
            tables=len(digests),
            rows=sum(digest.rows for digest in digests.values()),
            sum=digest_of_all(digests),
        )
        return Next("files" if _crosses(operation) else "switch")

    async def _copy_queue(self, operation: Operation, ours: TenantRows, theirs: TenantRows) -> dict[str, RowsDigest]:
        """Copy what waits in the queue: as if newly enqueued where another cell's workers take it, else as it is.

        From a database of its own to its cell nothing is copied but what is due: the cell's queue has the entries.
        """
        digests = {}
        to_cell = is_schema(operation.target.place) and not _crosses(operation)
        for table in await ours.tables(queue=True):
            if to_cell and table.name == "entries":
                continue
            await theirs.delete(table)
            # Shares go as if just set: whether the queue there had taken them in is not known here.
            columns = table.given if _crosses(operation) or table.name == "shares" else table.columns
            digests[table.qualified] = await copy_rows(ours, theirs, table, columns=columns)
            if table.name == "entries":
                await theirs.execute(
                    "update queue.entries set labels = array_remove(labels, $2) where tenant_id = $1",
                    operation.tenant_id,
                    _PARKED,
                )
        return digests

    async def _park(self, operation: Operation, seat: Seat, *, back: bool) -> None:
        """Take what waits of the tenant out of the turn of its cell's queue, or put it back."""
        async with self._rows(operation, _shared(seat)) as cell:
            await cell.execute(_PARK, operation.tenant_id, _PARKED, back)

    async def _files(self, operation: Operation) -> Next:
        async with self._rows(operation, operation.source) as held:
            await held.hold_purges()  # one that had begun before the freeze removes its objects still
            for store in self._stores.values():
                await store.copy(operation.tenant_id, source=operation.source.region, target=operation.target.region)
        return Next("switch")

    async def _switch(self, operation: Operation) -> Next:
        """Change over while nobody vouches for what the tenant was at the old place."""
        async with AsyncExitStack() as closed:
            for region in {operation.source.region, operation.target.region}:
                await closed.enter_async_context(self._cells.get(region).all_changes(operation.tenant_id))
            await self._change_over(operation)
        return Next("announce")

    async def _change_over(self, operation: Operation) -> None:
        """Tell the directory, close the old place, open the new one: in this order no write can be lost.

        With the first the move is done, whatever comes: from then on it cannot be called off. Until the last nobody
        writes anywhere, so nothing that was read or written elsewhere is missed at the new place.
        """
        tenant_id, source, target = operation.tenant_id, operation.source, operation.target
        await self._log.switch(operation)
        if not is_schema(source.place) or _crosses(operation):
            async with self._rows(operation, source) as rows:
                await rows.place("moved", home=schema_at(source.place))
        if _crosses(operation):
            async with self._rows(operation, _shared(source)) as cell:
                await cell.place("moved", home=source.place)
                # It is in the other cell's queue by now: workers here would ask for it in vain.
                await cell.execute("delete from queue.entries where tenant_id = $1", tenant_id)
        async with self._rows(operation, target) as rows:
            await rows.place(await _status_of(rows), home=schema_at(target.place))
        if not is_schema(target.place):
            async with self._rows(operation, _shared(target)) as cell:
                await cell.place("active", home=target.place)
        if not _crosses(operation):
            await self._park(operation, target, back=True)
        for seat in (source, target):
            async with self._rows(operation, _shared(seat)) as cell:
                await cell.execute("select pg_notify($1, $2)", CHANGES, f"{tenant_id.hex}/{EVERYTHING}")
                await cell.execute("select pg_notify($1, $2)", REVOCATIONS, tenant_id.hex)

    async def _announce(self, operation: Operation) -> Next:
        """Tell the tenant's trail."""
        asked = {"requested_by": operation.requested_by, "confirmed_by": operation.confirmed_by}
        await self._record("tenant.moved", operation, at=operation.target, details=asked)
        return Next("close", at=self._clock.now() + timedelta(seconds=operation.grace_seconds))

    async def _tell_end(self, operation: Operation) -> None:
        """Tell the trail of a tenant that stays where it was."""
        source, details = operation.source, {"step": operation.step}
        if operation.ending is OperationStatus.FAILED:
            failure = operation.failure
            await self._record("tenant.move_failed", operation, at=source, details=details, failure=failure)
        else:
            details["cancelled_by"] = operation.cancelled_by or ""
            await self._record("tenant.move_cancelled", operation, at=source, details=details)

    async def _record(
        self,
        action: str,
        operation: Operation,
        *,
        at: Seat,
        details: Mapping[str, str | None],
        failure: str | None = None,
    ) -> None:
        """Record an event at one place of the tenant, once however often it is told."""
        scope = TenantScope(tenant_id=operation.tenant_id, region=at.region, actor=SYSTEM)
        name = format_id(Prefix.OPERATION, operation.operation_id)
        ways = (("from", operation.source), ("to", operation.target))
        moved = {way: {"region": seat.region, "isolation": seat.isolation.value} for way, seat in ways}
        async with self._cells.session(scope, lifecycle=True) as session:
            audit = AuditService(session=session, clock=self._clock)
            if not await audit.list_events(AuditFilter(action=action, resource=name), limit=1):
                await audit.record(
                    action,
                    resource_type="operation",
                    resource_id=name,
                    outcome=Outcome.ERROR if failure else Outcome.SUCCESS,
                    reason=failure,
                    details={**moved, **details},
                )

    async def _close(self, operation: Operation) -> Next:
        """Remove what the tenant has left behind."""
        await self._remove(operation, gone=operation.source, stays=operation.target)
        return Next(DONE)

    async def _remove(self, operation: Operation, *, gone: Seat, stays: Seat) -> None:
        """Remove everything of the tenant at one place; `stays` is the one it lives at."""
        if gone.place == SHARED:
            async with self._rows(operation, gone) as rows:
                for table in reversed(await rows.tables()):
                    await rows.delete(table)
        else:
            await self._provisioner.remove(region=gone.region, place=gone.place)
        if _crosses(operation):
            async with self._rows(operation, _shared(gone)) as cell:
                for table in await cell.tables(queue=True):
                    await cell.delete(table)
                await cell.forget()
            for store in self._stores.values():
                await store.erase(operation.tenant_id, region=gone.region)
        elif is_schema(gone.place) and not is_schema(stays.place):
            async with self._rows(operation, _shared(gone)) as cell:
                await cell.execute("delete from queue.purges where tenant_id = $1", operation.tenant_id)

    async def _open_again(self, operation: Operation) -> None:
        source = operation.source
        async with self._rows(operation, source) as rows:
            status = await _status_of(rows)
            mode, home = await _state_of(rows)
            if mode in ("draining", "read_only"):
                await rows.place(status, home=home)
        if not is_schema(source.place) and not _crosses(operation):
            # The copy may have closed it, on its way to the shared tables or a schema there.
            async with self._rows(operation, _shared(source)) as cell:
                await cell.place("active", home=source.place)
        await self._park(operation, source, back=True)

    def _rows(
        self, operation: Operation, seat: Seat, *, snapshot: bool = False
    ) -> AbstractAsyncContextManager[TenantRows]:
        access = self._access[seat.region]
        return open_rows(
            access.dsn, place=seat.place, signer=access.signer, tenant_id=operation.tenant_id, snapshot=snapshot
        )


def _crosses(operation: Operation) -> bool:
    return operation.source.region != operation.target.region


def _same_database(operation: Operation) -> bool:
    both_in_cell = is_schema(operation.source.place) and is_schema(operation.target.place)
    return both_in_cell and not _crosses(operation)


def _shared(seat: Seat) -> Seat:
    """Name the cell's own database, where its queue is."""
    return Seat(seat.region, Isolation.ROW_LEVEL, SHARED)


async def _status_of(rows: TenantRows) -> str:
    """Tell the tenant's status, and hold it: what suspends it now does so before or after, never in between."""
    return str(await rows.value("select status from tenants for update"))


async def _state_of(rows: TenantRows) -> tuple[str, str]:
    state = await rows.state()
    if state is None:
        raise Fault("tenant_stateless", "this place does not know the tenant", layer="tenants")
    return state
