"""Ed25519 keys with which service accounts sign requests; their private halves are never here."""

import base64
import binascii
from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity import repository
from tenantry.capabilities.identity.errors import (
    public_key_registered,
    public_key_unusable,
    signing_key_not_found,
)
from tenantry.capabilities.identity.ports import KeyScopes, RegistrableAccount
from tenantry.capabilities.identity.service.accounts import AccountService
from tenantry.capabilities.identity.service.lifetimes import end_of_credential
from tenantry.capabilities.identity.types import ProofStatus, SigningKey
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.settings import IdentitySettings

_KEY_LENGTH: Final = 32
_P: Final = 2**255 - 19
_ORDER_8: Final = (
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
)
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _P, _P + 1, *_ORDER_8})
"""y of the points under whose key anybody's signature can be made to verify, also as unreduced numbers."""


class SigningKeyService:
    """Signing keys in the session's tenant."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        accounts: AccountService,
        registrable: RegistrableAccount,
        clock: Clock,
        settings: IdentitySettings,
    ) -> None:
        self._session = session
        self._audit = audit
        self._accounts = accounts
        self._registrable = registrable
        self._clock = clock
        self._settings = settings

    async def register(
        self,
        account_id: UUID,
        *,
        workspace_id: UUID,
        public_key: str,
        scopes: KeyScopes,
        expires_at: datetime | None = None,
    ) -> SigningKey:
        """Let whoever signs with the key of this public half (32 bytes, base64) be the service account.

        Raises Denied `grant_exceeds_own` where the account is bound to more than the registrar may do; Invalid
        `public_key_unusable`, `expiry_past`, `expiry_too_far`; NotFound; Conflict `public_key_registered`.
        """
        account = await self._registrable(account_id, workspace_id=workspace_id, scopes=scopes)
        now = self._clock.now()
        key = SigningKey(
            signing_key_id=new_id(),
            workspace_id=workspace_id,
            service_account_id=account.service_account_id,
            public_key=_read(public_key),
            status=ProofStatus.ACTIVE,
            created_at=now,
            created_by=self._session.scope.actor.id,
            expires_at=end_of_credential(expires_at, now=now, settings=self._settings),
        )
        if not await repository.insert_signing_key(self._session, key):
            raise public_key_registered()
        await self._record("signing_key.registered", key)
        return key

    async def get(self, account_id: UUID, signing_key_id: UUID, *, workspace_id: UUID) -> SigningKey:
        await self._accounts.get_service_account(account_id, workspace_id=workspace_id)
        key = await repository.find_signing_key(
            self._session, signing_key_id, workspace_id=workspace_id, account_id=account_id
        )
        if key is None:
            raise signing_key_not_found()
        return key

    async def list_of(
        self, account_id: UUID, *, workspace_id: UUID, after: UUID | None = None, limit: int = 50
    ) -> list[SigningKey]:
        await self._accounts.get_service_account(account_id, workspace_id=workspace_id)
        return await repository.list_signing_keys(self._session, account_id=account_id, after=after, limit=limit)

    async def revoke(self, account_id: UUID, signing_key_id: UUID, *, workspace_id: UUID) -> SigningKey:
        """Revoke for good, everywhere within a second. Revoking twice changes nothing."""
        key = await self.get(account_id, signing_key_id, workspace_id=workspace_id)
        await repository.revoke_signing_key(self._session, signing_key_id, now=self._clock.now())
        await announce_revocation(self._session)
        await self._record("signing_key.revoked", key)
        return await self.get(account_id, signing_key_id, workspace_id=workspace_id)

    async def find(self, signing_key_id: UUID, *, workspace_id: UUID) -> SigningKey | None:
        """Find by the id that a signature names, in whatever state."""
        return await repository.find_signing_key(self._session, signing_key_id, workspace_id=workspace_id)

    async def _record(self, action: str, key: SigningKey) -> None:
        await self._audit.record(
            action,
            resource_type="signing_key",
            resource_id=format_id(Prefix.SIGNING_KEY, key.signing_key_id),
            details={"principal": format_id(Prefix.SERVICE_ACCOUNT, key.service_account_id)},
        )


def _read(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise public_key_unusable("is not base64") from None
    if len(key) != _KEY_LENGTH:
        raise public_key_unusable("is not the 32 bytes of an Ed25519 key")
    if int.from_bytes(key, "little") & (2**255 - 1) in _SMALL_ORDER:
        raise public_key_unusable("is a point of small order, for which anybody can sign")
    return key
