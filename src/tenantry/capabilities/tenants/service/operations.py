"""Work on whole tenants that outlives a request and its process: moves, exports, imports, erasures (ADR 0019).

The directory remembers each operation and its next step. Any server process that holds the credentials of both regions
takes what is due, under a lease with a fencing epoch; a step may be done twice, so one that a crash has interrupted is
done again by whoever comes next.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import structlog

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import operation_not_found, operation_open, state_conflict
from tenantry.capabilities.tenants.types import Operation, OperationKind, OperationStatus, Placement, Seat
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import Conflict, TenantryError, Unavailable
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

LEASE: Final = timedelta(seconds=30)
"""How long an operation is its process's without renewal."""
_RENEW_SECONDS: Final = 5.0
_RETRY: Final = timedelta(seconds=2)
DONE: Final = "done"
"""The step after the last one."""

_log = structlog.get_logger(__name__)


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
    )


class Steps(Protocol):
    """One kind of operation."""

    async def run(self, operation: Operation) -> Next:
        """Do `operation.step`; doing it again, wholly or from half way, must lead to the same.

        Raises Unavailable or Conflict to be called again later, any other TenantryError to give up.
        """
        ...

    async def abandon(self, operation: Operation) -> None:
        """Put back what can be put back, for an operation that was given up."""
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

    async def claim(self, regions: Sequence[str]) -> Operation | None:
        """Take what is due longest among the regions, for the lease."""
        now = self._clock.now()
        async with platform_session(self._pool) as directory:
            return await repository.claim_operation(
                directory, regions=list(regions), now=now, lease_until=now + self._lease
            )

    async def renew(self, operation: Operation) -> bool:
        async with platform_session(self._pool) as directory:
            return await repository.renew_operation(directory, operation, lease_until=self._clock.now() + self._lease)

    async def advance(
        self, operation: Operation, *, status: OperationStatus, step: str, at: datetime | None, failure: str | None
    ) -> Operation:
        """Note how far it has come; raises Conflict `operation_lost` when another has taken it over."""
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
        if not kept:
            raise Conflict("operation_lost", "another process has taken this operation over", layer="tenants")
        return replace(operation, status=status, step=step, failure=failure, due_at=at or now, updated_at=now)


class OperationRunner:
    """Does what is due in the regions of this process; `watch` is told of each step before and after it."""

    def __init__(
        self,
        log: OperationLog,
        *,
        kinds: Mapping[str, Steps],
        regions: Sequence[str],
        clock: Clock,
        watch: Callable[[Operation, str], Awaitable[None]] | None = None,
    ) -> None:
        self._log = log
        self._kinds = kinds
        self._regions = regions
        self._clock = clock
        self._watch = watch

    async def run_due(self) -> int:
        """Work until nothing is due; tells how many operations it moved on."""
        count = 0
        while (operation := await self._log.claim(self._regions)) is not None:
            await self._carry_on(operation)
            count += 1
        return count

    async def _carry_on(self, operation: Operation) -> None:
        """Do steps until the operation ends or waits; never raises but for its own cancellation."""
        renewal = asyncio.create_task(self._keep(operation))
        try:
            while operation.status is OperationStatus.RUNNING and operation.due_at <= self._clock.now():
                operation = await self._step(operation)
        except TenantryError as error:  # lost to another process, or the directory is away: the lease decides
            _log.warning("operation.left", operation=operation.operation_id.hex, step=operation.step, code=error.code)
        finally:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal

    async def _step(self, operation: Operation) -> Operation:
        steps = self._kinds[operation.kind]
        await self._tell(operation, "begins")
        try:
            after = await steps.run(operation)
        except (Unavailable, Conflict) as error:
            return await self._later(operation, error.code)
        except TenantryError as error:
            _log.error("operation.failed", operation=operation.operation_id.hex, step=operation.step, code=error.code)
            await steps.abandon(operation)
            return await self._log.advance(
                operation, status=OperationStatus.FAILED, step=operation.step, at=None, failure=error.code
            )
        except Exception as error:  # noqa: BLE001 - an error of ours must neither lose nor hasten it
            _log.exception("operation.fault", operation=operation.operation_id.hex, step=operation.step)
            return await self._later(operation, f"internal:{type(error).__name__}")
        await self._tell(operation, "ends")
        status = OperationStatus.SUCCEEDED if after.step == DONE else OperationStatus.RUNNING
        return await self._log.advance(operation, status=status, step=after.step, at=after.at, failure=None)

    async def _later(self, operation: Operation, failure: str) -> Operation:
        at = self._clock.now() + _RETRY
        return await self._log.advance(
            operation, status=OperationStatus.RUNNING, step=operation.step, at=at, failure=failure
        )

    async def _tell(self, operation: Operation, what: str) -> None:
        _log.info(
            f"operation.step_{what}", operation=operation.operation_id.hex, kind=operation.kind, step=operation.step
        )
        if self._watch is not None:
            await self._watch(operation, what)

    async def _keep(self, operation: Operation) -> None:
        """Hold the lease while a step takes long; without it the epoch refuses what the step notes."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with contextlib.suppress(TenantryError):
                await self._log.renew(operation)
