"""Work on whole tenants that outlives a request: moves, and what became of them."""

from typing import Literal

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.tenants.service import GRACE_SECONDS, MoveRequest
from tenantry.capabilities.tenants.types import PLATFORM_TENANT, Isolation, Operation
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.administrators import administrator
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class MoveBody(Body):
    isolation: Literal["row_level", "schema_level", "database_level"] | None = None
    region: str | None = Field(default=None, max_length=16)
    grace_seconds: int = Field(
        default=GRACE_SECONDS, ge=0, le=30 * 86400, description="how long the old place is kept after the move"
    )


class SeatAnswer(Answer):
    region: str
    isolation: str


class OperationAnswer(Answer):
    id: str
    kind: str
    status: str = Field(description="waiting (for a second administrator), running, succeeded, failed or cancelled")
    step: str
    source: SeatAnswer
    target: SeatAnswer
    requested_by: str
    confirmed_by: str | None
    cancelled_by: str | None
    failure: str | None = Field(description="the code of what keeps it from going on, or ended it")
    ending: str | None = Field(
        description="cancelled or failed: what was done is being put back, then that is its status"
    )
    due_at: Moment
    created_at: Moment
    updated_at: Moment


async def _again(unit: Unit, resource_id: str) -> OperationAnswer:
    return render(await _find(unit, resource_id))


@routes.post("/tenants/{tenant}/move", needs=Permission.PLATFORM_ADMIN, replay=_again, status=202)
async def move_tenant(request: Request, tenant: str, body: MoveBody) -> OperationAnswer:
    """Move a tenant to another isolation strategy at once, or to another region once a second administrator agrees."""
    unit = unit_of(request)
    if unit.scope.tenant_id == PLATFORM_TENANT:
        raise Denied("platform_tenant", "the installation's own tenant stays as it is", layer="tenants")
    wanted = MoveRequest(
        isolation=Isolation(body.isolation) if body.isolation else None,
        region=body.region,
        grace_seconds=body.grace_seconds,
    )
    operation = await unit.moves.request(
        unit.scope.tenant_id,
        wanted,
        requested_by=administrator(unit.caller),
        regions=unit.runtime.settings.region_names,
    )
    unit.resource_id = format_id(Prefix.OPERATION, operation.operation_id)
    return render(operation)


@routes.get("/tenants/{tenant}/operations", needs=Permission.TENANT_READ, platform=True, erased_too=True)
async def list_operations(
    request: Request, tenant: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[OperationAnswer]:
    """Moves, exports, imports and erasures of the tenant, newest first."""
    unit = unit_of(request)
    found = await unit.operations.list_operations(unit.about, before=after(unit, cursor), limit=limit + 1)
    items = [render(operation) for operation in found]
    return Page[OperationAnswer](**page(unit, items, ids=[o.operation_id for o in found], limit=limit))


@routes.get("/tenants/{tenant}/operations/{operation}", needs=Permission.TENANT_READ, platform=True, erased_too=True)
async def get_operation(request: Request, tenant: str, operation: str) -> OperationAnswer:
    """How far it has come."""
    unit = unit_of(request)
    return render(await _find(unit, operation))


@routes.post(
    "/tenants/{tenant}/operations/{operation}/confirm", needs=Permission.TENANT_ADMIN, replay=_again, platform=True
)
async def confirm_operation(request: Request, tenant: str, operation: str) -> OperationAnswer:
    """Agree, as another administrator than the one who asked: of the installation or of the tenant."""
    unit = unit_of(request)
    found = await _find(unit, operation)
    unit.resource_id = operation
    return render(await unit.moves.confirm(found, confirmed_by=administrator(unit.caller)))


@routes.post(
    "/tenants/{tenant}/operations/{operation}/cancel", needs=Permission.TENANT_ADMIN, replay=None, platform=True
)
async def cancel_operation(request: Request, tenant: str, operation: str) -> OperationAnswer:
    """Call off a move: one that waits at once, one that runs by putting it back, until its tenant is at the new place.

    Repeating it answers how far that has come.
    """
    unit = unit_of(request)
    found = await _find(unit, operation)
    return render(await unit.moves.cancel(found, cancelled_by=administrator(unit.caller)))


async def _find(unit: Unit, name: str) -> Operation:
    return await unit.operations.get(parse_id(Prefix.OPERATION, name), tenant_id=unit.about)


def render(operation: Operation) -> OperationAnswer:
    source, target = (
        SeatAnswer(region=seat.region, isolation=seat.isolation) for seat in (operation.source, operation.target)
    )
    return OperationAnswer(
        id=format_id(Prefix.OPERATION, operation.operation_id),
        kind=operation.kind,
        status=operation.status,
        step=operation.step,
        source=source,
        target=target,
        requested_by=operation.requested_by,
        confirmed_by=operation.confirmed_by,
        cancelled_by=operation.cancelled_by,
        failure=operation.failure,
        ending=operation.ending,
        due_at=operation.due_at,
        created_at=operation.created_at,
        updated_at=operation.updated_at,
    )
