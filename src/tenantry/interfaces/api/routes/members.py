"""Members: the users of a tenant, and what anybody in it may do."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
from pydantic import Field

from tenantry.capabilities.access.service import decide
from tenantry.capabilities.access.types import Circumstances, Permission
from tenantry.capabilities.identity.types import PrincipalStatus, User
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

PrincipalName = Annotated[
    str | None, Query(max_length=60, description="`usr_…` or `svc_…`; when absent, this credential")
]


class MemberChanges(Body):
    status: Annotated[PrincipalStatus, Field(strict=False)]


class MemberAnswer(Answer):
    id: str
    email: str
    name: str
    status: str
    issuer: str
    version: int
    created_at: Moment


class WorkspaceMember(Answer):
    principal: dict[str, str]
    roles: list[str]
    denied: list[str]


class HeldPermission(Answer):
    permission: str
    reason: str
    by: str | None = Field(description="the binding or grant it rests on")


class EffectivePermissions(Answer):
    principal: str
    permissions: list[HeldPermission]
    conditional: list[HeldPermission] = Field(description="held for some environments or labels only")


async def _permissions(unit: Unit, principal: str | None, workspace_id: UUID | None) -> EffectivePermissions:
    access = unit.caller.access
    if principal is not None:
        await unit.access.require_principal(principal, workspace_id=workspace_id)
        access = (await unit.rights_of(principal)).access
    path = (await unit.workspaces.get(workspace_id)).path if workspace_id else None
    held: list[HeldPermission] = []
    conditional: list[HeldPermission] = []
    for permission in Permission:
        decision = decide(access, permission, workspace_id, Circumstances(path=path))
        if decision.allowed or decision.conditional:
            told = HeldPermission(permission=permission.value, reason=decision.reason, by=decision.source)
            (held if decision.allowed else conditional).append(told)
    return EffectivePermissions(principal=principal or unit.caller.actor.id, permissions=held, conditional=conditional)


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
    items = [render(user) for user in found]
    return Page[MemberAnswer](**page(unit, items, ids=[u.user_id for u in found], limit=limit))


@routes.get("/tenants/{tenant}/members/{member}", needs=Permission.MEMBER_READ)
async def get_member(request: Request, tenant: str, member: str) -> MemberAnswer:
    """One user."""
    unit = unit_of(request)
    return _shown(unit, await unit.identity.get_user(parse_id(Prefix.USER, member)))


@routes.patch("/tenants/{tenant}/members/{member}", needs=Permission.MEMBER_ADMIN)
async def change_member(request: Request, tenant: str, member: str, body: MemberChanges) -> MemberAnswer:
    """Disable a user with all credentials, everywhere within a second, or enable it again."""
    unit = unit_of(request)
    user_id = parse_id(Prefix.USER, member)
    await (await unit.grantor()).require_mightier(member, workspace_id=None)
    if body.status is PrincipalStatus.DISABLED:
        await unit.access.require_another_owner(member)
    user = await unit.identity.set_user_status(user_id, body.status, if_version=unit.if_version, room=unit.user_room)
    return _shown(unit, user)


@routes.get("/workspaces/{ws}/members", needs=Permission.MEMBER_READ)
async def list_workspace_members(
    request: Request,
    ws: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[WorkspaceMember]:
    """Who is bound in this workspace, people, programs and groups; who has a say in the whole tenant is not listed."""
    unit = unit_of(request)
    position = unit.read_cursor(cursor)
    found = await unit.access.list_bound(workspace_id=unit.workspace_id, after=position, limit=limit + 1)
    items = [
        WorkspaceMember(
            principal={"type": bound.principal_type, "id": bound.principal_id},
            roles=list(bound.roles),
            denied=list(bound.denied),
        )
        for bound in found[:limit]
    ]
    following = unit.make_cursor(found[limit - 1].principal_id) if len(found) > limit else None
    return Page[WorkspaceMember](items=items, next_cursor=following)


@routes.get("/tenants/{tenant}/permissions", needs=Permission.ROLE_READ)
async def list_tenant_permissions(
    request: Request, tenant: str, principal: PrincipalName = None
) -> EffectivePermissions:
    """What a principal may do in the whole tenant, and by what."""
    return await _permissions(unit_of(request), principal, None)


@routes.get("/workspaces/{ws}/permissions", needs=Permission.ROLE_READ)
async def list_workspace_permissions(
    request: Request, ws: str, principal: PrincipalName = None
) -> EffectivePermissions:
    """What a principal may do in this workspace, and by what."""
    unit = unit_of(request)
    return await _permissions(unit, principal, unit.workspace_id)


def _shown(unit: Unit, user: User) -> MemberAnswer:
    unit.show_version(user.version)
    return render(user)


def render(user: User) -> MemberAnswer:
    return MemberAnswer(
        id=format_id(Prefix.USER, user.user_id),
        email=user.email,
        name=user.name,
        status=user.status,
        issuer=user.issuer,
        version=user.version,
        created_at=user.created_at,
    )
