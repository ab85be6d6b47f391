"""Invitations into a tenant, and into one workspace of it."""

from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.identity.types import Invitation
from tenantry.capabilities.tenants.types import Email
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Instant, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class InvitationBody(Body):
    email: Email
    role: str = Field(min_length=1, max_length=60)
    expires_at: Instant | None = Field(default=None, description="none: in seven days")


class InvitationAnswer(Answer):
    id: str
    workspace: str | None
    email: str
    role: str
    status: str
    created_at: Moment
    created_by: str
    expires_at: Moment
    accepted_at: Moment | None
    accepted_by: str | None


async def _again(unit: Unit, resource_id: str) -> InvitationAnswer:
    invitation_id = parse_id(Prefix.INVITATION, resource_id)
    return _render(await unit.invitations.get(invitation_id, workspace_id=unit.scope.workspace_id))


async def _create(unit: Unit, body: InvitationBody, workspace_id: UUID | None) -> InvitationAnswer:
    invitation = await unit.invitations.create(
        email=body.email,
        role=body.role,
        workspace_id=workspace_id,
        expires_at=body.expires_at,
        scopes=await unit.grantor(),
    )
    unit.resource_id = format_id(Prefix.INVITATION, invitation.invitation_id)
    return _render(invitation)


async def _list(unit: Unit, workspace_id: UUID | None, limit: int, cursor: str | None) -> Page[InvitationAnswer]:
    found = await unit.invitations.list_invitations(
        workspace_id=workspace_id, after=after(unit, cursor), limit=limit + 1
    )
    items = [_render(each) for each in found]
    return Page[InvitationAnswer](**page(unit, items, ids=[each.invitation_id for each in found], limit=limit))


async def _revoke(unit: Unit, invitation: str, workspace_id: UUID | None) -> InvitationAnswer:
    invitation_id = parse_id(Prefix.INVITATION, invitation)
    return _render(await unit.invitations.revoke(invitation_id, workspace_id=workspace_id))


@routes.post("/tenants/{tenant}/invitations", needs=Permission.MEMBER_ADMIN, replay=_again, status=201)
async def invite_to_tenant(request: Request, tenant: str, body: InvitationBody) -> InvitationAnswer:
    """Offer a role in the whole tenant to whoever logs in with this address, verified by an identity provider."""
    return await _create(unit_of(request), body, None)


@routes.get("/tenants/{tenant}/invitations", needs=Permission.MEMBER_READ)
async def list_tenant_invitations(
    request: Request, tenant: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[InvitationAnswer]:
    """Invitations into the whole tenant, whatever became of them."""
    return await _list(unit_of(request), None, limit, cursor)


@routes.get("/tenants/{tenant}/invitations/{invitation}", needs=Permission.MEMBER_READ)
async def get_tenant_invitation(request: Request, tenant: str, invitation: str) -> InvitationAnswer:
    """One invitation into the whole tenant."""
    return await _again(unit_of(request), invitation)


@routes.delete("/tenants/{tenant}/invitations/{invitation}", needs=Permission.MEMBER_ADMIN)
async def revoke_tenant_invitation(request: Request, tenant: str, invitation: str) -> InvitationAnswer:
    """Take back an invitation; one that was accepted stays so, and its role is a binding."""
    return await _revoke(unit_of(request), invitation, None)


@routes.post("/workspaces/{ws}/invitations", needs=Permission.MEMBER_ADMIN, replay=_again, status=201)
async def invite_to_workspace(request: Request, ws: str, body: InvitationBody) -> InvitationAnswer:
    """Offer a role in this workspace to whoever logs in with this address, verified by an identity provider."""
    unit = unit_of(request)
    return await _create(unit, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/invitations", needs=Permission.MEMBER_READ)
async def list_workspace_invitations(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[InvitationAnswer]:
    """Invitations into this workspace, whatever became of them."""
    unit = unit_of(request)
    return await _list(unit, unit.workspace_id, limit, cursor)


@routes.get("/workspaces/{ws}/invitations/{invitation}", needs=Permission.MEMBER_READ)
async def get_workspace_invitation(request: Request, ws: str, invitation: str) -> InvitationAnswer:
    """One invitation into this workspace."""
    return await _again(unit_of(request), invitation)


@routes.delete("/workspaces/{ws}/invitations/{invitation}", needs=Permission.MEMBER_ADMIN, closed_too=True)
async def revoke_workspace_invitation(request: Request, ws: str, invitation: str) -> InvitationAnswer:
    """Take back an invitation; one that was accepted stays so, and its role is a binding."""
    unit = unit_of(request)
    return await _revoke(unit, invitation, unit.workspace_id)


def _render(invitation: Invitation) -> InvitationAnswer:
    return InvitationAnswer(
        id=format_id(Prefix.INVITATION, invitation.invitation_id),
        workspace=named(Prefix.WORKSPACE, invitation.workspace_id),
        email=invitation.email,
        role=invitation.role,
        status=invitation.status,
        created_at=invitation.created_at,
        created_by=invitation.created_by,
        expires_at=invitation.expires_at,
        accepted_at=invitation.accepted_at,
        accepted_by=named(Prefix.USER, invitation.accepted_by),
    )
