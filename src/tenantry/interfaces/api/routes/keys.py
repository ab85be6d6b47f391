"""API keys of a workspace, and of the whole tenant."""

from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import AfterValidator, Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.identity.service import NewKey
from tenantry.capabilities.identity.types import ApiKey
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Instant, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


def _network(text: str) -> str:
    return str(ip_network(text))


class KeyBody(Body):
    name: DisplayName
    roles: list[str] = Field(default=[], max_length=20, description="none: what the key's principal is bound to")
    permissions: list[str] = Field(default=[], max_length=100)
    expires_at: Instant | None = Field(default=None, description="none: after identity.key_days")
    service_account: str | None = None
    allowed_networks: list[Annotated[str, AfterValidator(_network)]] = Field(default=[], max_length=50)
    delegated: bool = Field(
        default=False, description="for an agent: never more than who makes it may do, at any moment"
    )


class RotationBody(Body):
    grace_hours: int = Field(default=24, ge=24, le=48, description="how long the old key still works")


class KeyAnswer(Answer):
    id: str
    name: str
    workspace: str | None
    principal: dict[str, str]
    roles: list[str]
    permissions: list[str]
    allowed_networks: list[str]
    status: str
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    last_used_at: Moment | None
    revoked_at: Moment | None
    delegated: bool
    parent: str | None = Field(description="the key that a delegated one was made with")
    rotated_from: str | None = Field(description="the key that this one replaces")
    grace_until: Moment | None = Field(description="when a key that was replaced ends")


class NewKeyAnswer(KeyAnswer):
    secret: str = Field(description="shown once")


async def _again(unit: Unit, resource_id: str) -> KeyAnswer:
    return render(await unit.identity.get_key(parse_id(Prefix.KEY, resource_id), workspace_id=unit.scope.workspace_id))


async def _create(unit: Unit, body: KeyBody, workspace_id: UUID | None) -> NewKeyAnswer:
    account = parse_id(Prefix.SERVICE_ACCOUNT, body.service_account) if body.service_account else None
    expires_at: datetime | None = body.expires_at
    key, secret = await unit.identity.create_key(
        NewKey(
            name=body.name,
            roles=tuple(body.roles),
            permissions=tuple(body.permissions),
            workspace_id=workspace_id,
            service_account_id=account,
            expires_at=expires_at,
            allowed_networks=tuple(body.allowed_networks),
            delegated=body.delegated,
        ),
        scopes=await unit.grantor(),
    )
    unit.resource_id = format_id(Prefix.KEY, key.key_id)
    return NewKeyAnswer(**render(key).model_dump(), secret=secret)


async def _rotate(unit: Unit, key: str, body: RotationBody, workspace_id: UUID | None) -> NewKeyAnswer:
    made, secret = await unit.identity.rotate_key(
        parse_id(Prefix.KEY, key),
        workspace_id=workspace_id,
        grace=timedelta(hours=body.grace_hours),
        scopes=await unit.grantor(),
    )
    unit.resource_id = format_id(Prefix.KEY, made.key_id)
    return NewKeyAnswer(**render(made).model_dump(), secret=secret)


async def _list(unit: Unit, workspace_id: UUID | None, limit: int, cursor: str | None) -> Page[KeyAnswer]:
    found = await unit.identity.list_keys(workspace_id=workspace_id, after=after(unit, cursor), limit=limit + 1)
    items = [render(key) for key in found]
    return Page[KeyAnswer](**page(unit, items, ids=[k.key_id for k in found], limit=limit))


@routes.post("/workspaces/{ws}/keys", needs=Permission.KEY_ADMIN, replay=_again, status=201)
async def create_workspace_key(request: Request, ws: str, body: KeyBody) -> NewKeyAnswer:
    """Make a key that opens this workspace only; its secret is shown here and never again."""
    unit = unit_of(request)
    return await _create(unit, body, unit.workspace_id)


@routes.get("/workspaces/{ws}/keys", needs=Permission.KEY_READ)
async def list_workspace_keys(
    request: Request,
    ws: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[KeyAnswer]:
    """The keys of the workspace, without their secrets."""
    unit = unit_of(request)
    return await _list(unit, unit.workspace_id, limit, cursor)


@routes.get("/workspaces/{ws}/keys/{key}", needs=Permission.KEY_READ)
async def get_workspace_key(request: Request, ws: str, key: str) -> KeyAnswer:
    """One key, without its secret."""
    return await _again(unit_of(request), key)


@routes.delete("/workspaces/{ws}/keys/{key}", needs=Permission.KEY_ADMIN, closed_too=True)
async def revoke_workspace_key(request: Request, ws: str, key: str) -> KeyAnswer:
    """Revoke for good, everywhere within a second."""
    unit = unit_of(request)
    return render(await unit.identity.revoke_key(parse_id(Prefix.KEY, key), workspace_id=unit.workspace_id))


@routes.post("/workspaces/{ws}/keys/{key}/rotate", needs=Permission.KEY_ADMIN, replay=_again, status=201)
async def rotate_workspace_key(request: Request, ws: str, key: str, body: RotationBody) -> NewKeyAnswer:
    """Replace a key by one that may do the same; the old one works on for the grace. The secret is shown once."""
    unit = unit_of(request)
    return await _rotate(unit, key, body, unit.workspace_id)


@routes.post("/tenants/{tenant}/keys", needs=Permission.KEY_ADMIN, replay=_again, status=201)
async def create_tenant_key(request: Request, tenant: str, body: KeyBody) -> NewKeyAnswer:
    """Make a key of the whole tenant; its secret is shown here and never again."""
    return await _create(unit_of(request), body, None)


@routes.get("/tenants/{tenant}/keys", needs=Permission.KEY_READ)
async def list_tenant_keys(
    request: Request,
    tenant: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[KeyAnswer]:
    """The keys of the whole tenant, without their secrets."""
    return await _list(unit_of(request), None, limit, cursor)


@routes.get("/tenants/{tenant}/keys/{key}", needs=Permission.KEY_READ)
async def get_tenant_key(request: Request, tenant: str, key: str) -> KeyAnswer:
    """One key of the whole tenant, without its secret."""
    return await _again(unit_of(request), key)


@routes.post("/tenants/{tenant}/keys/{key}/rotate", needs=Permission.KEY_ADMIN, replay=_again, status=201)
async def rotate_tenant_key(request: Request, tenant: str, key: str, body: RotationBody) -> NewKeyAnswer:
    """Replace a key of the whole tenant; the old one works on for the grace. The secret is shown once."""
    return await _rotate(unit_of(request), key, body, None)


@routes.delete("/tenants/{tenant}/keys/{key}", needs=Permission.KEY_ADMIN)
async def revoke_tenant_key(request: Request, tenant: str, key: str) -> KeyAnswer:
    """Revoke for good, everywhere within a second."""
    unit = unit_of(request)
    return render(await unit.identity.revoke_key(parse_id(Prefix.KEY, key), workspace_id=None))


def render(key: ApiKey) -> KeyAnswer:
    return KeyAnswer(
        id=format_id(Prefix.KEY, key.key_id),
        name=key.name,
        workspace=named(Prefix.WORKSPACE, key.workspace_id),
        principal={"type": key.principal_type, "id": key.principal_id},
        roles=list(key.roles),
        permissions=list(key.permissions),
        allowed_networks=list(key.allowed_networks),
        status=key.status,
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        delegated=key.delegated,
        parent=named(Prefix.KEY, key.parent_id),
        rotated_from=named(Prefix.KEY, key.rotated_from),
        grace_until=key.grace_until,
    )
