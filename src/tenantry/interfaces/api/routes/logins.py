"""Logins of a tenant's members."""

from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.identity.errors import member_not_found
from tenantry.capabilities.identity.types import Login
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class LoginAnswer(Answer):
    id: str
    kind: str = Field(description="web or program")
    provider: str
    auth_time: Moment
    created_at: Moment
    last_seen_at: Moment
    expires_at: Moment


class Ended(Answer):
    ended: int = Field(description="how many logins")


async def _member(unit: Unit, member: str) -> UUID:
    user_id = parse_id(Prefix.USER, member)
    if await unit.identity.find_user(user_id) is None:
        raise member_not_found()
    return user_id


@routes.get("/tenants/{tenant}/members/{member}/logins", needs=Permission.MEMBER_READ)
async def list_member_logins(
    request: Request,
    tenant: str,
    member: str,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[LoginAnswer]:
    """The logins of a member that still hold."""
    unit = unit_of(request)
    found = await unit.logins.list_of(await _member(unit, member), after=after(unit, cursor), limit=limit + 1)
    items = [render(login) for login in found]
    return Page[LoginAnswer](**page(unit, items, ids=[login.login_id for login in found], limit=limit))


@routes.delete("/tenants/{tenant}/members/{member}/logins", needs=Permission.MEMBER_ADMIN)
async def end_member_logins(request: Request, tenant: str, member: str) -> Ended:
    """End all logins of a member, everywhere within a second."""
    unit = unit_of(request)
    return Ended(ended=await unit.logins.end_all_of(await _member(unit, member), reason="administrator"))


@routes.delete("/tenants/{tenant}/members/{member}/logins/{login}", needs=Permission.MEMBER_ADMIN, status=204)
async def end_member_login(request: Request, tenant: str, member: str, login: str) -> None:
    """End one login of a member, everywhere within a second."""
    unit = unit_of(request)
    found = await unit.logins.get_of(await _member(unit, member), parse_id(Prefix.LOGIN, login))
    await unit.logins.end(found.login_id, reason="administrator")


def render(login: Login) -> LoginAnswer:
    return LoginAnswer(
        id=format_id(Prefix.LOGIN, login.login_id),
        kind=login.kind,
        provider=format_id(Prefix.PROVIDER, login.provider_id),
        auth_time=login.auth_time,
        created_at=login.created_at,
        last_seen_at=login.last_seen_at,
        expires_at=login.expires_at,
    )
