"""Who am I here, and what may I do."""

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.service import decide
from tenantry.capabilities.access.types import Permission
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.context import not_found
from tenantry.interfaces.api.routing import Mark, RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_SHOWN: Final = 200


class WorkspaceAccess(Answer):
    id: str
    roles: list[str]
    permissions: list[str]


class Me(Answer):
    principal: dict[str, Any]
    tenant: dict[str, str]
    permissions: list[str] = Field(description="held in the whole tenant")
    workspaces: list[WorkspaceAccess]


@routes.get("/me", needs=Mark.AUTHENTICATED)
async def me(request: Request) -> Me:
    """Tell the principal, its tenant, and what it may do where."""
    unit = unit_of(request)
    caller = unit.caller
    return Me(
        principal={
            "type": caller.actor.type.value,
            "id": caller.actor.id,
            "acts_for": caller.principal,
            "roles": list(caller.roles),
        },
        tenant={
            "id": format_id(Prefix.TENANT, caller.tenant_id),
            "slug": caller.tenant_slug,
            "region": caller.region,
        },
        permissions=sorted(p.value for p in caller.access.tenant),
        workspaces=[
            WorkspaceAccess(
                id=format_id(Prefix.WORKSPACE, workspace_id),
                roles=list(caller.roles),
                permissions=sorted({p.value for p in (*caller.access.tenant, *held)}),
            )
            for workspace_id, held in (await _workspaces(unit)).items()
        ],
    )


async def _workspaces(unit: Unit) -> dict[UUID, Collection[Permission]]:
    """Collect the workspaces with their own permissions; who reads the whole tenant sees its first 200."""
    access = unit.caller.access
    places: dict[UUID, Collection[Permission]] = dict(access.workspaces)
    if Permission.WORKSPACE_READ in access.tenant:
        for workspace in await unit.workspaces.list_workspaces(limit=_SHOWN):
            places.setdefault(workspace.workspace_id, ())
    return places


class Question(Body):
    permission: str
    workspace: str | None = None


class Explanation(Answer):
    decision: str
    reason: str
    layer: str = "access"
    allow_with: list[str] = Field(description="roles that hold what is missing, smallest first")


@routes.post("/explain", needs=Mark.AUTHENTICATED, replay=None)
async def explain(request: Request, body: Question) -> Explanation:
    """Tell whether this credential may do something, by what, and what is missing; nothing is done."""
    if body.permission not in Permission.__members__.values():
        raise Invalid("permission_unknown", "permission: is not one of the catalogue", layer="access")
    unit = unit_of(request)
    workspace_id = parse_id(Prefix.WORKSPACE, body.workspace) if body.workspace else unit.scope.workspace_id
    if workspace_id is not None:
        await _require_known(unit, workspace_id)
    decision = decide(unit.caller.access, Permission(body.permission), workspace_id)
    return Explanation(decision=decision.outcome, reason=decision.reason, allow_with=list(decision.allow_with))


async def _require_known(unit: Unit, workspace_id: UUID) -> None:
    """Raise NotFound where the guard would: for a workspace that is not the caller's to know of."""
    caller = unit.caller
    if (
        caller.workspace_id not in (None, workspace_id)
        or not caller.access.knows(workspace_id)
        or await unit.runtime.admission.workspace_status(caller, workspace_id) is None
    ):
        raise not_found()
