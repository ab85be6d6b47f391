"""SQL of client certificates."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.identity.types import ClientCertificate, ProofStatus
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_CERTIFICATE: Final = (
    "certificate_id, workspace_id, service_account_id, fingerprint, subject, not_before, not_after, status, "
    "created_at, created_by, last_used_at, revoked_at"
)


async def insert_certificate(session: TenantSession, certificate: ClientCertificate) -> bool:
    """Insert, or tell False when the workspace knows it already."""
    row = await session.fetchrow(
        """insert into client_certificates (tenant_id, certificate_id, workspace_id, service_account_id, fingerprint,
               subject, not_before, not_after, status, created_at, created_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
           on conflict (tenant_id, workspace_id, fingerprint) do nothing returning certificate_id""",
        session.scope.tenant_id,
        certificate.certificate_id,
        certificate.workspace_id,
        certificate.service_account_id,
        certificate.fingerprint,
        certificate.subject,
        certificate.not_before,
        certificate.not_after,
        certificate.status.value,
        certificate.created_at,
        certificate.created_by,
    )
    return row is not None


async def find_certificate(session: TenantSession, account_id: UUID, certificate_id: UUID) -> ClientCertificate | None:
    row = await session.fetchrow(
        f"""select {_CERTIFICATE} from client_certificates
            where tenant_id = $1 and service_account_id = $2 and certificate_id = $3""",
        session.scope.tenant_id,
        account_id,
        certificate_id,
    )
    return _certificate(row) if row else None


async def find_certificate_shown(
    session: TenantSession, workspace_id: UUID, fingerprint: bytes
) -> ClientCertificate | None:
    """Find by what a client shows, in whatever state."""
    row = await session.fetchrow(
        f"""select {_CERTIFICATE} from client_certificates
            where tenant_id = $1 and workspace_id = $2 and fingerprint = $3""",
        session.scope.tenant_id,
        workspace_id,
        fingerprint,
    )
    return _certificate(row) if row else None


async def list_owners_of_certificate(session: TenantSession, fingerprint: bytes) -> list[UUID]:
    """List whose certificate it is, in any workspace of the tenant, where it is active."""
    rows = await session.fetch(
        """select service_account_id from client_certificates
           where tenant_id = $1 and fingerprint = $2 and status = 'active'""",
        session.scope.tenant_id,
        fingerprint,
    )
    return [row["service_account_id"] for row in rows]


async def list_certificates(
    session: TenantSession, *, account_id: UUID, after: UUID | None, limit: int
) -> list[ClientCertificate]:
    rows = await session.fetch(
        f"""select {_CERTIFICATE} from client_certificates
            where tenant_id = $1 and service_account_id = $2 and ($3::uuid is null or certificate_id > $3)
            order by certificate_id limit $4""",
        session.scope.tenant_id,
        account_id,
        after,
        limit,
    )
    return [_certificate(row) for row in rows]


async def revoke_certificate(session: TenantSession, certificate_id: UUID, *, now: datetime) -> None:
    await session.execute(
        """update client_certificates set status = 'revoked', revoked_at = $3
           where tenant_id = $1 and certificate_id = $2 and status <> 'revoked'""",
        session.scope.tenant_id,
        certificate_id,
        now,
    )


async def touch_certificates(session: TenantSession, used: dict[UUID, datetime]) -> None:
    """Note when certificates were last shown; never moves backwards."""
    await session.execute(
        """update client_certificates c set last_used_at = u.used_at
           from unnest($2::uuid[], $3::timestamptz[]) as u (certificate_id, used_at)
           where c.tenant_id = $1 and c.certificate_id = u.certificate_id
             and (c.last_used_at is null or c.last_used_at < u.used_at)""",
        session.scope.tenant_id,
        list(used),
        list(used.values()),
    )


def _certificate(row: "asyncpg.Record") -> ClientCertificate:
    values = dict(row)
    values["status"] = ProofStatus(values["status"])
    return ClientCertificate(**values)
