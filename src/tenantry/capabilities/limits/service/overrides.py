"""What a tenant, and each workspace, sets of its own limits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.errors import number_of_tenant, override_version_mismatch
from tenantry.capabilities.limits.service.effective import OF_TENANT
from tenantry.capabilities.limits.types import NOTHING, LimitOverride
from tenantry.capabilities.limits.types.quotas import LimitNumbers
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.capabilities.tenants.types.plans import RateLimitSpec
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


class LimitService:
    """Overrides in the session's tenant; `workspace_id` None means the tenant as a whole."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def get(self, workspace_id: UUID | None) -> LimitOverride:
        """Tell what the place sets; version 0 is nothing."""
        return await repository.find_override(self._session, workspace_id) or NOTHING

    async def replace(
        self,
        rates: Mapping[str, RateLimitSpec],
        numbers: LimitNumbers,
        *,
        workspace_id: UUID | None,
        if_version: int | None,
    ) -> LimitOverride:
        """Replace all that it sets, for every process within a second.

        A lower layer only narrows: what is above the layers over it counts for nothing. Raises Precondition for a
        stale version, Invalid `limit_of_tenant` for what no workspace has by itself.
        """
        said = numbers.said
        if workspace_id is not None and (misplaced := sorted(OF_TENANT & said.keys())):
            raise number_of_tenant(misplaced[0])
        before = await self.get(workspace_id)
        stored = await repository.put_override(
            self._session,
            workspace_id=workspace_id,
            rates=rates,
            numbers=said,
            if_version=if_version,
            now=self._clock.now(),
        )
        if stored is None:
            raise override_version_mismatch()
        await announce_revocation(self._session)
        tenant_id = self._session.scope.tenant_id
        await self._audit.record(
            "limits.changed",
            resource_type="workspace" if workspace_id else "tenant",
            resource_id=format_id(Prefix.WORKSPACE, workspace_id)
            if workspace_id
            else format_id(Prefix.TENANT, tenant_id),
            details={"before": _shown(before), "after": _shown(stored)},
        )
        return stored

    async def change(
        self,
        rates: Mapping[str, RateLimitSpec] | None,
        numbers: Mapping[str, float | None],
        *,
        workspace_id: UUID | None,
        if_version: int | None,
    ) -> LimitOverride:
        """Change the named numbers (None: not set any more) and, unless None, all rates; raises as `replace`.

        Who changes others at the same moment is told that the version is stale: nothing is lost.
        """
        before = await self.get(workspace_id)
        if if_version is not None and if_version != before.version:
            raise override_version_mismatch()
        return await self.replace(
            before.rates if rates is None else rates,
            _changed(before.numbers, numbers),
            workspace_id=workspace_id,
            if_version=before.version,
        )


def _changed(numbers: Mapping[str, float], changes: Mapping[str, float | None]) -> LimitNumbers:
    merged = {name: value for name, value in {**numbers, **changes}.items() if value is not None}
    return LimitNumbers.model_validate(merged)


def _shown(override: LimitOverride) -> dict[str, Any]:
    rates = {name: spec.model_dump(exclude_none=True) for name, spec in sorted(override.rates.items())}
    return {"rates": rates, "numbers": dict(override.numbers)}
