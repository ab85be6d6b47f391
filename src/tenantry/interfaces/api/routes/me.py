"""Who am I here, and what may I do."""

from typing import Any, Final
from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.errors import permission_missing
from tenantry.capabilities.access.service import decide, held_in
from tenantry.capabilities.access.types import Access, Circumstances, Permission
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api import cookies
from tenantry.interfaces.api.context import not_found
from tenantry.interfaces.api.routing import Mark, RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_SHOWN: Final = 200


class WorkspaceAccess(Answer):
    id: str
    roles: list[str]
    permissions: list[str]


class OwnLogin(Answer):
    id: str
    kind: str = Field(description="web or program")
    auth_time: Moment
    expires_at: Moment
    csrf_token: str | None = Field(description="of the console: goes with each change, as X-CSRF-Token")


class Me(Answer):
    principal: dict[str, Any]
    login: OwnLogin | None = Field(description="none for keys")
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
        login=_login(unit),
        tenant={
            "id": format_id(Prefix.TENANT, caller.tenant_id),
            "slug": caller.tenant_slug,
            "region": caller.region,
        },
        permissions=sorted(p.value for p in held_in(caller.access, None)),
        workspaces=[
            WorkspaceAccess(
                id=format_id(Prefix.WORKSPACE, workspace_id),
                roles=list(caller.roles),
                permissions=sorted(p.value for p in held_in(caller.access, workspace_id, Circumstances(path=path))),
            )
            for workspace_id, path in (await _workspaces(unit)).items()
        ],
    )


def _login(unit: Unit) -> OwnLogin | None:
    login = unit.caller.login
    if login is None:
        return None
    cookie = cookies.read_cookie(unit.request, cookies.LOGIN, unit.runtime.settings)
    return OwnLogin(
        id=format_id(Prefix.LOGIN, login.login_id),
        kind=login.kind,
        auth_time=login.auth_time,
        expires_at=login.expires_at,
        csrf_token=cookies.csrf_token(cookie, unit.runtime.hasher) if cookie else None,
    )


async def _workspaces(unit: Unit) -> dict[UUID, str]:
    """Collect the workspaces it has a say in, and their paths; who has one in the whole tenant sees its first 200."""
    access = unit.caller.access
    only = None if access.wide else sorted(access.named_workspaces)
    found = await unit.workspaces.list_workspaces(limit=_SHOWN, only=only)
    return {
        workspace.workspace_id: workspace.path
        for workspace in found
        if unit.caller.workspace_id in (None, workspace.workspace_id) and access.knows(workspace.workspace_id)
    }


class Question(Body):
    permission: str
    workspace: str | None = None
    environment: str | None = Field(default=None, max_length=60)
    labels: dict[str, str] | None = Field(default=None, max_length=50)
    principal: str | None = Field(default=None, max_length=60, description="somebody else: asks for `role:read`")


class Explanation(Answer):
    decision: str
    reason: str
    layer: str = "access"
    by: str | None = Field(description="the binding, grant or key that decided")
    allow_with: list[str] = Field(description="roles that hold what is missing, smallest first")
    depends_on: list[str] = Field(description="what the question would have to name for another answer")


@routes.post("/explain", needs=Mark.AUTHENTICATED, replay=None)
async def explain(request: Request, body: Question) -> Explanation:
    """Tell whether a credential or principal may do something, by what, and what is missing; nothing is done."""
    if body.permission not in Permission.__members__.values():
        raise Invalid("permission_unknown", "permission: is not one of the catalogue", layer="access")
    unit = unit_of(request)
    workspace_id = parse_id(Prefix.WORKSPACE, body.workspace) if body.workspace else unit.scope.workspace_id
    path = None if workspace_id is None else await _path_of(unit, workspace_id)
    told = body.environment is not None or body.labels is not None
    about = Circumstances(path=path, told=told, environment=body.environment, labels=body.labels or {})
    access = unit.caller.access if body.principal is None else await _access_of(unit, body.principal, workspace_id)
    decision = decide(access, Permission(body.permission), workspace_id, about)
    return Explanation(
        decision=decision.outcome,
        reason=decision.reason,
        by=decision.source,
        allow_with=list(decision.allow_with),
        depends_on=["environment", "labels"] if decision.conditional else [],
    )


async def _access_of(unit: Unit, principal: str, workspace_id: UUID | None) -> Access:
    """Tell what somebody else may do; raises Denied without `role:read` there, NotFound for who is nobody."""
    needs = Permission.ROLE_READ
    own = decide(unit.caller.access, needs, workspace_id)
    if not own.allowed:
        raise permission_missing(needs, own)
    await unit.access.require_principal(principal, workspace_id=workspace_id)
    return (await unit.rights_of(principal)).access


async def _path_of(unit: Unit, workspace_id: UUID) -> str:
    """Tell a workspace's path; raises NotFound where the guard would: it is not the caller's to know of."""
    caller = unit.caller
    state = None
    if caller.workspace_id in (None, workspace_id) and caller.access.knows(workspace_id):
        state = await unit.runtime.admission.workspace_state(caller, workspace_id)
    if state is None:
        raise not_found()
    return state.path
