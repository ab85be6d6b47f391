"""Just-in-time grants of a workspace: a role for a bounded time."""

from typing import Annotated, Any, Final

from fastapi import Query, Request
from pydantic import AfterValidator, Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.access.types.grants import (
    Grant,
    GrantStatus,
    NewGrant,
)
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routes.approvals import MAX_MINUTES
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be printable, and say something")
    return text


Reason = Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=500)]
Minutes = Annotated[int, Field(ge=1, le=MAX_MINUTES)]
PrincipalName = Annotated[str, Field(min_length=1, max_length=60)]

ProviderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class GrantBody(Body):
    role: str = Field(min_length=1, max_length=60, description="a role, or at a provider viewer, deployer or admin")
    minutes: Minutes = 60
    reason: Reason
    provider: ProviderName | None = Field(default=None, description="`gcp`, `aws`, `azure`, …")
    principal: PrincipalName | None = Field(default=None, description="another than oneself: asks for grant:admin")


class ExtensionBody(Body):
    minutes: Minutes


class RevocationBody(Body):
    reason: Reason | None = None


_NO_REASON: Final = RevocationBody()


class PrincipalBody(Body):
    principal: PrincipalName


class GrantAnswer(Answer):
    id: str
    workspace: str
    status: str = Field(description="by the clock: one whose time is over reads as expired, also before it was swept")
    principal: dict[str, str]
    role: str
    role_asked: str
    provider: str | None
    reason: str
    minutes: int = Field(description="as asked for")
    granted_minutes: int | None = Field(description="as granted, extensions included")
    approval: str | None
    extension: dict[str, Any] | None = Field(description="minutes and approval of an extension that is waited for")
    requested_by: str
    requested_at: Moment
    granted_by: list[str]
    active_at: Moment | None = Field(description="when its clock started")
    expires_at: Moment | None
    ended_at: Moment | None
    ended_by: str | None
    end_reason: str | None
    version: int


class RevokedAnswer(Answer):
    items: list[GrantAnswer]


async def _again(unit: Unit, resource_id: str) -> GrantAnswer:
    grants = await unit.grants()
    return _shown(unit, await grants.get(parse_id(Prefix.GRANT, resource_id), workspace_id=unit.workspace_id))


async def _none_again(unit: Unit, resource_id: str) -> RevokedAnswer:
    return RevokedAnswer(items=[])


def _shown(unit: Unit, grant: Grant) -> GrantAnswer:
    unit.resource_id = format_id(Prefix.GRANT, grant.grant_id)
    unit.show_version(grant.version)
    return render(grant, unit=unit)


@routes.post("/workspaces/{ws}/grants", needs=Permission.GRANT_REQUEST, replay=_again, status=201, visited=True)
async def request_grant(request: Request, ws: str, body: GrantBody) -> GrantAnswer:
    """Ask for a role for a bounded time, which others approve; or, with grant:admin, give it to another at once."""
    unit = unit_of(request)
    new = NewGrant(
        principal=body.principal or unit.caller.principal,
        role=body.role,
        minutes=body.minutes,
        reason=body.reason,
        provider=body.provider,
    )
    grants = await unit.grants()
    return _shown(unit, await grants.request(new, workspace_id=unit.workspace_id))


@routes.get("/workspaces/{ws}/grants", needs=Permission.GRANT_READ)
async def list_grants(
    request: Request,
    ws: str,
    status: GrantStatus | None = None,
    principal: Annotated[str | None, Query(max_length=60)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[GrantAnswer]:
    """Grants of the workspace, newest first; those that ended stay."""
    unit = unit_of(request)
    filters = f"{status}/{principal}"
    grants = await unit.grants()
    found = await grants.list_grants(
        workspace_id=unit.workspace_id,
        status=status,
        principal=principal,
        before=after(unit, cursor, filters=filters),
        limit=limit + 1,
    )
    items = [render(grant, unit=unit) for grant in found]
    ids = [grant.grant_id for grant in found]
    return Page[GrantAnswer](**page(unit, items, ids=ids, limit=limit, filters=filters))


@routes.get("/workspaces/{ws}/grants/{grant}", needs=Permission.GRANT_READ)
async def get_grant(request: Request, ws: str, grant: str) -> GrantAnswer:
    """One grant, whatever became of it."""
    return await _again(unit_of(request), grant)


@routes.post("/workspaces/{ws}/grants/revoke-all", needs=Permission.GRANT_ADMIN, replay=_none_again, closed_too=True)
async def revoke_all_grants(request: Request, ws: str, body: PrincipalBody) -> RevokedAnswer:
    """End every grant of a principal in this workspace, and what asks for one, everywhere within a second."""
    unit = unit_of(request)
    grants = await unit.grants()
    ended = await grants.revoke_all(body.principal, workspace_id=unit.workspace_id)
    unit.resource_id = body.principal
    return RevokedAnswer(items=[render(grant, unit=unit) for grant in ended])


@routes.post(
    "/workspaces/{ws}/grants/{grant}/revoke",
    needs=Permission.GRANT_REQUEST,
    replay=_again,
    closed_too=True,
    visited=True,
)
async def revoke_grant(request: Request, ws: str, grant: str, body: RevocationBody = _NO_REASON) -> GrantAnswer:
    """End one's own grant, or with grant:admin anybody's, everywhere within a second."""
    unit = unit_of(request)
    grants = await unit.grants()
    ended = await grants.revoke(parse_id(Prefix.GRANT, grant), workspace_id=unit.workspace_id, reason=body.reason)
    return _shown(unit, ended)


@routes.post("/workspaces/{ws}/grants/{grant}/extend", needs=Permission.GRANT_REQUEST, replay=_again)
async def extend_grant(request: Request, ws: str, grant: str, body: ExtensionBody) -> GrantAnswer:
    """Ask for more time of one's own grant, which others approve; or, with grant:admin, give it to another at once."""
    unit = unit_of(request)
    grants = await unit.grants()
    extended = await grants.extend(parse_id(Prefix.GRANT, grant), minutes=body.minutes, workspace_id=unit.workspace_id)
    return _shown(unit, extended)


def render(grant: Grant, *, unit: Unit) -> GrantAnswer:
    waits = grant.extension_minutes is not None and grant.extension_approval_id is not None
    extension = {
        "minutes": grant.extension_minutes,
        "approval": named(Prefix.APPROVAL, grant.extension_approval_id),
    }
    return GrantAnswer(
        id=format_id(Prefix.GRANT, grant.grant_id),
        workspace=format_id(Prefix.WORKSPACE, grant.workspace_id),
        status=grant.status_at(unit.runtime.clock.now()),
        principal={"type": grant.principal_type, "id": grant.principal_id},
        role=grant.role,
        role_asked=grant.role_asked,
        provider=grant.provider,
        reason=grant.reason,
        minutes=grant.minutes,
        granted_minutes=grant.granted_minutes,
        approval=named(Prefix.APPROVAL, grant.approval_id),
        extension=extension if waits else None,
        requested_by=grant.requested_by,
        requested_at=grant.requested_at,
        granted_by=list(grant.granted_by),
        active_at=grant.active_at,
        expires_at=grant.expires_at,
        ended_at=grant.ended_at,
        ended_by=grant.ended_by,
        end_reason=grant.end_reason,
        version=grant.version,
    )
