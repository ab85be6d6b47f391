"""Roles: those built in, and a tenant's own, for the whole tenant or for one workspace."""

from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import BUILT_IN_ROLES, TENANT_WIDE_ROLES, Permission, Role
from tenantry.foundation.ids import Prefix
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Description, Moment, Page, named
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

Permissions = Annotated[list[Annotated[str, Field(max_length=60)]], Field(min_length=1, max_length=100)]


class RoleBody(Body):
    slug: str = Field(max_length=60)
    description: Description = ""
    permissions: Permissions


class RoleChanges(Body):
    description: Description | None = None
    permissions: Permissions | None = None


class RoleAnswer(Answer):
    slug: str
    built_in: bool
    description: str
    permissions: list[str]
    workspace: str | None
    version: int | None
    created_at: Moment | None
    created_by: str | None
    updated_at: Moment | None


async def _again(unit: Unit, resource_id: str) -> RoleAnswer:
    return render(await unit.roles.get(resource_id, workspace_id=unit.scope.workspace_id))


async def _create(unit: Unit, body: RoleBody, workspace_id: UUID | None) -> RoleAnswer:
    role = await unit.roles.create(
        slug=body.slug,
        description=body.description,
        permissions=tuple(body.permissions),
        workspace_id=workspace_id,
        grantor=await unit.grantor(),
    )
    unit.resource_id = role.slug
    return _shown(unit, role)


async def _change(unit: Unit, slug: str, body: RoleChanges, workspace_id: UUID | None) -> RoleAnswer:
    role = await unit.roles.update(
        slug,
        workspace_id=workspace_id,
        description=body.description,
        permissions=None if body.permissions is None else tuple(body.permissions),
        grantor=await unit.grantor(),
        if_version=unit.if_version,
    )
    return _shown(unit, role)


async def _get(unit: Unit, slug: str, workspace_id: UUID | None) -> RoleAnswer:
    if slug in BUILT_IN_ROLES:
        return _built_in(slug)
    return _shown(unit, await unit.roles.get(slug, workspace_id=workspace_id))


async def _list(unit: Unit, workspace_id: UUID | None) -> Page[RoleAnswer]:
    """List all, in one page: a tenant has a bounded number of its own."""
    hidden = {"platform-admin"} if workspace_id is None else TENANT_WIDE_ROLES
    items = [_built_in(slug) for slug in BUILT_IN_ROLES if slug not in hidden]
    items += [render(role) for role in await unit.bindable()]
    return Page[RoleAnswer](items=items, next_cursor=None)


async def _delete(unit: Unit, slug: str, workspace_id: UUID | None) -> Response:
    await unit.roles.delete(slug, workspace_id=workspace_id)
    return Response(status_code=204)


@routes.post("/tenants/{tenant}/roles", needs=Permission.ROLE_ADMIN, replay=_again, status=201)
async def create_tenant_role(request: Request, tenant: str, body: RoleBody) -> RoleAnswer:
    """Define a role for the whole tenant; nobody defines more than they hold."""
    return await _create(unit_of(request), body, None)


@routes.get("/tenants/{tenant}/roles", needs=Permission.ROLE_READ)
async def list_tenant_roles(request: Request, tenant: str) -> Page[RoleAnswer]:
    """Roles that can be bound in the whole tenant."""
    return await _list(unit_of(request), None)


@routes.get("/tenants/{tenant}/roles/{role}", needs=Permission.ROLE_READ)
async def get_tenant_role(request: Request, tenant: str, role: str) -> RoleAnswer:
    """One role, built in or of the whole tenant."""
    return await _get(unit_of(request), role, None)


@routes.patch("/tenants/{tenant}/roles/{role}", needs=Permission.ROLE_ADMIN)
async def change_tenant_role(request: Request, tenant: str, role: str, body: RoleChanges) -> RoleAnswer:
    """Change what the role holds, for everybody who has it, everywhere within a second."""
    return await _change(unit_of(request), role, body, None)


@routes.delete("/tenants/{tenant}/roles/{role}", needs=Permission.ROLE_ADMIN, status=204, media_type="")
async def delete_tenant_role(request: Request, tenant: str, role: str) -> Response:
    """Delete a role that nobody has."""
    return await _delete(unit_of(request), role, None)


@routes.post("/workspaces/{ws}/roles", needs=Permission.ROLE_ADMIN, replay=_again, status=201)
async def create_workspace_role(request: Request, ws: str, body: RoleBody) -> RoleAnswer:
    """Define a role for this workspace; nobody defines more than they hold."""
    unit = unit_of(request)
    return await _create(unit, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/roles", needs=Permission.ROLE_READ)
async def list_workspace_roles(request: Request, ws: str) -> Page[RoleAnswer]:
    """Roles that can be bound in this workspace."""
    unit = unit_of(request)
    return await _list(unit, unit.workspace_id)


@routes.get("/workspaces/{ws}/roles/{role}", needs=Permission.ROLE_READ)
async def get_workspace_role(request: Request, ws: str, role: str) -> RoleAnswer:
    """One role, built in or of this workspace."""
    unit = unit_of(request)
    return await _get(unit, role, unit.workspace_id)


@routes.patch("/workspaces/{ws}/roles/{role}", needs=Permission.ROLE_ADMIN)
async def change_workspace_role(request: Request, ws: str, role: str, body: RoleChanges) -> RoleAnswer:
    """Change what the role holds, for everybody who has it, everywhere within a second."""
    unit = unit_of(request)
    return await _change(unit, role, body, unit.workspace_id)


@routes.delete("/workspaces/{ws}/roles/{role}", needs=Permission.ROLE_ADMIN, status=204, media_type="")
async def delete_workspace_role(request: Request, ws: str, role: str) -> Response:
    """Delete a role that nobody has."""
    unit = unit_of(request)
    return await _delete(unit, role, unit.workspace_id)


def _shown(unit: Unit, role: Role) -> RoleAnswer:
    # A slug may be given again, to a role whose versions begin anew.
    unit.show_version(role.version, lasting=False)
    return render(role)


def _built_in(slug: str) -> RoleAnswer:
    return RoleAnswer(
        slug=slug,
        built_in=True,
        description="",
        permissions=sorted(permission.value for permission in BUILT_IN_ROLES[slug]),
        workspace=None,
        version=None,
        created_at=None,
        created_by=None,
        updated_at=None,
    )


def render(role: Role) -> RoleAnswer:
    return RoleAnswer(
        slug=role.slug,
        built_in=False,
        description=role.description,
        permissions=list(role.permissions),
        workspace=named(Prefix.WORKSPACE, role.workspace_id),
        version=role.version,
        created_at=role.created_at,
        created_by=role.created_by,
        updated_at=role.updated_at,
    )
