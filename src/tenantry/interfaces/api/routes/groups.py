"""Groups and their members, of the whole tenant and of a workspace."""

from uuid import UUID

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Group, GroupMember, Permission
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import (
    Answer,
    Body,
    CursorText,
    Description,
    Limit,
    Moment,
    Page,
    after,
    named,
    page,
)
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class GroupBody(Body):
    name: DisplayName
    description: Description = ""


class GroupChanges(Body):
    name: DisplayName | None = None
    description: Description | None = None


class GroupMemberBody(Body):
    principal: str = Field(max_length=60, description="`usr_…` or `svc_…`")


class GroupAnswer(Answer):
    id: str
    name: str
    description: str
    workspace: str | None
    version: int
    created_at: Moment
    created_by: str


class GroupMemberAnswer(Answer):
    principal: dict[str, str]
    added_at: Moment
    added_by: str


async def _again(unit: Unit, resource_id: str) -> GroupAnswer:
    return await _get(unit, resource_id, unit.scope.workspace_id)


async def _member_again(unit: Unit, resource_id: str) -> GroupMemberAnswer:
    group_id = parse_id(Prefix.GROUP, unit.request.path_params["group"])
    member = await unit.groups.get_member(group_id, resource_id, workspace_id=unit.scope.workspace_id)
    return _rendered(member)


async def _create(unit: Unit, body: GroupBody, workspace_id: UUID | None) -> GroupAnswer:
    group = await unit.groups.create(name=body.name, description=body.description, workspace_id=workspace_id)
    unit.resource_id = format_id(Prefix.GROUP, group.group_id)
    return _shown(unit, group)


async def _list(unit: Unit, workspace_id: UUID | None, limit: int, cursor: str | None) -> Page[GroupAnswer]:
    found = await unit.groups.list_groups(workspace_id=workspace_id, after=after(unit, cursor), limit=limit + 1)
    items = [render(group) for group in found]
    return Page[GroupAnswer](**page(unit, items, ids=[g.group_id for g in found], limit=limit))


async def _get(unit: Unit, group: str, workspace_id: UUID | None) -> GroupAnswer:
    return _shown(unit, await unit.groups.get(parse_id(Prefix.GROUP, group), workspace_id=workspace_id))


async def _change(unit: Unit, group: str, body: GroupChanges, workspace_id: UUID | None) -> GroupAnswer:
    changed = await unit.groups.update(
        parse_id(Prefix.GROUP, group),
        workspace_id=workspace_id,
        name=body.name,
        description=body.description,
        if_version=unit.if_version,
    )
    return _shown(unit, changed)


async def _delete(unit: Unit, group: str, workspace_id: UUID | None) -> Response:
    await unit.groups.delete(parse_id(Prefix.GROUP, group), workspace_id=workspace_id, grantor=await unit.grantor())
    return Response(status_code=204)


async def _add(unit: Unit, group: str, body: GroupMemberBody, workspace_id: UUID | None) -> GroupMemberAnswer:
    member = await unit.groups.add_member(
        parse_id(Prefix.GROUP, group), body.principal, workspace_id=workspace_id, grantor=await unit.grantor()
    )
    unit.resource_id = member.principal_id
    return _rendered(member)


async def _remove(unit: Unit, group: str, principal: str, workspace_id: UUID | None) -> Response:
    await unit.groups.remove_member(
        parse_id(Prefix.GROUP, group), principal, workspace_id=workspace_id, grantor=await unit.grantor()
    )
    return Response(status_code=204)


async def _members(
    unit: Unit, group: str, workspace_id: UUID | None, limit: int, cursor: str | None
) -> Page[GroupMemberAnswer]:
    position = unit.read_cursor(cursor)
    found = await unit.groups.list_group_members(
        parse_id(Prefix.GROUP, group), workspace_id=workspace_id, after=position, limit=limit + 1
    )
    more = len(found) > limit
    following = unit.make_cursor(found[limit - 1].principal_id) if more else None
    return Page[GroupMemberAnswer](items=[_rendered(member) for member in found[:limit]], next_cursor=following)


@routes.post("/tenants/{tenant}/groups", needs=Permission.MEMBER_ADMIN, replay=_again, status=201)
async def create_tenant_group(request: Request, tenant: str, body: GroupBody) -> GroupAnswer:
    """Make an empty group of the whole tenant."""
    return await _create(unit_of(request), body, None)


@routes.get("/tenants/{tenant}/groups", needs=Permission.MEMBER_READ)
async def list_tenant_groups(
    request: Request, tenant: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[GroupAnswer]:
    """The groups of the whole tenant."""
    return await _list(unit_of(request), None, limit, cursor)


@routes.get("/tenants/{tenant}/groups/{group}", needs=Permission.MEMBER_READ)
async def get_tenant_group(request: Request, tenant: str, group: str) -> GroupAnswer:
    """One group."""
    return await _get(unit_of(request), group, None)


@routes.patch("/tenants/{tenant}/groups/{group}", needs=Permission.MEMBER_ADMIN)
async def change_tenant_group(request: Request, tenant: str, group: str, body: GroupChanges) -> GroupAnswer:
    """Rename or describe the group."""
    return await _change(unit_of(request), group, body, None)


@routes.delete("/tenants/{tenant}/groups/{group}", needs=Permission.MEMBER_ADMIN, status=204, media_type="")
async def delete_tenant_group(request: Request, tenant: str, group: str) -> Response:
    """Delete the group with its bindings."""
    return await _delete(unit_of(request), group, None)


@routes.post(
    "/tenants/{tenant}/groups/{group}/members", needs=Permission.MEMBER_ADMIN, replay=_member_again, status=201
)
async def add_tenant_group_member(
    request: Request, tenant: str, group: str, body: GroupMemberBody
) -> GroupMemberAnswer:
    """Let a principal in, which gives it what the group is bound to; nobody gives more than they hold."""
    return await _add(unit_of(request), group, body, None)


@routes.get("/tenants/{tenant}/groups/{group}/members", needs=Permission.MEMBER_READ)
async def list_tenant_group_members(
    request: Request, tenant: str, group: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[GroupMemberAnswer]:
    """Who is in the group."""
    return await _members(unit_of(request), group, None, limit, cursor)


@routes.delete(
    "/tenants/{tenant}/groups/{group}/members/{principal}",
    needs=Permission.MEMBER_ADMIN,
    status=204,
    media_type="",
)
async def remove_tenant_group_member(request: Request, tenant: str, group: str, principal: str) -> Response:
    """Take a principal out, everywhere within a second."""
    return await _remove(unit_of(request), group, principal, None)


@routes.post("/workspaces/{ws}/groups", needs=Permission.MEMBER_ADMIN, replay=_again, status=201)
async def create_workspace_group(request: Request, ws: str, body: GroupBody) -> GroupAnswer:
    """Make an empty group of this workspace."""
    unit = unit_of(request)
    return await _create(unit, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/groups", needs=Permission.MEMBER_READ)
async def list_workspace_groups(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[GroupAnswer]:
    """The groups of this workspace."""
    unit = unit_of(request)
    return await _list(unit, unit.workspace_id, limit, cursor)


@routes.get("/workspaces/{ws}/groups/{group}", needs=Permission.MEMBER_READ)
async def get_workspace_group(request: Request, ws: str, group: str) -> GroupAnswer:
    """One group."""
    unit = unit_of(request)
    return await _get(unit, group, unit.workspace_id)


@routes.patch("/workspaces/{ws}/groups/{group}", needs=Permission.MEMBER_ADMIN)
async def change_workspace_group(request: Request, ws: str, group: str, body: GroupChanges) -> GroupAnswer:
    """Rename or describe the group."""
    unit = unit_of(request)
    return await _change(unit, group, body, unit.workspace_id)


@routes.delete("/workspaces/{ws}/groups/{group}", needs=Permission.MEMBER_ADMIN, status=204, media_type="")
async def delete_workspace_group(request: Request, ws: str, group: str) -> Response:
    """Delete the group with its bindings."""
    unit = unit_of(request)
    return await _delete(unit, group, unit.workspace_id)


@routes.post("/workspaces/{ws}/groups/{group}/members", needs=Permission.MEMBER_ADMIN, replay=_member_again, status=201)
async def add_workspace_group_member(request: Request, ws: str, group: str, body: GroupMemberBody) -> GroupMemberAnswer:
    """Let a principal in, which gives it what the group is bound to; nobody gives more than they hold."""
    unit = unit_of(request)
    return await _add(unit, group, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/groups/{group}/members", needs=Permission.MEMBER_READ)
async def list_workspace_group_members(
    request: Request, ws: str, group: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[GroupMemberAnswer]:
    """Who is in the group."""
    unit = unit_of(request)
    return await _members(unit, group, unit.workspace_id, limit, cursor)


@routes.delete(
    "/workspaces/{ws}/groups/{group}/members/{principal}", needs=Permission.MEMBER_ADMIN, status=204, media_type=""
)
async def remove_workspace_group_member(request: Request, ws: str, group: str, principal: str) -> Response:
    """Take a principal out, everywhere within a second."""
    unit = unit_of(request)
    return await _remove(unit, group, principal, unit.workspace_id)


def _shown(unit: Unit, group: Group) -> GroupAnswer:
    unit.show_version(group.version)
    return render(group)


def render(group: Group) -> GroupAnswer:
    return GroupAnswer(
        id=format_id(Prefix.GROUP, group.group_id),
        name=group.name,
        description=group.description,
        workspace=named(Prefix.WORKSPACE, group.workspace_id),
        version=group.version,
        created_at=group.created_at,
        created_by=group.created_by,
    )


def _rendered(member: GroupMember) -> GroupMemberAnswer:
    return GroupMemberAnswer(
        principal={"type": member.principal_type, "id": member.principal_id},
        added_at=member.added_at,
        added_by=member.added_by,
    )
