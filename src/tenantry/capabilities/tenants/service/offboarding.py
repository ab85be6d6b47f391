"""What follows a deletion and its being taken back: the directory, the erasure to come, and what is shown of it."""

from uuid import UUID

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import certificate_not_found, erasure_begun
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.erasures import STOP
from tenantry.capabilities.tenants.service.operations import OperationLog, new_operation
from tenantry.capabilities.tenants.service.platform_trail import platform_scope, tell_platform
from tenantry.capabilities.tenants.service.tenants import ERASING
from tenantry.capabilities.tenants.types import (
    Certificate,
    OperationKind,
    OperationStatus,
    Seat,
    Tenant,
    TenantStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.errors import Denied
from tenantry.foundation.scope import SYSTEM, TenantScope


class Offboarding:
    """Deletions and erasures of tenants. The cell is what counts; the directory follows."""

    def __init__(self, *, directory: Directory, log: OperationLog, cells: Cells, clock: Clock) -> None:
        self._directory = directory
        self._log = log
        self._cells = cells
        self._clock = clock

    async def follow(self, tenant_id: UUID, *, region: str, requested_by: str = SYSTEM.id) -> None:
        """Let directory and erasure follow what the cell says of a tenant; repeating it is safe, and late too."""
        scope = TenantScope(tenant_id=tenant_id, region=region, actor=SYSTEM)
        try:
            async with self._cells.session(scope, lifecycle=True) as session:
                tenant = await repository.find_tenant(session)
        except Denied:  # erased meanwhile, or elsewhere, where it is told again
            return
        if tenant is None or tenant.status_reason == ERASING:
            return
        await self._directory.set_status(tenant_id, tenant.status)
        if tenant.status is not TenantStatus.DELETED or tenant.erase_after is None:
            await self._call_off(tenant)
            return
        await self._schedule(tenant, requested_by=requested_by)

    async def require_restorable(self, tenant_id: UUID) -> None:
        """Raise Conflict `erasure_begun`; what begins in this very moment, the tenant's row decides."""
        erasure = await self._log.find_erasure(tenant_id)
        if erasure is not None and erasure.step != STOP:
            raise erasure_begun()

    async def certificate(self, tenant_id: UUID, *, region: str) -> Certificate:
        """Give what is shown of an erased tenant; raises NotFound for one that was not erased."""
        async with self._cells.session(platform_scope(region), lifecycle=True) as session:
            found = await repository.find_certificate(session, tenant_id)
        if found is None:
            raise certificate_not_found()
        return found

    async def _schedule(self, tenant: Tenant, *, requested_by: str) -> None:
        now = self._clock.now()
        before = await self._log.find_erasure(tenant.tenant_id)
        if before is not None and before.due_at == tenant.erase_after:
            return
        placement = await self._directory.get(tenant.tenant_id)
        seat = Seat(placement.region, placement.isolation, placement.placement)
        erasure = new_operation(
            OperationKind.ERASE,
            step=STOP,
            tenant_id=tenant.tenant_id,
            source=seat,
            target=seat,
            requested_by=requested_by,
            now=now,
            due_at=tenant.erase_after,
        )
        await tell_platform(
            self._cells, "tenant.erasure_scheduled", erasure, region=placement.region, clock=self._clock
        )
        await self._log.schedule_erasure(erasure)

    async def _call_off(self, tenant: Tenant) -> None:
        erasure = await self._log.find_erasure(tenant.tenant_id)
        if erasure is not None and erasure.status is OperationStatus.RUNNING:
            await self._log.cancel_erasures(tenant.tenant_id)
            await tell_platform(self._cells, "tenant.restored", erasure, region=tenant.region, clock=self._clock)
