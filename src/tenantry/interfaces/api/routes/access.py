"""Members, roles and bindings, of the whole tenant and of a workspace."""

from typing import Any
from uuid import UUID

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import BUILT_IN_ROLES, TENANT_WIDE_ROLES, Binding, Permission
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class BindingBody(Body):
    principal: str = Field(max_length=60, description="`usr_…` or `svc_…`")
    role: str = Field(max_length=60)


class BindingAnswer(Answer):
    id: str
    principal: dict[str, str]
    role: str
    workspace: str | None
    created_at: Moment
    created_by: str


class MemberAnswer(Answer):
    id: str
    email: str
    name: str
    status: str
    issuer: str
    created_at: Moment


async def _again(unit: Unit, resource_id: str) -> BindingAnswer:
    binding_id = parse_id(Prefix.BINDING, resource_id)
    return render(await unit.access.get_binding(binding_id, workspace_id=unit.scope.workspace_id))


async def _bind(unit: Unit, body: BindingBody, workspace_id: UUID | None) -> BindingAnswer:
    binding = await unit.access.create_binding(
        principal=body.principal, role=body.role, workspace_id=workspace_id, grantor=unit.grantor
    )
    unit.resource_id = format_id(Prefix.BINDING, binding.binding_id)
    return render(binding)


async def _list(unit: Unit, workspace_id: UUID | None, limit: int, cursor: str | None) -> Page[BindingAnswer]:
    found = await unit.access.list_bindings(workspace_id=workspace_id, after=after(unit, cursor), limit=limit + 1)
    items = [render(binding) for binding in found]
    return Page[BindingAnswer](**page(unit, items, ids=[b.binding_id for b in found], limit=limit))


async def _unbind(unit: Unit, binding: str, workspace_id: UUID | None) -> Response:
    await unit.access.delete_binding(parse_id(Prefix.BINDING, binding), workspace_id=workspace_id)
    return Response(status_code=204)


def _roles(*, in_workspace: bool) -> dict[str, Any]:
    items = [
        {"slug": slug, "built_in": True, "permissions": sorted(p.value for p in held)}
        for slug, held in BUILT_IN_ROLES.items()
        if slug != "platform-admin" and not (in_workspace and slug in TENANT_WIDE_ROLES)
    ]
    return {"items": items, "next_cursor": None}


@routes.get("/tenants/{tenant}/members", needs=Permission.MEMBER_READ)
async def list_members(
    request: Request,
    tenant: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[MemberAnswer]:
    """The users of the tenant."""
    unit = unit_of(request)
    found = await unit.identity.list_users(after=after(unit, cursor), limit=limit + 1)
    items = [
        MemberAnswer(
            id=format_id(Prefix.USER, user.user_id),
            email=user.email,
            name=user.name,
            status=user.status,
            issuer=user.issuer,
            created_at=user.created_at,
        )
        for user in found
    ]
    return Page[MemberAnswer](**page(unit, items, ids=[u.user_id for u in found], limit=limit))


@routes.get("/tenants/{tenant}/roles", needs=Permission.ROLE_READ)
async def list_tenant_roles(request: Request, tenant: str) -> dict[str, Any]:
    """Roles that can be bound in the whole tenant."""
    return _roles(in_workspace=False)


@routes.get("/workspaces/{ws}/roles", needs=Permission.ROLE_READ)
async def list_workspace_roles(request: Request, ws: str) -> dict[str, Any]:
    """Roles that can be bound in a workspace."""
    return _roles(in_workspace=True)


@routes.post("/tenants/{tenant}/bindings", needs=Permission.ROLE_ADMIN, replay=_again, status=201)
async def create_tenant_binding(request: Request, tenant: str, body: BindingBody) -> BindingAnswer:
    """Give a principal a role in the whole tenant; nobody gives more than they hold."""
    return await _bind(unit_of(request), body, None)


@routes.get("/tenants/{tenant}/bindings", needs=Permission.ROLE_READ)
async def list_tenant_bindings(
    request: Request,
    tenant: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[BindingAnswer]:
    """Bindings in the whole tenant."""
    return await _list(unit_of(request), None, limit, cursor)


@routes.delete("/tenants/{tenant}/bindings/{binding}", needs=Permission.ROLE_ADMIN, status=204, media_type="")
async def delete_tenant_binding(request: Request, tenant: str, binding: str) -> Response:
    """Take the role away, everywhere within a second."""
    return await _unbind(unit_of(request), binding, None)


@routes.post("/workspaces/{ws}/bindings", needs=Permission.ROLE_ADMIN, replay=_again, status=201)
async def create_workspace_binding(request: Request, ws: str, body: BindingBody) -> BindingAnswer:
    """Give a principal a role in this workspace; nobody gives more than they hold."""
    unit = unit_of(request)
    return await _bind(unit, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/bindings", needs=Permission.ROLE_READ)
async def list_workspace_bindings(
    request: Request,
    ws: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[BindingAnswer]:
    """Bindings in this workspace."""
    unit = unit_of(request)
    return await _list(unit, unit.workspace_id, limit, cursor)


@routes.delete("/workspaces/{ws}/bindings/{binding}", needs=Permission.ROLE_ADMIN, status=204, media_type="")
async def delete_workspace_binding(request: Request, ws: str, binding: str) -> Response:
    """Take the role away, everywhere within a second."""
    unit = unit_of(request)
    return await _unbind(unit, binding, unit.workspace_id)


def render(binding: Binding) -> BindingAnswer:
    return BindingAnswer(
        id=format_id(Prefix.BINDING, binding.binding_id),
        principal={"type": binding.principal_type, "id": binding.principal_id},
        role=binding.role,
        workspace=named(Prefix.WORKSPACE, binding.workspace_id),
        created_at=binding.created_at,
        created_by=binding.created_by,
    )
