"""Client certificates of service accounts: known by the SHA-256 of what is shown, whoever has signed it."""

import hashlib
from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity import repository
from tenantry.capabilities.identity.errors import (
    certificate_expired,
    certificate_not_found,
    certificate_registered,
    certificate_unreadable,
)
from tenantry.capabilities.identity.ports import KeyScopes, RegistrableAccount
from tenantry.capabilities.identity.service.accounts import AccountService
from tenantry.capabilities.identity.types import ClientCertificate, ProofStatus
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id

_SUBJECT_LENGTH: Final = 500


class CertificateService:
    """Certificates in the session's tenant. A certificate may be another account's in another workspace."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        accounts: AccountService,
        registrable: RegistrableAccount,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._accounts = accounts
        self._registrable = registrable
        self._clock = clock

    async def register(self, account_id: UUID, *, workspace_id: UUID, pem: str, scopes: KeyScopes) -> ClientCertificate:
        """Let whoever shows this certificate be the service account, until it expires or is revoked.

        Raises Denied `grant_exceeds_own` where the account is bound to more than the registrar may do; Invalid
        `certificate_unreadable`, `certificate_expired`; NotFound; Conflict `certificate_registered`.
        """
        account = await self._registrable(account_id, workspace_id=workspace_id, scopes=scopes)
        fingerprint, subject, not_before, not_after = _read(pem)
        now = self._clock.now()
        if not_after <= now:
            raise certificate_expired(not_after)
        certificate = ClientCertificate(
            certificate_id=new_id(),
            workspace_id=workspace_id,
            service_account_id=account.service_account_id,
            fingerprint=fingerprint,
            subject=subject,
            not_before=not_before,
            not_after=not_after,
            status=ProofStatus.ACTIVE,
            created_at=now,
            created_by=self._session.scope.actor.id,
        )
        if not await repository.insert_certificate(self._session, certificate):
            raise certificate_registered()
        # Who came with a key beside it may have become two.
        await announce_revocation(self._session)
        await self._record("certificate.registered", certificate)
        return certificate

    async def get(self, account_id: UUID, certificate_id: UUID, *, workspace_id: UUID) -> ClientCertificate:
        await self._accounts.get_service_account(account_id, workspace_id=workspace_id)
        certificate = await repository.find_certificate(self._session, account_id, certificate_id)
        if certificate is None:
            raise certificate_not_found()
        return certificate

    async def list_of(
        self, account_id: UUID, *, workspace_id: UUID, after: UUID | None = None, limit: int = 50
    ) -> list[ClientCertificate]:
        await self._accounts.get_service_account(account_id, workspace_id=workspace_id)
        return await repository.list_certificates(self._session, account_id=account_id, after=after, limit=limit)

    async def revoke(self, account_id: UUID, certificate_id: UUID, *, workspace_id: UUID) -> ClientCertificate:
        """Revoke for good, everywhere within a second. Revoking twice changes nothing."""
        certificate = await self.get(account_id, certificate_id, workspace_id=workspace_id)
        await repository.revoke_certificate(self._session, certificate_id, now=self._clock.now())
        await announce_revocation(self._session)
        await self._record("certificate.revoked", certificate)
        return await self.get(account_id, certificate_id, workspace_id=workspace_id)

    async def find_shown(self, fingerprint: bytes, *, workspace_id: UUID) -> ClientCertificate | None:
        """Find what a client shows, in whatever state; None when the workspace does not know it."""
        return await repository.find_certificate_shown(self._session, workspace_id, fingerprint)

    async def list_owners(self, fingerprint: bytes) -> list[str]:
        """List the principals that this certificate is, in any workspace of the tenant."""
        owners = await repository.list_owners_of_certificate(self._session, fingerprint)
        return [format_id(Prefix.SERVICE_ACCOUNT, owner) for owner in owners]

    async def _record(self, action: str, certificate: ClientCertificate) -> None:
        await self._audit.record(
            action,
            resource_type="certificate",
            resource_id=format_id(Prefix.CERTIFICATE, certificate.certificate_id),
            details={
                "principal": format_id(Prefix.SERVICE_ACCOUNT, certificate.service_account_id),
                "fingerprint": certificate.fingerprint.hex(),
            },
        )


def _read(pem: str) -> tuple[bytes, str, datetime, datetime]:
    """Read fingerprint, subject and validity of the one certificate in a PEM text."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    if "PRIVATE KEY" in pem:
        raise certificate_unreadable("holds a private key, which is nobody's but yours: make a new one")
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
        if len(found) != 1:
            raise certificate_unreadable("holds more than one certificate: send the client's own")
        der = found[0].public_bytes(Encoding.DER)
        subject = found[0].subject.rfc4514_string()[:_SUBJECT_LENGTH]
        return hashlib.sha256(der).digest(), subject, found[0].not_valid_before_utc, found[0].not_valid_after_utc
    except (ValueError, TypeError):
        raise certificate_unreadable("is no certificate in PEM") from None
