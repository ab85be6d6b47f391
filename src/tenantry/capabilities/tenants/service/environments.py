"""Environments: the tiers of a workspace."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import (
    environment_not_found,
    environment_taken,
    environment_unknown,
    version_mismatch,
)
from tenantry.capabilities.tenants.types import Environment, EnvironmentKind
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession


class EnvironmentService:
    """Add, read, change and remove those of one workspace. A slug names one thing for good: it does not change."""

    def __init__(self, *, session: TenantSession, workspace_id: UUID, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._workspace_id = workspace_id
        self._audit = audit
        self._clock = clock

    async def add(self, slug: str, *, kind: EnvironmentKind, description: str) -> Environment:
        """Raise Conflict `environment_taken` when there is one of this slug."""
        now = self._clock.now()
        new = Environment(slug, kind, description, version=1, created_at=now, updated_at=now)
        if not await repository.insert_environment(self._session, self._workspace_id, new):
            raise environment_taken(slug)
        await self._record("environment.added", slug, {"kind": kind.value})
        return new

    async def get(self, slug: str) -> Environment:
        found = await repository.find_environment(self._session, self._workspace_id, slug)
        if found is None:
            raise environment_not_found()
        return found

    async def require(self, slug: str) -> None:
        """Raise Invalid `environment_unknown` when the workspace has none of this slug."""
        if await repository.find_environment(self._session, self._workspace_id, slug) is None:
            raise environment_unknown(slug)

    async def list_environments(self, *, after: str | None = None, limit: int = 50) -> list[Environment]:
        """List by slug."""
        return await repository.list_environments(self._session, self._workspace_id, after=after, limit=limit)

    async def change(
        self, slug: str, *, kind: EnvironmentKind | None, description: str | None, if_version: int | None
    ) -> Environment:
        """Change what is named; raises NotFound, Precondition."""
        now = await self._locked(slug, if_version)
        changed = replace(
            now,
            kind=now.kind if kind is None else kind,
            description=now.description if description is None else description,
            version=now.version + 1,
            updated_at=self._clock.now(),
        )
        await repository.update_environment(self._session, self._workspace_id, changed)
        told: dict[str, Any] = {"changed": {"kind": [now.kind, changed.kind]} if now.kind != changed.kind else {}}
        if now.description != changed.description:
            told["description"] = [now.description, changed.description]
        await self._record("environment.changed", slug, told)
        return changed

    async def remove(self, slug: str, *, if_version: int | None) -> Environment:
        """Remove it; raises NotFound, Precondition."""
        found = await self._locked(slug, if_version)
        await repository.delete_environment(self._session, self._workspace_id, slug)
        await self._record("environment.removed", slug, {"kind": found.kind.value})
        return found

    async def _locked(self, slug: str, if_version: int | None) -> Environment:
        found = await repository.find_environment(self._session, self._workspace_id, slug, lock=True)
        if found is None:
            raise environment_not_found()
        if if_version is not None and found.version != if_version:
            raise version_mismatch(found.version)
        return found

    async def _record(self, action: str, slug: str, details: dict[str, Any]) -> None:
        await self._audit.record(action, resource_type="environment", resource_id=slug, details=details)
