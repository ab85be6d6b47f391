"""Legal holds of a workspace: placed for a case, released, never deleted."""

from fastapi import Query, Request

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.evidence_forms import HoldAnswer, HoldBody, render_hold
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import CursorText, Limit, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_BASE = "/workspaces/{ws}/evidence/holds"


async def _again(unit: Unit, resource_id: str) -> HoldAnswer:
    hold = await unit.holds.get(parse_id(Prefix.HOLD, resource_id), workspace_id=unit.workspace_id)
    return render_hold(hold)


@routes.post(
    _BASE,
    needs=Permission.EVIDENCE_ADMIN,
    replay=_again,
    status=201,
    feature=Feature.COMPLIANCE,
    closed_too=True,
)
async def place_hold(request: Request, ws: str, body: HoldBody) -> HoldAnswer:
    """Keep what it selects until it is released: evidence, and what its jobs have left. Also of a closed workspace."""
    unit = unit_of(request)
    hold = await unit.holds.place(
        workspace_id=unit.workspace_id,
        case_id=body.case_id,
        reason=body.reason,
        selector=body.selector,
        by=unit.caller.principal,
    )
    unit.resource_id = format_id(Prefix.HOLD, hold.hold_id)
    return render_hold(hold)


@routes.get(_BASE, needs=Permission.EVIDENCE_READ)
async def list_holds(
    request: Request,
    ws: str,
    active: bool | None = Query(default=None, description="only those that are, or are not any more"),
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[HoldAnswer]:
    """The holds of the workspace, newest first, also those that were released."""
    unit, filters = unit_of(request), str(active)
    found = await unit.holds.list_holds(
        workspace_id=unit.workspace_id, before=after(unit, cursor, filters=filters), limit=limit + 1, active=active
    )
    items = [render_hold(each) for each in found]
    return Page[HoldAnswer](**page(unit, items, ids=[each.hold_id for each in found], limit=limit, filters=filters))


@routes.delete(f"{_BASE}/{{hold}}", needs=Permission.EVIDENCE_ADMIN, closed_too=True)
async def release_hold(
    request: Request,
    ws: str,
    hold: str,
    reason: str | None = Query(default=None, min_length=1, max_length=500, description="why it is released"),
) -> HoldAnswer:
    """Release it for good. What it alone kept is forgotten within an hour."""
    unit = unit_of(request)
    released = await unit.holds.release(
        parse_id(Prefix.HOLD, hold), workspace_id=unit.workspace_id, by=unit.caller.principal, reason=reason
    )
    return render_hold(released)
