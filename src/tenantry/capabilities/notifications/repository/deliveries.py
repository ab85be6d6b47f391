"""SQL of deliveries."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.notifications.types import Delivery, DeliveryStatus, Due, Notice
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_DELIVERY: Final = (
    "delivery_id, workspace_id, event_id, topic, channel_id, recipient_id, notice, status, attempts, next_attempt_at, "
    "last_error, created_at, sent_at"
)
_WINDOW: Final = 1000
_NEW: Final = (
    "tenant_id, delivery_id, workspace_id, event_id, topic, channel_id, recipient_id, notice, status, "
    "next_attempt_at, created_at"
)


async def insert_for_channels(
    session: TenantSession,
    *,
    event_id: UUID,
    topic: str,
    subscriptions: Collection[str],
    workspace_id: UUID | None,
    notice: dict[str, Any],
    now: datetime,
) -> int:
    """Insert a delivery for each active channel that hears of it and has none; tells how many."""
    rows = await session.fetch(
        """select channel_id, workspace_id from notification_channels
           where tenant_id = $1 and status = 'active' and topics && $2
             and (workspace_id is null or workspace_id = $3) order by channel_id""",
        session.scope.tenant_id,
        list(subscriptions),
        workspace_id,
    )
    count = 0
    for row in rows:
        place, channel_id = row["workspace_id"], row["channel_id"]
        count += await insert_one(
            session, event_id=event_id, topic=topic, workspace_id=place, channel_id=channel_id, notice=notice, now=now
        )
    return count


async def insert_one(
    session: TenantSession,
    *,
    event_id: UUID,
    topic: str,
    workspace_id: UUID | None,
    notice: dict[str, Any],
    now: datetime,
    channel_id: UUID | None = None,
    recipient_id: UUID | None = None,
    delivery_id: UUID | None = None,
) -> int:
    """Insert a delivery that is due at once, unless there is one of this event for the same; tells how many."""
    row = await session.fetchrow(
        f"""insert into notification_deliveries ({_NEW}) values ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', $9, $9)
            on conflict (tenant_id, event_id, channel_id, recipient_id) do nothing returning delivery_id""",
        session.scope.tenant_id,
        delivery_id or new_id(),
        workspace_id,
        event_id,
        topic,
        channel_id,
        recipient_id,
        notice,
        now,
    )
    return int(row is not None)


async def find_delivery(session: TenantSession, delivery_id: UUID, *, workspace_id: UUID | None) -> Delivery | None:
    row = await session.fetchrow(
        f"""select {_DELIVERY} from notification_deliveries
            where tenant_id = $1 and delivery_id = $2 and workspace_id is not distinct from $3""",
        session.scope.tenant_id,
        delivery_id,
        workspace_id,
    )
    return _delivery(row) if row else None


async def list_deliveries(
    session: TenantSession, *, workspace_id: UUID | None, before: UUID | None, limit: int
) -> list[Delivery]:
    """Newest first."""
    rows = await session.fetch(
        f"""select {_DELIVERY} from notification_deliveries
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or delivery_id < $3)
            order by delivery_id desc limit $4""",
        session.scope.tenant_id,
        workspace_id,
        before,
        limit,
    )
    return [_delivery(row) for row in rows]


async def list_due(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    *,
    now: datetime,
    limit: int,
    per_lane: int,
    per_tenant: int,
    without_tenants: Collection[UUID],
    without_lanes: Collection[UUID],
    without: Collection[UUID],
) -> list[Due]:
    """List what is due of all tenants, as the dispatcher: so many of one lane and tenant at most, the oldest first."""
    rows = await connection.fetch(
        """select tenant_id, delivery_id, lane from (
             select tenant_id, delivery_id, lane, next_attempt_at,
                    row_number() over (partition by tenant_id, lane order by next_attempt_at, delivery_id) as in_lane,
                    row_number() over (partition by tenant_id order by next_attempt_at, delivery_id) as in_tenant
             from (select tenant_id, delivery_id, coalesce(channel_id, recipient_id) as lane, next_attempt_at
                   from notification_deliveries
                   where status = 'pending' and next_attempt_at <= $1 and tenant_id <> all($2::uuid[])
                     and coalesce(channel_id, recipient_id) <> all($3::uuid[]) and delivery_id <> all($4::uuid[])
                   order by next_attempt_at limit $5) as oldest
           ) as ranked
           where in_lane <= $6 and in_tenant <= $7 order by next_attempt_at limit $8""",
        now,
        list(without_tenants),
        list(without_lanes),
        list(without),
        _WINDOW,
        per_lane,
        per_tenant,
        limit,
    )
    return [Due(row["tenant_id"], row["delivery_id"], row["lane"]) for row in rows]


async def claim_delivery(
    session: TenantSession, delivery_id: UUID, *, now: datetime, until: datetime
) -> Delivery | None:
    """Count an attempt and take the delivery until `until`; None when it is another's, sent, or not yet due."""
    row = await session.fetchrow(
        f"""update notification_deliveries set attempts = attempts + 1, next_attempt_at = $4
            where (tenant_id, delivery_id) in (
                select tenant_id, delivery_id from notification_deliveries
                where tenant_id = $1 and delivery_id = $2 and status = 'pending' and next_attempt_at <= $3
                for update skip locked)
            returning {_DELIVERY}""",
        session.scope.tenant_id,
        delivery_id,
        now,
        until,
    )
    return _delivery(row) if row else None


async def note_ended(
    session: TenantSession, delivery: Delivery, *, status: DeliveryStatus, error: str | None, sent_at: datetime | None
) -> bool:
    """Note how a delivery ended, unless another attempt at it has begun; tells whether it was noted."""
    row = await session.fetchrow(
        """update notification_deliveries set status = $4, last_error = $5, sent_at = $6
           where tenant_id = $1 and delivery_id = $2 and attempts = $3 and status = 'pending' returning delivery_id""",
        session.scope.tenant_id,
        delivery.delivery_id,
        delivery.attempts,
        status.value,
        error,
        sent_at,
    )
    return row is not None


async def note_retry(session: TenantSession, delivery: Delivery, *, error: str, at: datetime) -> None:
    """Note when a delivery is tried again, unless another attempt at it has begun."""
    await session.execute(
        """update notification_deliveries set last_error = $4, next_attempt_at = $5
           where tenant_id = $1 and delivery_id = $2 and attempts = $3 and status = 'pending'""",
        session.scope.tenant_id,
        delivery.delivery_id,
        delivery.attempts,
        error,
        at,
    )


async def end_pending(session: TenantSession, *, error: str) -> None:
    """Fail all that waits of the tenant."""
    await session.execute(
        """update notification_deliveries set status = 'failed', last_error = $2
           where tenant_id = $1 and status = 'pending'""",
        session.scope.tenant_id,
        error,
    )


async def forget_ended(session: TenantSession, *, before: UUID) -> None:
    """Delete what ended and is older than an id."""
    await session.execute(
        "delete from notification_deliveries where tenant_id = $1 and delivery_id < $2 and status <> 'pending'",
        session.scope.tenant_id,
        before,
    )


def _delivery(row: "asyncpg.Record") -> Delivery:
    return Delivery(**{**row, "notice": _notice(row["notice"]), "status": DeliveryStatus(row["status"])})


def _notice(kept: dict[str, Any]) -> Notice:
    workspace = kept["workspace_id"]
    return Notice(
        topic=kept["topic"],
        occurred_at=datetime.fromisoformat(kept["occurred_at"]),
        workspace_id=UUID(hex=workspace) if workspace else None,
        workspace_name=kept["workspace_name"],
        ids=kept["ids"],
        facts=kept["facts"],
    )
