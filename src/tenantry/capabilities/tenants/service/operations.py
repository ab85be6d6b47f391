"""What the directory remembers of work on whole tenants: moves, exports, imports, erasures (ADR 0019).

It knows each operation and its next step. Any server process that holds the credentials of both regions takes what is
due, under a lease with a fencing epoch; a step may be done twice, so one that a crash has interrupted is done again by
whoever comes next. What is called off, or cannot succeed, is noted to be so and then put back, which may be done twice
as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import operation_not_found, operation_open, state_conflict
from tenantry.capabilities.tenants.types import Operation, OperationKind, OperationStatus, Placement, Seat
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import Conflict
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

LEASE: Final = timedelta(seconds=30)
"""How long an operation is its process's without renewal."""
DONE: Final = "done"
"""The step after the last one."""


@dataclass(frozen=True, slots=True)
class Next:
    """What follows a step: the next one, at once or at `at`."""

    step: str
    at: datetime | None = None


def new_operation(
    kind: OperationKind,
    *,
    step: str,
    tenant_id: UUID,
    source: Seat,
    target: Seat,
    requested_by: str,
    now: datetime,
    operation_id: UUID | None = None,
    due_at: datetime | None = None,
    waits: bool = False,
    grace_seconds: int = 0,
) -> Operation:
    """Make one that begins with `step`, at once or at `due_at`; with `waits` once a second administrator agrees."""
    return Operation(
        operation_id=operation_id or new_id(),
        tenant_id=tenant_id,
        kind=kind,
        status=OperationStatus.WAITING if waits else OperationStatus.RUNNING,
        step=step,
        source=source,
        target=target,
        requested_by=requested_by,
        confirmed_by=None,
        failure=None,
        grace_seconds=grace_seconds,
        due_at=due_at or now,
        epoch=0,
        created_at=now,
        updated_at=now,
        step_since=now,
    )


class Steps(Protocol):
    """One kind of operation."""

    @property
    def interruptible(self) -> frozenset[str]:
        """Name the steps that may be left anywhere within, as by a crash, when the operation is called off."""
        ...

    async def run(self, operation: Operation) -> Next:
        """Do `operation.step`; doing it again, wholly or from half way, must lead to the same.

        Raises Unavailable or Conflict to be called again later, any other TenantryError to give up.
        """
        ...

    async def abandon(self, operation: Operation) -> None:
        """Put back what `operation` has done up to its step, and tell of it; `ending` says how it ends.

        Doing it again, wholly or from half way, must lead to the same. What it raises is tried again later.
        """
        ...


class OperationLog:
    """What the directory remembers. Each call is a short transaction of its own."""

    def __init__(self, pool: "Pool", *, clock: Clock, lease: timedelta = LEASE) -> None:
        self._pool = pool
        self._clock = clock
        self._lease = lease

    async def begin(self, operation: Operation) -> Operation:
        """Remember a new operation; raises Conflict `operation_open` while another works on the tenant."""
        async with platform_session(self._pool) as directory:
            if not await repository.insert_operation(directory, operation):
                raise operation_open()
        return operation

    async def get(self, operation_id: UUID, *, tenant_id: UUID | None, kind: OperationKind | None = None) -> Operation:
        """Find an operation on this tenant, or on whatever tenant, of a kind or any; raises NotFound."""
        async with platform_session(self._pool) as directory:
            found = await repository.find_operation(directory, operation_id)
        if found is None or tenant_id not in (None, found.tenant_id) or kind not in (None, found.kind):
            raise operation_not_found()
        return found

    async def list_operations(self, tenant_id: UUID, *, before: UUID | None = None, limit: int = 50) -> list[Operation]:
        async with platform_session(self._pool) as directory:
            return await repository.list_operations(directory, tenant_id=tenant_id, before=before, limit=limit)

    async def decide(self, operation: Operation, *, confirmed_by: str | None) -> Operation:
        """Start what waits for a second administrator, or with None call it off; raises Conflict when it waits no more.

        Whether this administrator is another than the first is the caller's to see.
        """
        status = OperationStatus.RUNNING if confirmed_by else OperationStatus.CANCELLED
        async with platform_session(self._pool) as directory:
            decided = await repository.decide_operation(
                directory, operation.operation_id, status=status, confirmed_by=confirmed_by, now=self._clock.now()
            )
        if decided is None:
            raise state_conflict("operation", operation.status, "confirmed or cancelled")
        return decided

    async def call_off(self, operation: Operation, *, cancelled_by: str) -> Operation | None:
        """Have put back what runs; None when it runs no more, or the directory shows its tenant at the new place."""
        return await self._end_early(operation, OperationStatus.CANCELLED, cancelled_by=cancelled_by)

    async def give_up(self, operation: Operation, *, failure: str) -> Operation | None:
        """Have put back what cannot succeed; None when it is another's by now, or cannot be put back any more."""
        return await self._end_early(operation, OperationStatus.FAILED, failure=failure, epoch=operation.epoch)

    async def _end_early(
        self,
        operation: Operation,
        ending: OperationStatus,
        *,
        failure: str | None = None,
        cancelled_by: str | None = None,
        epoch: int | None = None,
    ) -> Operation | None:
        async with platform_session(self._pool) as directory:
            return await repository.call_off_operation(
                directory,
                operation.operation_id,
                ending=ending,
                failure=failure,
                cancelled_by=cancelled_by,
                epoch=epoch,
                now=self._clock.now(),
            )

    async def cancel_erasures(self, tenant_id: UUID) -> None:
        """Call off the erasures of a tenant that is restored."""
        async with platform_session(self._pool) as directory:
            await repository.cancel_erasures(directory, tenant_id, now=self._clock.now())

    async def schedule_erasure(self, operation: Operation) -> None:
        """Remember an erasure; one that has not begun is moved to this one's date instead."""
        async with platform_session(self._pool) as directory:
            await repository.schedule_erasure(directory, operation)

    async def find_erasure(self, tenant_id: UUID) -> Operation | None:
        """Find the erasure that is to come, under way or done; None for a tenant that is not deleted."""
        async with platform_session(self._pool) as directory:
            return await repository.find_erasure(directory, tenant_id)

    async def clear_way(self, operation: Operation) -> int:
        """Call off or hasten what else is open on a tenant to be erased; tells how much is open still."""
        async with platform_session(self._pool) as directory:
            return await repository.clear_way(directory, operation, now=self._clock.now())

    async def reseat(self, operation: Operation, seat: Seat) -> None:
        """Let an operation follow its tenant, which has moved since."""
        async with platform_session(self._pool) as directory:
            await repository.reseat_operation(directory, operation, seat)

    async def erase_placement(self, tenant_id: UUID, *, place: str) -> None:
        """Leave of a tenant in the directory what keeps its slug from others."""
        async with platform_session(self._pool) as directory:
            await repository.erase_placement(directory, tenant_id, place=place)

    async def begin_import(self, operation: Operation, placement: Placement) -> bool:
        """Reserve a place and remember its import, both or neither; False when id or slug is taken."""
        async with platform_session(self._pool) as directory:
            taken = await repository.find_placement(directory, tenant_id=placement.tenant_id, slug=placement.slug)
            if taken is not None or await repository.insert_placement(directory, placement) is None:
                return False
            if not await repository.insert_operation(directory, operation):
                raise operation_open()
        return True

    async def forget_import(self, operation: Operation) -> None:
        """Give the place of an import that failed free again."""
        async with platform_session(self._pool) as directory:
            await repository.delete_pending(directory, operation.tenant_id)

    async def find(self, operation_id: UUID) -> Operation | None:
        """Find an operation on whatever tenant."""
        async with platform_session(self._pool) as directory:
            return await repository.find_operation(directory, operation_id)

    async def list_ended_exports(self, regions: Sequence[str], *, before: datetime) -> list[Operation]:
        async with platform_session(self._pool) as directory:
            return await repository.list_ended_exports(directory, regions=list(regions), before=before)

    async def mark_ended(self, operation: Operation, *, step: str) -> None:
        """Note what became of what an operation had made."""
        async with platform_session(self._pool) as directory:
            await repository.mark_ended(directory, operation, step=step)

    async def seat(self, tenant_id: UUID, seat: Seat) -> None:
        """Say where a tenant and its workspaces are from now on."""
        async with platform_session(self._pool) as directory:
            await repository.update_placement(directory, tenant_id, seat)

    async def switch(self, operation: Operation) -> None:
        """Say that a tenant and its workspaces are at the target of its move: from here on nothing calls it off.

        Raises Conflict `operation_lost` when it was called off, or another has taken it over.
        """
        async with platform_session(self._pool) as directory:
            if not await repository.switch_operation(directory, operation):
                raise _lost()

    async def claim(self, regions: Sequence[str]) -> Operation | None:
        """Take what is due longest among the regions, for the lease."""
        now = self._clock.now()
        async with platform_session(self._pool) as directory:
            return await repository.claim_operation(
                directory, regions=list(regions), now=now, lease_until=now + self._lease
            )

    async def renew(self, operation: Operation) -> Operation | None:
        """Hold the lease for longer, and tell how the operation stands; None when it is another's by now."""
        async with platform_session(self._pool) as directory:
            return await repository.renew_operation(directory, operation, lease_until=self._clock.now() + self._lease)

    async def advance(
        self, operation: Operation, *, status: OperationStatus, step: str, at: datetime | None, failure: str | None
    ) -> Operation:
        """Note how far it has come, and tell how it stands; raises Conflict `operation_lost` when it is another's."""
        now = self._clock.now()
        # What goes on at once stays ours; what waits is anybody's when its time comes.
        goes_on = status is OperationStatus.RUNNING and at is None
        async with platform_session(self._pool) as directory:
            kept = await repository.advance_operation(
                directory,
                operation,
                status=status,
                step=step,
                failure=failure,
                due_at=at or now,
                lease_until=now + self._lease if goes_on else now,
                now=now,
            )
        if kept is None:
            raise _lost()
        return kept


def _lost() -> Conflict:
    return Conflict("operation_lost", "another process has taken this operation over", layer="tenants")
