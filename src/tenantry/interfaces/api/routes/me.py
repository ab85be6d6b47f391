"""Who am I here, and what may I do."""

from typing import Any, Final
from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.service import held_in
from tenantry.capabilities.access.types import Circumstances
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api import cookies
from tenantry.interfaces.api.routing import Mark, RouteRegistry
from tenantry.interfaces.api.schema import Answer, Moment
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
