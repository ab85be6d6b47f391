"""Idempotency records (draft-ietf-httpapi-idempotency-key-header): what a key did, in the transaction of the effect.

A record is (tenant, principal, key, digest of the request) → status and resource id. An error rolls it back with the
effect, so a repeated key then does the work. Records are kept for 24 hours.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Conflict, Invalid

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_WAIT: Final = "200ms"
"""How long to wait for the same key in flight before saying 409."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier request with this key did."""

    status_code: int
    resource_id: str


async def begin(session: TenantSession, *, principal_id: str, key: str, digest: bytes) -> Remembered | None:
    """Take the key, or tell what it did before.

    Raises Conflict `in_progress` while another request with it runs, Invalid `idempotency_key_reused` when it came
    with another request before.
    """
    await session.execute(f"set local lock_timeout = '{_WAIT}'")
    taken = await session.fetchrow(
        """insert into idempotency_records (tenant_id, principal_id, key, request_digest, status_code, resource_id)
           values ($1, $2, $3, $4, 0, '')
           on conflict (tenant_id, principal_id, key) do update
               set request_digest = excluded.request_digest, created_at = now(), status_code = 0
               where idempotency_records.created_at < now() - interval '24 hours'
           returning key""",
        session.scope.tenant_id,
        principal_id,
        key,
        digest,
    )
    if taken:
        await session.execute("set local lock_timeout = default")
        return None
    row = await session.fetchrow(
        """select request_digest, status_code, resource_id from idempotency_records
           where tenant_id = $1 and principal_id = $2 and key = $3""",
        session.scope.tenant_id,
        principal_id,
        key,
    )
    if row is None:
        raise Conflict("in_progress", "the same request is being done right now, retry", layer="idempotency")
    if row["request_digest"] != digest:
        raise Invalid(
            "idempotency_key_reused",
            "Idempotency-Key: came with another request before: use a fresh key",
            layer="idempotency",
        )
    return Remembered(row["status_code"], row["resource_id"])


async def remember(
    session: TenantSession, *, principal_id: str, key: str, digest: bytes, status_code: int, resource_id: str
) -> None:
    """Keep what the request did; commits with the effect, also when that is another transaction than the one begun."""
    await session.execute(
        """insert into idempotency_records (tenant_id, principal_id, key, request_digest, status_code, resource_id)
           values ($1, $2, $3, $4, $5, $6)
           on conflict (tenant_id, principal_id, key) do update
               set status_code = excluded.status_code, resource_id = excluded.resource_id""",
        session.scope.tenant_id,
        principal_id,
        key,
        digest,
        status_code,
        resource_id,
    )


async def forget_old(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
    """Forget records of all tenants older than 24 hours, as the dispatcher."""
    await connection.execute("delete from idempotency_records where created_at < now() - interval '24 hours'")
