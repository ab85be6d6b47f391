"""The platform's own trail, where what is done with tenants is told that may be no more."""

from collections.abc import Mapping
from typing import Any

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import AuditFilter
from tenantry.capabilities.tenants.types import PLATFORM_TENANT, Operation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM, TenantScope, current_scope


def platform_scope(region: str) -> TenantScope:
    """Give the platform's own scope; what runs there is told from where, and in which trace, it was asked for."""
    asked = current_scope()
    ip, trace_id = (asked.ip, asked.trace_id) if asked else (None, "")
    return TenantScope(tenant_id=PLATFORM_TENANT, region=region, actor=SYSTEM, ip=ip, trace_id=trace_id)


async def tell_once(
    session: TenantSession, action: str, operation: Operation, *, clock: Clock, details: Mapping[str, Any]
) -> bool:
    """Record what an operation did in the session's trail unless that stands there; tells whether it did now."""
    audit = AuditService(session=session, clock=clock)
    name = format_id(Prefix.OPERATION, operation.operation_id)
    if await audit.list_events(AuditFilter(action=action, resource=name), limit=1):
        return False
    await audit.record(action, resource_type="operation", resource_id=name, details=details)
    return True


async def tell_platform(cells: Cells, action: str, operation: Operation, *, region: str, clock: Clock) -> None:
    """Record it, once, in the platform's trail of a region: by ids, the trail holds no word of a tenant."""
    async with cells.session(platform_scope(region), lifecycle=True) as session:
        details = {"tenant": format_id(Prefix.TENANT, operation.tenant_id)}
        await tell_once(session, action, operation, clock=clock, details=details)
