"""What a tenant, and each workspace, sets of its own limits."""

from collections.abc import Mapping
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.errors import override_version_mismatch
from tenantry.capabilities.limits.types import NOTHING, LimitOverride
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
        self, rates: Mapping[str, RateLimitSpec], *, workspace_id: UUID | None, if_version: int | None
    ) -> LimitOverride:
        """Replace it whole, for every process within a second; raises Precondition for a stale version.

        A lower layer only narrows: what is above the layers over it counts for nothing.
        """
        before = await self.get(workspace_id)
        stored = await repository.put_override(
            self._session, workspace_id=workspace_id, rates=rates, if_version=if_version, now=self._clock.now()
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
            details={"before": _shown(before.rates), "after": _shown(stored.rates)},
        )
        return stored


def _shown(rates: Mapping[str, RateLimitSpec]) -> dict[str, dict[str, int]]:
    return {name: spec.model_dump(exclude_none=True) for name, spec in sorted(rates.items())}
