"""All SQL of the queue where it lies in another database than the jobs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.sandboxes.types import (
    QUEUE_NEWS,
    RemoteEntry,
    RemoteShare,
)
from tenantry.engines.fairqueue.types import Ticket
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy


async def wake_workers(session: TenantSession, payload: str) -> None:
    """Wake the cell's workers at commit."""
    await session.execute("select pg_notify($1, $2)", QUEUE_NEWS, payload)


async def is_queued(session: TenantSession, job_id: UUID) -> bool:
    """Say whether the cell's queue knows the job; asked there, as its tenant."""
    return bool(
        await session.fetchval(
            "select exists (select from queue.entries where tenant_id = $1 and job_id = $2)",
            session.scope.tenant_id,
            job_id,
        )
    )


async def lock_remote_entries(connection: "PoolConnectionProxy[asyncpg.Record]", *, limit: int) -> list[RemoteEntry]:
    """Lock entries the cell's queue has yet to hear of, as the dispatcher; those somebody else has are his.

    Last come those it has heard of that are yet to end: they are told again each time.
    """
    rows = await connection.fetch(
        """select tenant_id, workspace_id, principal_id, job_id, estimate_seconds, slots, labels, cancel_requested,
                  used_slot_seconds, attempt
           from entries where state = 'new' or cancel_requested or used_slot_seconds is not null
           order by cancel_requested and used_slot_seconds is null and state <> 'new', enqueued_at
           limit $1 for update skip locked""",
        limit,
    )
    return [RemoteEntry(**{**row, "labels": tuple(row["labels"])}) for row in rows]


async def settle_remote_entries(
    connection: "PoolConnectionProxy[asyncpg.Record]", entries: Sequence[RemoteEntry], *, gone: Sequence[UUID]
) -> bool:
    """Forget what is over and mark the rest as told, in the transaction that locked them; False if all were already."""
    await connection.execute("delete from entries where job_id = any($1)", list(gone))
    marked = await connection.execute(
        "update entries set state = 'queued' where state = 'new' and job_id = any($1)",
        [entry.job_id for entry in entries],
    )
    return bool(gone) or marked != "UPDATE 0"


async def lock_remote_shares(connection: "PoolConnectionProxy[asyncpg.Record]", *, limit: int) -> list[RemoteShare]:
    """Lock shares the cell's queue has yet to hear of, as `lock_remote_entries`."""
    rows = await connection.fetch(
        """select tenant_id, nullif(workspace_id, $2) as workspace_id, weight, most_running from shares where changed
           order by tenant_id, workspace_id limit $1 for update skip locked""",
        limit,
        UUID(int=0),
    )
    return [RemoteShare(**row) for row in rows]


async def settle_remote_shares(
    connection: "PoolConnectionProxy[asyncpg.Record]", shares: Sequence[RemoteShare]
) -> None:
    """Mark them as told, in the transaction that locked them; as in the cell, what says nothing special is no row."""
    keys = (
        [share.tenant_id for share in shares],
        [share.workspace_id or UUID(int=0) for share in shares],
    )
    told = "(tenant_id, workspace_id) in (select t, w from unnest($1::uuid[], $2::uuid[]) as u (t, w))"
    await connection.execute(f"delete from shares where {told} and weight = 1 and most_running is null", *keys)
    await connection.execute(f"update shares set changed = false where {told}", *keys)


async def note_remote_claim(connection: "PoolConnectionProxy[asyncpg.Record]", ticket: Ticket) -> None:
    await connection.execute(
        "update entries set state = 'claimed', attempt = $3 where tenant_id = $1 and job_id = $2 and attempt < $3",
        *ticket,
    )
