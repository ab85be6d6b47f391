"""Secrets as their owners see them: write, list, remove."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.secrets import repository
from tenantry.capabilities.secrets.errors import secret_not_found, too_many_secrets, version_mismatch
from tenantry.capabilities.secrets.service.sealing import place_of
from tenantry.capabilities.secrets.types import MAX_SECRETS, SHOWN_VERSIONS, Secret, SecretVersion
from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id


class SecretService:
    """Secrets of one workspace."""

    def __init__(self, *, session: TenantSession, workspace_id: UUID, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._workspace_id = workspace_id
        self._audit = audit
        self._clock = clock

    async def write(self, *, name: str, value: str, keyset: Keyset) -> Secret:
        """Make a secret, or the next version of the one of this name; `keyset` is the tenant's.

        Raises Exhausted `secret_limit`.
        """
        others = await repository.count_others(self._session, workspace_id=self._workspace_id, name=name)
        if others >= MAX_SECRETS:
            raise too_many_secrets(others)
        actor = self._session.scope.actor.id
        secret = await repository.upsert_secret(
            self._session,
            workspace_id=self._workspace_id,
            name=name,
            fresh_id=new_id(),
            by=actor,
            now=self._clock.now(),
        )
        place = place_of(
            tenant_id=self._session.scope.tenant_id,
            workspace_id=self._workspace_id,
            secret_id=secret.secret_id,
            version=secret.version,
        )
        await repository.insert_version(self._session, secret, sealed=keyset.seal(value.encode(), place), by=actor)
        await self._record("secret.written", secret, {"version": secret.version})
        return secret

    async def get(self, secret_id: UUID) -> Secret:
        found = await repository.find_secret(self._session, secret_id, workspace_id=self._workspace_id)
        if found is None:
            raise secret_not_found()
        return found

    async def list_versions(self, secret: Secret) -> list[SecretVersion]:
        """List the fifty newest, newest first."""
        return await repository.list_versions(self._session, secret.secret_id, limit=SHOWN_VERSIONS)

    async def list_secrets(self, *, after: UUID | None = None, limit: int = 50) -> list[Secret]:
        return await repository.list_secrets(self._session, workspace_id=self._workspace_id, after=after, limit=limit)

    async def remove(self, secret_id: UUID, *, if_version: int | None) -> None:
        """Remove a secret and all its values; what waits for one of them fails when it begins."""
        found = await repository.find_secret(self._session, secret_id, workspace_id=self._workspace_id, lock=True)
        if found is None:
            raise secret_not_found()
        if if_version not in (None, found.version):
            raise version_mismatch(found.version)
        await repository.delete_secret(self._session, secret_id)
        await self._record("secret.removed", found, {"version": found.version})

    async def _record(self, action: str, secret: Secret, details: Mapping[str, Any]) -> None:
        await self._audit.record(
            action,
            resource_type="secret",
            resource_id=format_id(Prefix.SECRET, secret.secret_id),
            details={"name": secret.name, **details},
        )
