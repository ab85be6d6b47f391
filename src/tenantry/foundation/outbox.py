"""Upward news: a row written in the effect's own transaction, relayed after commit, at least once, in order of id.

A lower capability publishes a topic; `entrypoints` subscribes higher ones. A consumer is idempotent by event id.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import new_id

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

CHANNEL: Final = "tenantry_outbox"


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    tenant_id: UUID
    event_id: UUID
    topic: str
    payload: dict[str, Any]


async def publish(session: TenantSession, *, topic: str, payload: dict[str, Any]) -> None:
    """Record news in the session's transaction: ids and names only, it is read across tenants by the relay."""
    await session.execute(
        "insert into outbox (tenant_id, event_id, topic, payload) values ($1, $2, $3, $4)",
        session.scope.tenant_id,
        new_id(),
        topic,
        payload,
    )
    await session.execute(f"notify {CHANNEL}")


async def take(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    *,
    topics: tuple[str, ...],
    limit: int = 100,
    without: Collection[UUID] = (),
) -> list[OutboxEvent]:
    """Lock the oldest undelivered events as the dispatcher; what a crash interrupts is taken again.

    `without` passes over tenants whose events cannot be delivered now, so that they keep no others waiting.
    """
    rows = await connection.fetch(
        """select tenant_id, event_id, topic, payload from outbox
           where topic = any($1) and tenant_id <> all($3::uuid[])
           order by event_id limit $2 for update skip locked""",
        list(topics),
        limit,
        list(without),
    )
    return [OutboxEvent(r["tenant_id"], r["event_id"], r["topic"], r["payload"]) for r in rows]


async def settle(connection: "PoolConnectionProxy[asyncpg.Record]", event: OutboxEvent) -> None:
    """Forget a delivered event, in the transaction that took it."""
    await connection.execute(
        "delete from outbox where tenant_id = $1 and event_id = $2", event.tenant_id, event.event_id
    )
