"""All SQL of operations: what the directory remembers of moves, exports, imports and erasures."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.tenants.types import Isolation, Operation, OperationKind, OperationStatus, Seat

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Directory = PoolConnectionProxy[asyncpg.Record]

_OPERATION: Final = (
    "operation_id, tenant_id, kind, status, step, source_region, source_isolation, source_placement, target_region, "
    "target_isolation, target_placement, requested_by, confirmed_by, failure, grace_seconds, due_at, epoch, "
    "created_at, updated_at, step_since, ending, cancelled_by"
)


async def insert_operation(directory: "Directory", operation: Operation) -> bool:
    """Insert, or tell False when another operation on the tenant is open."""
    row = await directory.fetchrow(
        f"""insert into directory.operations ({_OPERATION})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                    null, null)
            on conflict do nothing returning operation_id""",
        operation.operation_id,
        operation.tenant_id,
        operation.kind.value,
        operation.status.value,
        operation.step,
        operation.source.region,
        operation.source.isolation.value,
        operation.source.place,
        operation.target.region,
        operation.target.isolation.value,
        operation.target.place,
        operation.requested_by,
        operation.confirmed_by,
        operation.failure,
        operation.grace_seconds,
        operation.due_at,
        operation.epoch,
        operation.created_at,
        operation.updated_at,
        operation.step_since,
    )
    return row is not None


async def find_operation(directory: "Directory", operation_id: UUID, *, lock: bool = False) -> Operation | None:
    row = await directory.fetchrow(
        f"select {_OPERATION} from directory.operations where operation_id = $1 {'for update' if lock else ''}",
        operation_id,
    )
    return _operation(row) if row else None


async def list_operations(
    directory: "Directory", *, tenant_id: UUID, before: UUID | None, limit: int
) -> list[Operation]:
    """Newest first."""
    rows = await directory.fetch(
        f"""select {_OPERATION} from directory.operations
            where tenant_id = $1 and ($2::uuid is null or operation_id < $2) order by operation_id desc limit $3""",
        tenant_id,
        before,
        limit,
    )
    return [_operation(row) for row in rows]


async def claim_operation(
    directory: "Directory", *, regions: list[str], now: datetime, lease_until: datetime
) -> Operation | None:
    """Take the operation that is due longest and that nobody holds; the epoch fences whoever held it before."""
    row = await directory.fetchrow(
        f"""update directory.operations set epoch = epoch + 1, lease_until = $3
            where operation_id = (
                select operation_id from directory.operations
                where status = 'running' and due_at <= $2 and lease_until <= $2
                  and source_region = any($1) and target_region = any($1)
                order by due_at limit 1 for update skip locked)
            returning {_OPERATION}""",
        regions,
        now,
        lease_until,
    )
    return _operation(row) if row else None


async def renew_operation(directory: "Directory", operation: Operation, *, lease_until: datetime) -> Operation | None:
    """Hold it for longer, and read how it stands; None when another has taken it over, or it has ended."""
    row = await directory.fetchrow(
        f"""update directory.operations set lease_until = $3
            where operation_id = $1 and epoch = $2 and status = 'running' returning {_OPERATION}""",
        operation.operation_id,
        operation.epoch,
        lease_until,
    )
    return _operation(row) if row else None


async def advance_operation(
    directory: "Directory",
    operation: Operation,
    *,
    status: OperationStatus,
    step: str,
    failure: str | None,
    due_at: datetime,
    lease_until: datetime,
    now: datetime,
) -> Operation | None:
    """Note how far it has come; None when another has taken it over, or it has ended.

    What was called off meanwhile keeps the step that it is put back from.
    """
    row = await directory.fetchrow(
        f"""update directory.operations
            set status = $3, failure = $5, due_at = $6, lease_until = $7, updated_at = $8,
                step = case when ending is null then $4 else step end,
                step_since = case when ending is null and step <> $4 then $8 else step_since end
            where operation_id = $1 and epoch = $2 and status = 'running' returning {_OPERATION}""",
        operation.operation_id,
        operation.epoch,
        status.value,
        step,
        failure,
        due_at,
        lease_until,
        now,
    )
    return _operation(row) if row else None


async def call_off_operation(
    directory: "Directory",
    operation_id: UUID,
    *,
    ending: OperationStatus,
    failure: str | None,
    cancelled_by: str | None,
    epoch: int | None,
    now: datetime,
) -> Operation | None:
    """Have what runs put back; None when it has ended, or is a move whose tenant the directory shows at its new place.

    With an `epoch` also when another has taken it over. The row is locked first, as `switch_operation` does: the second
    statement sees what that has done. The first ending counts.
    """
    await directory.execute(
        "select from directory.operations where operation_id = $1 for update",
        operation_id,
    )
    row = await directory.fetchrow(
        f"""update directory.operations o
            set ending = coalesce(ending, $2), due_at = least(due_at, $5), updated_at = $5,
                failure = case when ending is null then $3 else failure end,
                cancelled_by = case when ending is null then $4 else cancelled_by end
            where operation_id = $1 and status = 'running' and epoch = coalesce($6, epoch)
              and not (kind = 'move' and exists (
                select from directory.tenants t where t.tenant_id = o.tenant_id
                    and (t.region, t.placement) = (o.target_region, o.target_placement)))
            returning {_OPERATION}""",
        operation_id,
        ending.value,
        failure,
        cancelled_by,
        now,
        epoch,
    )
    return _operation(row) if row else None


async def switch_operation(directory: "Directory", operation: Operation) -> bool:
    """Say that the tenant is at its move's target, unless the move was called off or taken over; then False.

    From here on nothing is put back.
    """
    row = await directory.fetchrow(
        """select true as ours from directory.operations
           where operation_id = $1 and epoch = $2 and status = 'running' and ending is null for update""",
        operation.operation_id,
        operation.epoch,
    )
    if row is None:
        return False
    await update_placement(directory, operation.tenant_id, operation.target)
    return True


async def decide_operation(
    directory: "Directory", operation_id: UUID, *, status: OperationStatus, confirmed_by: str | None, now: datetime
) -> Operation | None:
    """Start or cancel what waits; None when it waits no longer."""
    row = await directory.fetchrow(
        f"""update directory.operations
            set status = $2, confirmed_by = $3, due_at = case when $2 = 'running' then $4 else due_at end,
                updated_at = $4, step_since = $4
            where operation_id = $1 and status = 'waiting' returning {_OPERATION}""",
        operation_id,
        status.value,
        confirmed_by,
        now,
    )
    return _operation(row) if row else None


async def cancel_erasures(directory: "Directory", tenant_id: UUID, *, now: datetime) -> None:
    """Call off erasures that have not begun."""
    await directory.execute(
        """update directory.operations set status = 'cancelled', updated_at = $2
           where tenant_id = $1 and kind = 'erase' and status = 'running' and (due_at > $2 or epoch = 0)""",
        tenant_id,
        now,
    )


async def schedule_erasure(directory: "Directory", operation: Operation) -> None:
    """Remember an erasure, or move the one that has not begun to another date."""
    if not await insert_operation(directory, operation):
        await directory.execute(
            """update directory.operations set due_at = $2, updated_at = $3
               where tenant_id = $1 and kind = 'erase' and status = 'running' and epoch = 0""",
            operation.tenant_id,
            operation.due_at,
            operation.updated_at,
        )


async def find_erasure(directory: "Directory", tenant_id: UUID) -> Operation | None:
    """Find the latest that was not called off."""
    row = await directory.fetchrow(
        f"""select {_OPERATION} from directory.operations
            where tenant_id = $1 and kind = 'erase' and status in ('running', 'succeeded')
            order by operation_id desc limit 1""",
        tenant_id,
    )
    return _operation(row) if row else None


async def clear_way(directory: "Directory", operation: Operation, *, now: datetime) -> int:
    """Call off what waits on the tenant and hasten the end of moves, for its erasure; tells how many are left open."""
    await directory.execute(
        """update directory.operations set status = 'cancelled', updated_at = $2
           where tenant_id = $1 and status = 'waiting'""",
        operation.tenant_id,
        now,
    )
    await directory.execute(
        """update directory.operations set due_at = least(due_at, $2)
           where tenant_id = $1 and status = 'running' and kind = 'move' and step = 'close'""",
        operation.tenant_id,
        now,
    )
    return int(
        await directory.fetchval(
            """select count(*) from directory.operations
               where tenant_id = $1 and status = 'running' and operation_id <> $2""",
            operation.tenant_id,
            operation.operation_id,
        )
    )


async def reseat_operation(directory: "Directory", operation: Operation, seat: Seat) -> None:
    """Let an operation follow its tenant, which has moved since it was begun."""
    await directory.execute(
        """update directory.operations
           set source_region = $3, source_isolation = $4, source_placement = $5,
               target_region = $3, target_isolation = $4, target_placement = $5
           where operation_id = $1 and epoch = $2 and status = 'running'""",
        operation.operation_id,
        operation.epoch,
        seat.region,
        seat.isolation.value,
        seat.place,
    )


async def erase_placement(directory: "Directory", tenant_id: UUID, *, place: str) -> None:
    """Keep of a tenant what keeps its slug from others; `place` is the shared one."""
    await directory.execute("delete from directory.workspaces where tenant_id = $1", tenant_id)
    await directory.execute(
        "update directory.tenants set status = 'erased', placement = $2 where tenant_id = $1", tenant_id, place
    )


async def delete_pending(directory: "Directory", tenant_id: UUID) -> None:
    """Forget a placement that never came to anything."""
    await directory.execute("delete from directory.tenants where tenant_id = $1 and status = 'pending'", tenant_id)


async def known_workspaces(directory: "Directory", ids: list[UUID]) -> bool:
    """Say whether any of the ids is a workspace of the installation already."""
    return bool(
        await directory.fetchval("select exists (select from directory.workspaces where workspace_id = any($1))", ids)
    )


async def insert_workspaces(directory: "Directory", ids: list[UUID], *, tenant_id: UUID, region: str) -> None:
    await directory.execute(
        """insert into directory.workspaces (workspace_id, tenant_id, region)
           select id, $2, $3 from unnest($1::uuid[]) as id on conflict do nothing""",
        ids,
        tenant_id,
        region,
    )


async def list_ended_exports(directory: "Directory", *, regions: list[str], before: datetime) -> list[Operation]:
    """List exports that were ready before a moment and are still there, of tenants that are now in these regions."""
    rows = await directory.fetch(
        f"""select {", ".join("o." + column.strip() for column in _OPERATION.split(","))}
            from directory.operations o join directory.tenants t on t.tenant_id = o.tenant_id
            where o.kind = 'export' and o.status = 'succeeded' and o.step = 'done' and o.updated_at < $2
              and t.region = any($1) order by o.operation_id limit 100""",
        regions,
        before,
    )
    return [_operation(row) for row in rows]


async def mark_ended(directory: "Directory", operation: Operation, *, step: str) -> None:
    """Note what became of what an operation had made."""
    await directory.execute(
        "update directory.operations set step = $2 where operation_id = $1 and status = 'succeeded'",
        operation.operation_id,
        step,
    )


async def update_placement(directory: "Directory", tenant_id: UUID, seat: Seat) -> None:
    """Say where a tenant and its workspaces are from now on."""
    await directory.execute(
        "update directory.tenants set region = $2, isolation = $3, placement = $4 where tenant_id = $1",
        tenant_id,
        seat.region,
        seat.isolation.value,
        seat.place,
    )
    await directory.execute("update directory.workspaces set region = $2 where tenant_id = $1", tenant_id, seat.region)


def _operation(row: "asyncpg.Record") -> Operation:
    return Operation(
        operation_id=row["operation_id"],
        tenant_id=row["tenant_id"],
        kind=OperationKind(row["kind"]),
        status=OperationStatus(row["status"]),
        step=row["step"],
        source=Seat(row["source_region"], Isolation(row["source_isolation"]), row["source_placement"]),
        target=Seat(row["target_region"], Isolation(row["target_isolation"]), row["target_placement"]),
        requested_by=row["requested_by"],
        confirmed_by=row["confirmed_by"],
        failure=row["failure"],
        grace_seconds=row["grace_seconds"],
        due_at=row["due_at"],
        epoch=row["epoch"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        step_since=row["step_since"],
        ending=OperationStatus(row["ending"]) if row["ending"] else None,
        cancelled_by=row["cancelled_by"],
    )
