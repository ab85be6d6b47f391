"""All SQL of certificates, in a session of the platform's own tenant."""

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.tenants.types import Certificate
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_CERTIFICATE: Final = "certificate_id, subject_id, document, signature, created_at"


async def keep_certificate_draft(session: TenantSession, draft: Certificate) -> None:
    """Keep a draft in place of an earlier one; one that is signed stays as it is."""
    await session.execute(
        f"""insert into certificates as c (tenant_id, {_CERTIFICATE}) values ($1, $2, $3, $4, null, $5)
            on conflict (tenant_id, certificate_id) do update
                set document = excluded.document, created_at = excluded.created_at where c.signature is null""",
        session.scope.tenant_id,
        draft.certificate_id,
        draft.subject_id,
        draft.document,
        draft.created_at,
    )


async def find_certificate_draft(session: TenantSession, certificate_id: UUID) -> Certificate | None:
    """Find one by its id, signed or not, and hold it until the transaction ends."""
    row = await session.fetchrow(
        f"select {_CERTIFICATE} from certificates where tenant_id = $1 and certificate_id = $2 for update",
        session.scope.tenant_id,
        certificate_id,
    )
    return _certificate(row) if row else None


async def find_certificate(session: TenantSession, subject_id: UUID) -> Certificate | None:
    """Find the signed one of a tenant."""
    row = await session.fetchrow(
        f"""select {_CERTIFICATE} from certificates
            where tenant_id = $1 and subject_id = $2 and signature is not null order by created_at desc limit 1""",
        session.scope.tenant_id,
        subject_id,
    )
    return _certificate(row) if row else None


async def sign_certificate(
    session: TenantSession, certificate_id: UUID, *, document: dict[str, Any], signature: bytes
) -> None:
    await session.execute(
        """update certificates set document = $3, signature = $4
           where tenant_id = $1 and certificate_id = $2 and signature is null""",
        session.scope.tenant_id,
        certificate_id,
        document,
        signature,
    )


def _certificate(row: "asyncpg.Record") -> Certificate:
    return Certificate(row["certificate_id"], row["subject_id"], row["document"], row["signature"], row["created_at"])
