"""Service accounts of a workspace."""

from typing import Annotated

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.identity.types import PrincipalStatus, ServiceAccount
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class ServiceAccountBody(Body):
    name: DisplayName


class ServiceAccountChanges(Body):
    status: Annotated[PrincipalStatus, Field(strict=False)]


class ServiceAccountAnswer(Answer):
    id: str
    name: str
    status: str
    version: int
    workspace: str
    created_at: Moment


async def _again(unit: Unit, resource_id: str) -> ServiceAccountAnswer:
    account_id = parse_id(Prefix.SERVICE_ACCOUNT, resource_id)
    return _shown(unit, await unit.identity.get_service_account(account_id, workspace_id=unit.workspace_id))


@routes.post("/workspaces/{ws}/service-accounts", needs=Permission.MEMBER_ADMIN, replay=_again, status=201)
async def create_service_account(
    request: Request,
    ws: str,
    body: ServiceAccountBody,
) -> ServiceAccountAnswer:
    """Make a principal for a program."""
    unit = unit_of(request)
    account = await unit.identity.create_service_account(workspace_id=unit.workspace_id, name=body.name)
    unit.resource_id = format_id(Prefix.SERVICE_ACCOUNT, account.service_account_id)
    return render(account)


@routes.get("/workspaces/{ws}/service-accounts", needs=Permission.MEMBER_READ)
async def list_service_accounts(
    request: Request,
    ws: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[ServiceAccountAnswer]:
    """The service accounts of the workspace."""
    unit = unit_of(request)
    found = await unit.identity.list_service_accounts(
        workspace_id=unit.workspace_id, after=after(unit, cursor), limit=limit + 1
    )
    items = [render(account) for account in found]
    return Page[ServiceAccountAnswer](**page(unit, items, ids=[a.service_account_id for a in found], limit=limit))


@routes.get("/workspaces/{ws}/service-accounts/{account}", needs=Permission.MEMBER_READ)
async def get_service_account(request: Request, ws: str, account: str) -> ServiceAccountAnswer:
    """One service account."""
    return await _again(unit_of(request), account)


@routes.patch("/workspaces/{ws}/service-accounts/{account}", needs=Permission.MEMBER_ADMIN)
async def change_service_account(
    request: Request, ws: str, account: str, body: ServiceAccountChanges
) -> ServiceAccountAnswer:
    """Disable a service account with all it proves itself by, everywhere within a second, or enable it again."""
    unit = unit_of(request)
    account_id = parse_id(Prefix.SERVICE_ACCOUNT, account)
    await unit.identity.get_service_account(account_id, workspace_id=unit.workspace_id)
    await (await unit.grantor()).require_mightier(account, workspace_id=unit.workspace_id)
    changed = await unit.identity.set_service_account_status(
        account_id, body.status, workspace_id=unit.workspace_id, if_version=unit.if_version
    )
    return _shown(unit, changed)


def _shown(unit: Unit, account: ServiceAccount) -> ServiceAccountAnswer:
    unit.show_version(account.version)
    return render(account)


def render(account: ServiceAccount) -> ServiceAccountAnswer:
    return ServiceAccountAnswer(
        id=format_id(Prefix.SERVICE_ACCOUNT, account.service_account_id),
        name=account.name,
        status=account.status,
        version=account.version,
        workspace=format_id(Prefix.WORKSPACE, account.workspace_id),
        created_at=account.created_at,
    )
