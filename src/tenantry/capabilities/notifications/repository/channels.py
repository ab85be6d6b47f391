"""SQL of channels."""

from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.notifications.types import Channel, ChannelKind, ChannelStatus
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    from asyncpg import Record

_CHANNEL: Final = (
    "channel_id, workspace_id, name, kind, hint, topics, status, version, created_at, created_by, updated_at"
)


async def insert_channel(session: TenantSession, channel: Channel, *, sealed: bytes) -> bool:
    """Insert, or tell False when the name is taken in the place."""
    row = await session.fetchrow(
        f"""insert into notification_channels (tenant_id, {_CHANNEL}, sealed)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            on conflict (tenant_id, workspace_id, name) do nothing returning channel_id""",
        session.scope.tenant_id,
        channel.channel_id,
        channel.workspace_id,
        channel.name,
        channel.kind.value,
        channel.hint,
        list(channel.topics),
        channel.status.value,
        channel.version,
        channel.created_at,
        channel.created_by,
        channel.updated_at,
        sealed,
    )
    return row is not None


async def count_channels(session: TenantSession, *, workspace_id: UUID | None) -> int:
    count: int = await session.fetchval(
        "select count(*) from notification_channels where tenant_id = $1 and workspace_id is not distinct from $2",
        session.scope.tenant_id,
        workspace_id,
    )
    return count


async def find_channel(
    session: TenantSession, channel_id: UUID, *, workspace_id: UUID | None, lock: bool = False
) -> Channel | None:
    row = await session.fetchrow(
        f"""select {_CHANNEL} from notification_channels
            where tenant_id = $1 and channel_id = $2 and workspace_id is not distinct from $3
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        channel_id,
        workspace_id,
    )
    return _channel(row) if row else None


async def find_address(session: TenantSession, channel_id: UUID) -> tuple[ChannelKind, ChannelStatus, bytes] | None:
    """Find where a channel leads, sealed."""
    row = await session.fetchrow(
        "select kind, status, sealed from notification_channels where tenant_id = $1 and channel_id = $2",
        session.scope.tenant_id,
        channel_id,
    )
    return (ChannelKind(row["kind"]), ChannelStatus(row["status"]), row["sealed"]) if row else None


async def list_channels(
    session: TenantSession, *, workspace_id: UUID | None, after: UUID | None, limit: int
) -> list[Channel]:
    rows = await session.fetch(
        f"""select {_CHANNEL} from notification_channels
            where tenant_id = $1 and workspace_id is not distinct from $2 and ($3::uuid is null or channel_id > $3)
            order by channel_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [_channel(row) for row in rows]


async def update_channel(session: TenantSession, channel: Channel, *, sealed: bytes) -> bool:
    """Write what of a locked channel may change, or tell False when its new name is taken."""
    try:
        await session.execute(
            """update notification_channels set name = $3, hint = $4, topics = $5, status = $6, version = $7,
                   updated_at = $8, sealed = $9
               where tenant_id = $1 and channel_id = $2""",
            session.scope.tenant_id,
            channel.channel_id,
            channel.name,
            channel.hint,
            list(channel.topics),
            channel.status.value,
            channel.version,
            channel.updated_at,
            sealed,
        )
    except asyncpg.UniqueViolationError:
        return False
    return True


async def delete_channel(session: TenantSession, channel_id: UUID) -> None:
    """Delete a channel, and with it what was and is to be delivered there."""
    await session.execute(
        "delete from notification_channels where tenant_id = $1 and channel_id = $2",
        session.scope.tenant_id,
        channel_id,
    )


def _channel(row: "Record") -> Channel:
    return Channel(
        **{
            **row,
            "kind": ChannelKind(row["kind"]),
            "status": ChannelStatus(row["status"]),
            "topics": tuple(row["topics"]),
        }
    )
