"""Requests to forget one person in what the audit log says."""

from typing import Annotated

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.types.forgettings import Forgetting
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_BASE = "/audit/forgettings"


class ForgettingBody(Body):
    principal: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="id of a user, a service account or a key of the tenant, also of one that is no more"
    )


class ForgettingAnswer(Answer):
    id: str
    principal: str
    state: str = Field(description="open; held: by a legal hold; done")
    looked_at: int = Field(description="events that were looked at so far, in their sequence")
    forgotten: int = Field(description="of these, those beside which something lay that is gone now")
    requested_at: Moment
    requested_by: str
    ended_at: Moment | None


async def _again(unit: Unit, resource_id: str) -> ForgettingAnswer:
    return render(await unit.forgettings.get(parse_id(Prefix.FORGETTING, resource_id)))


@routes.post(_BASE, needs=Permission.TENANT_ADMIN, replay=_again, status=202)
async def forget_person(request: Request, body: ForgettingBody) -> ForgettingAnswer:
    """Forget what lies beside all events that name a principal: addresses, what else is about persons, and content.

    Of events up to now, the sealer does it in pieces; the events, their hashes and all proofs stay, and so does the id
    in them. Files of days are written anew. What is open already is given again. While a legal hold is active in the
    tenant it is refused (409 `legal_hold`).
    """
    unit = unit_of(request)
    await unit.holds.require_none(then="ask again")
    made = await unit.forgettings.request(body.principal, by=unit.caller.principal)
    unit.resource_id = format_id(Prefix.FORGETTING, made.forgetting_id)
    return render(made)


@routes.get(_BASE, needs=Permission.AUDIT_READ)
async def list_forgettings(request: Request, limit: Limit = 50, cursor: CursorText = None) -> Page[ForgettingAnswer]:
    """Requests to forget somebody, the newest first."""
    unit = unit_of(request)
    found = await unit.forgettings.list_forgettings(before=after(unit, cursor), limit=limit + 1)
    items = [render(each) for each in found]
    return Page[ForgettingAnswer](**page(unit, items, ids=[each.forgetting_id for each in found], limit=limit))


@routes.get(f"{_BASE}/{{forgetting}}", needs=Permission.AUDIT_READ)
async def get_forgetting(request: Request, forgetting: str) -> ForgettingAnswer:
    """One request: how far it is, and in how many events something was forgotten."""
    return render(await unit_of(request).forgettings.get(parse_id(Prefix.FORGETTING, forgetting)))


def render(each: Forgetting) -> ForgettingAnswer:
    return ForgettingAnswer(
        id=format_id(Prefix.FORGETTING, each.forgetting_id),
        principal=each.principal,
        state=each.state,
        looked_at=each.position,
        forgotten=each.forgotten,
        requested_at=each.requested_at,
        requested_by=each.requested_by,
        ended_at=each.ended_at,
    )
