"""SQL of streams."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.audit.types.streams import (
    AuditStream,
    Claim,
    DueStream,
    StreamFilter,
    StreamFormat,
    StreamKind,
    StreamStatus,
)
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

_STREAM: Final = (
    "stream_id, name, kind, format, hint, directory, filter, status, paused_because, version, created_at, created_by, "
    "updated_at, position, sent, attempts, failing_since, last_error, last_sent_at, next_attempt_at"
)


async def insert_stream(session: TenantSession, stream: AuditStream, *, sealed: bytes | None) -> bool:
    """Insert, or tell False when the name is taken."""
    row = await session.fetchrow(
        """insert into audit_streams (tenant_id, stream_id, name, kind, format, hint, directory, filter, status,
                                      version, created_at, created_by, updated_at, position, next_attempt_at, sealed)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $11, $13, $11, $14)
           on conflict (tenant_id, name) do nothing returning stream_id""",
        session.scope.tenant_id,
        stream.stream_id,
        stream.name,
        stream.kind.value,
        stream.format.value,
        stream.hint,
        stream.directory,
        stream.filter.to_json(),
        stream.status.value,
        stream.version,
        stream.created_at,
        stream.created_by,
        stream.position,
        sealed,
    )
    return row is not None


async def count_streams(session: TenantSession) -> int:
    count: int = await session.fetchval(
        "select count(*) from audit_streams where tenant_id = $1", session.scope.tenant_id
    )
    return count


async def find_stream(session: TenantSession, stream_id: UUID, *, lock: bool = False) -> AuditStream | None:
    row = await session.fetchrow(
        f"""select {_STREAM} from audit_streams where tenant_id = $1 and stream_id = $2
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        stream_id,
    )
    return _stream(row) if row else None


async def find_sealed_target(session: TenantSession, stream_id: UUID) -> bytes | None:
    sealed: bytes | None = await session.fetchval(
        "select sealed from audit_streams where tenant_id = $1 and stream_id = $2", session.scope.tenant_id, stream_id
    )
    return sealed


async def list_streams(session: TenantSession, *, after: UUID | None, limit: int) -> list[AuditStream]:
    rows = await session.fetch(
        f"""select {_STREAM} from audit_streams
            where tenant_id = $1 and ($2::uuid is null or stream_id > $2) order by stream_id limit $3""",
        session.scope.tenant_id,
        after,
        limit,
    )
    return [_stream(row) for row in rows]


async def update_stream(session: TenantSession, stream: AuditStream, *, sealed: bytes | None) -> bool:
    """Write what of a stream its owner changes; whoever was sending may not note it any more.

    False when the name is taken.
    """
    try:
        await session.execute(
            """update audit_streams
               set name = $3, hint = $4, filter = $5, status = $6, paused_because = $7, version = $8, updated_at = $9,
                   position = $10, attempts = $11, failing_since = $12, last_error = $13, next_attempt_at = $14,
                   sealed = $15, format = $16, epoch = epoch + 1, lease_until = null
               where tenant_id = $1 and stream_id = $2""",
            session.scope.tenant_id,
            stream.stream_id,
            stream.name,
            stream.hint,
            stream.filter.to_json(),
            stream.status.value,
            stream.paused_because,
            stream.version,
            stream.updated_at,
            stream.position,
            stream.attempts,
            stream.failing_since,
            stream.last_error,
            stream.next_attempt_at,
            sealed,
            stream.format.value,
        )
    except asyncpg.UniqueViolationError:
        return False
    return True


async def delete_stream(session: TenantSession, stream_id: UUID) -> None:
    await session.execute(
        "delete from audit_streams where tenant_id = $1 and stream_id = $2", session.scope.tenant_id, stream_id
    )


async def pause_all(session: TenantSession, *, because: str, now: datetime) -> None:
    await session.execute(
        """update audit_streams set status = 'paused', paused_because = $2, version = version + 1, updated_at = $3,
                  epoch = epoch + 1, lease_until = null
           where tenant_id = $1 and status = 'active'""",
        session.scope.tenant_id,
        because,
        now,
    )


async def list_due_streams(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    *,
    now: datetime,
    limit: int,
    per_tenant: int,
    failing: int,
    without_tenants: Collection[UUID],
    without: Collection[UUID],
) -> list[DueStream]:
    """List streams that have something to send, as the dispatcher: so many of a tenant, the longest due first.

    Of those whose last attempt has failed there are `failing` at most, and they come last.
    """
    rows = await connection.fetch(
        """select tenant_id, stream_id, failing from (
               select s.tenant_id, s.stream_id, s.next_attempt_at, s.attempts > 0 as failing,
                      row_number() over (partition by s.tenant_id order by s.next_attempt_at, s.stream_id) as turn,
                      row_number() over (partition by s.attempts > 0 order by s.next_attempt_at, s.stream_id) as alike
               from audit_streams s join audit_heads h on h.tenant_id = s.tenant_id
               where s.status = 'active' and s.next_attempt_at <= $1 and s.position < h.size
                 and (s.lease_until is null or s.lease_until <= $1)
                 and s.tenant_id <> all($2::uuid[]) and s.stream_id <> all($3::uuid[])
           ) d where turn <= $4 and (not failing or alike <= $6) order by failing, next_attempt_at limit $5""",
        now,
        list(without_tenants),
        list(without),
        per_tenant,
        limit,
        failing,
    )
    return [DueStream(row["tenant_id"], row["stream_id"], row["failing"]) for row in rows]


async def claim_stream(session: TenantSession, stream_id: UUID, *, now: datetime, until: datetime) -> Claim | None:
    """Take a stream for a while; None when it is another's, paused, or its next attempt is later."""
    row = await session.fetchrow(
        f"""update audit_streams set epoch = epoch + 1, lease_until = $4
            where (tenant_id, stream_id) in (
                select tenant_id, stream_id from audit_streams
                where tenant_id = $1 and stream_id = $2 and status = 'active' and next_attempt_at <= $3
                  and (lease_until is null or lease_until <= $3)
                for update skip locked)
            returning {_STREAM}, sealed, epoch""",
        session.scope.tenant_id,
        stream_id,
        now,
        until,
    )
    return Claim(_stream(row), row["sealed"], row["epoch"]) if row else None


async def note_sent(
    session: TenantSession,
    claim: Claim,
    *,
    position: int,
    sent: int,
    now: datetime,
    until: datetime | None,
) -> bool:
    """Move the cursor, and keep the stream until `until` or give it back; False when the claim counts no more."""
    row = await session.fetchrow(
        """update audit_streams
           set position = $4, sent = sent + $5, attempts = 0, failing_since = null, last_error = null,
               last_sent_at = case when $5 > 0 then $6 else last_sent_at end, next_attempt_at = $6, lease_until = $7
           where tenant_id = $1 and stream_id = $2 and epoch = $3 and status = 'active' returning stream_id""",
        session.scope.tenant_id,
        claim.stream.stream_id,
        claim.epoch,
        position,
        sent,
        now,
        until,
    )
    return row is not None


async def note_failed(
    session: TenantSession, claim: Claim, *, error: str, now: datetime, at: datetime, paused_because: str | None
) -> AuditStream | None:
    """Note a failure and when it is tried again, or pause; None when the claim counts no more."""
    row = await session.fetchrow(
        f"""update audit_streams
            set attempts = attempts + 1, failing_since = coalesce(failing_since, $5), last_error = $4,
                next_attempt_at = $6, lease_until = null, paused_because = $7,
                status = case when $7::text is null then status else 'paused' end,
                version = version + (case when $7::text is null then 0 else 1 end),
                updated_at = case when $7::text is null then updated_at else $5 end
            where tenant_id = $1 and stream_id = $2 and epoch = $3 and status = 'active' returning {_STREAM}""",
        session.scope.tenant_id,
        claim.stream.stream_id,
        claim.epoch,
        error,
        now,
        at,
        paused_because,
    )
    return _stream(row) if row else None


async def find_oldest_unsent(session: TenantSession, position: int) -> datetime | None:
    """Tell when the event just behind a place occurred; None when there is none."""
    at: datetime | None = await session.fetchval(
        """select e.occurred_at from audit_sequence s
           join audit_events e on e.tenant_id = s.tenant_id and e.event_id = s.event_id
           where s.tenant_id = $1 and s.sequence = $2""",
        session.scope.tenant_id,
        position + 1,
    )
    return at


def _stream(row: "asyncpg.Record") -> AuditStream:
    return AuditStream(
        stream_id=row["stream_id"],
        name=row["name"],
        kind=StreamKind(row["kind"]),
        format=StreamFormat(row["format"]),
        hint=row["hint"],
        directory=row["directory"],
        filter=StreamFilter.from_json(row["filter"]),
        status=StreamStatus(row["status"]),
        paused_because=row["paused_because"],
        version=row["version"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        updated_at=row["updated_at"],
        position=row["position"],
        sent=row["sent"],
        attempts=row["attempts"],
        failing_since=row["failing_since"],
        last_error=row["last_error"],
        last_sent_at=row["last_sent_at"],
        next_attempt_at=row["next_attempt_at"],
    )
