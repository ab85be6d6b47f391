"""Asks for moves, and lets a second administrator confirm those that leave a region."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.errors import (
    confirmer_same,
    isolation_unavailable,
    move_nowhere,
    move_switched,
    operation_open,
    state_conflict,
    unknown_region,
)
from tenantry.capabilities.tenants.ports import Provisioner
from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.moves import PROVISION
from tenantry.capabilities.tenants.service.operations import OperationLog, new_operation
from tenantry.capabilities.tenants.service.tenants import place_for
from tenantry.capabilities.tenants.types import (
    Isolation,
    Operation,
    OperationKind,
    OperationStatus,
    Seat,
    TenantStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.ids import Prefix, format_id

GRACE_SECONDS: Final = 3600
"""How long the old place is kept unless the request says otherwise."""


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """Where to; None stays as it is."""

    isolation: Isolation | None
    region: str | None
    grace_seconds: int = GRACE_SECONDS


class MoveService:
    """Moves of one tenant. `audit` is that tenant's trail."""

    def __init__(
        self, *, directory: Directory, log: OperationLog, provisioner: Provisioner, audit: AuditService, clock: Clock
    ) -> None:
        self._directory = directory
        self._log = log
        self._provisioner = provisioner
        self._audit = audit
        self._clock = clock

    async def request(
        self, tenant_id: UUID, wanted: MoveRequest, *, requested_by: str, regions: tuple[str, ...]
    ) -> Operation:
        """Begin a move within the region, or have one to another region wait for a second administrator.

        Raises Invalid `region_unknown`, `isolation_unavailable` or `move_nowhere`, Conflict `state_conflict` for a
        tenant that is neither active nor suspended, Conflict `operation_open`.
        """
        placement = await self._directory.get(tenant_id)
        if placement.status not in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED):
            raise state_conflict("tenant", placement.status, "moved")
        region, isolation = wanted.region or placement.region, wanted.isolation or placement.isolation
        if region not in regions:
            raise unknown_region(region, regions)
        if isolation not in (offered := self._provisioner.offers(region)):
            raise isolation_unavailable(isolation, offered)
        source = Seat(placement.region, placement.isolation, placement.placement)
        target = Seat(region, isolation, place_for(isolation, region=region, tenant_id=tenant_id))
        if source == target:
            raise move_nowhere(region, isolation)
        latest = await self._log.list_operations(tenant_id, limit=1)
        if latest and latest[0].status in (OperationStatus.WAITING, OperationStatus.RUNNING):
            raise operation_open()
        now = self._clock.now()
        operation = new_operation(
            OperationKind.MOVE,
            step=PROVISION,
            tenant_id=tenant_id,
            source=source,
            target=target,
            requested_by=requested_by,
            now=now,
            waits=source.region != target.region,
            grace_seconds=wanted.grace_seconds,
        )
        await self._record("tenant.move_requested", operation)
        return await self._log.begin(operation)

    async def confirm(self, operation: Operation, *, confirmed_by: str) -> Operation:
        """Start a move that waits; raises Denied `confirmer_same` for the administrator who asked for it."""
        if confirmed_by == operation.requested_by:
            raise confirmer_same()
        await self._record("tenant.move_confirmed", operation)
        return await self._log.decide(operation, confirmed_by=confirmed_by)

    async def cancel(self, operation: Operation, *, cancelled_by: str) -> Operation:
        """Call off a move that waits, or have one put back that runs; doing it again changes nothing more.

        Raises Conflict `move_switched` once the directory shows the tenant at its new place, `state_conflict` for what
        has ended otherwise or is no move. A tenant on its way takes no writes: what is put back tells its trail itself.
        """
        if operation.kind is not OperationKind.MOVE:
            raise state_conflict(f"{operation.kind} operation", operation.status, "cancelled")
        if operation.status is OperationStatus.CANCELLED:
            return operation
        if operation.status is OperationStatus.WAITING:
            await self._record("tenant.move_cancelled", operation)
            return await self._log.decide(operation, confirmed_by=None)
        if operation.status is not OperationStatus.RUNNING:
            raise state_conflict("operation", operation.status, "cancelled")
        called_off = await self._log.call_off(operation, cancelled_by=cancelled_by)
        if called_off is None:
            raise move_switched()
        return called_off

    async def _record(self, action: str, operation: Operation) -> None:
        await self._audit.record(
            action,
            resource_type="operation",
            resource_id=format_id(Prefix.OPERATION, operation.operation_id),
            details={
                "from": f"{operation.source.region}/{operation.source.isolation}",
                "to": f"{operation.target.region}/{operation.target.isolation}",
            },
        )
