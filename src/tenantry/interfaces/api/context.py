"""Which tenant and workspace a request is about: the credential says it, everything else must agree.

A tenant can be named by path, `X-Tenant-Id`, `?tenant=` and subdomain; a workspace by path and `X-Workspace-Id`.
"""

from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from tenantry.capabilities.access.types import Caller, Permission
from tenantry.capabilities.tenants.errors import tenant_erased, tenant_not_found
from tenantry.capabilities.tenants.types import PLATFORM_TENANT, Placement, TenantStatus
from tenantry.foundation.errors import Denied, Invalid, NotFound
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import Reach, RouteSpec
from tenantry.interfaces.api.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request acts. `lifecycle`: the platform works on a tenant that is not its own.

    `about` names a tenant that was erased: what is left of it is the platform's.
    """

    tenant_id: UUID
    region: str
    workspace_id: UUID | None
    lifecycle: bool = False
    about: UUID | None = None


def tenant_mismatch() -> Denied:
    """Say the same for a foreign tenant and for one that never was."""
    return Denied("tenant_mismatch", "the request names a tenant that is not this credential's", layer="guard")


def not_found() -> NotFound:
    return NotFound("not_found", "no such workspace", layer="tenants")


async def place_of(request: Request, *, spec: RouteSpec, caller: Caller, runtime: Runtime) -> Place:
    """Settle tenant and workspace, or refuse: 400 unclear, 403 another tenant, 404 another workspace."""
    names = _tenant_names(request, base_domain=runtime.settings.server.base_domain)
    workspace_id = named_workspace(request) or caller.workspace_id
    decided_later = isinstance(spec.needs, Permission) and spec.reach is not Reach.TENANT
    if caller.workspace_id not in (None, workspace_id) and not decided_later:
        raise not_found()
    if caller.tenant_id == PLATFORM_TENANT:
        return await _place_of_platform(names, spec=spec, caller=caller, runtime=runtime)
    own = {caller.tenant_slug, format_id(Prefix.TENANT, caller.tenant_id)}
    if names - own:
        raise tenant_mismatch()
    if spec.reach is Reach.TENANT and isinstance(spec.needs, Permission):
        workspace_id = None
    return Place(tenant_id=caller.tenant_id, region=caller.region, workspace_id=workspace_id)


async def visitor_of(request: Request, *, spec: RouteSpec, caller: Caller, runtime: Runtime) -> Caller:
    """Tell as whom a credential acts: itself, or one of the installation as the visitor of the tenant it names.

    A visitor may do what grants of that tenant allow. Raises Denied `platform_no_content` when there are none.
    """
    for_platform = spec.platform or spec.needs is Permission.PLATFORM_ADMIN or not isinstance(spec.needs, Permission)
    if caller.tenant_id != PLATFORM_TENANT or for_platform or Permission.PLATFORM_ADMIN not in caller.access.tenant:
        return caller
    names = _tenant_names(request, base_domain=runtime.settings.server.base_domain)
    names -= {caller.tenant_slug, format_id(Prefix.TENANT, caller.tenant_id)}
    if len(names) != 1:
        return caller
    try:
        placement = await _placement_of(names.pop(), runtime)
    except NotFound:
        raise platform_no_content() from None
    if placement.status is not TenantStatus.ACTIVE:
        raise platform_no_content()
    visitor = await runtime.admission.visit(caller, placement)
    if not visitor.access.named_workspaces and not spec.visited:
        raise platform_no_content()
    return visitor


def platform_no_content() -> Denied:
    return Denied(
        "platform_no_content",
        "a platform credential opens no tenant's content without a grant of that tenant: ask it for one, "
        "POST /workspaces/{ws}/grants, or use a key of that tenant",
        layer="guard",
        allow_with=("a grant of that tenant",),
    )


async def _placement_of(name: str, runtime: Runtime) -> Placement:
    try:
        return await runtime.directory.get(parse_id(Prefix.TENANT, name) if name.startswith("ten_") else name)
    except Invalid:
        raise tenant_not_found() from None


async def _place_of_platform(names: set[str], *, spec: RouteSpec, caller: Caller, runtime: Runtime) -> Place:
    own = Place(tenant_id=caller.tenant_id, region=caller.region, workspace_id=None)
    for_platform = spec.platform or spec.needs is Permission.PLATFORM_ADMIN
    if len(names) > 1:
        raise tenant_mismatch()
    if not names:
        if for_platform or not isinstance(spec.needs, Permission):
            return own
        raise Invalid("tenant_required", "name the tenant: X-Tenant-Id, or ?tenant=", layer="guard")
    name = names.pop()
    if name in (caller.tenant_slug, format_id(Prefix.TENANT, caller.tenant_id)):
        if spec.reach is Reach.WORKSPACE:
            raise not_found()
        return own
    if not for_platform:
        raise platform_no_content()
    if "tenant" not in spec.parameters:
        raise tenant_mismatch()
    return _place_of_another(await _placement_of(name, runtime), spec=spec)


def _place_of_another(placement: Placement, *, spec: RouteSpec) -> Place:
    if placement.status is TenantStatus.PENDING:  # it is none yet: there is no trail either to tell this to
        raise tenant_not_found()
    if placement.status is TenantStatus.ERASED:
        if not spec.erased_too:
            raise tenant_erased(reading=spec.method == "GET")
        return Place(PLATFORM_TENANT, placement.region, None, lifecycle=True, about=placement.tenant_id)
    return Place(tenant_id=placement.tenant_id, region=placement.region, workspace_id=None, lifecycle=True)


def _tenant_names(request: Request, *, base_domain: str | None) -> set[str]:
    names = {request.path_params["tenant"]} if "tenant" in request.path_params else set()
    if request.scope["query_string"]:
        names.update(name for name in request.query_params.getlist("tenant") if name)
    if header := _single_header(request, "x-tenant-id"):
        names.add(header)
    if base_domain:
        # Absolute names end in a dot (RFC 1034 §3.1) and mean the same host.
        host = (_single_header(request, "host") or "").partition(":")[0].lower().removesuffix(".")
        if host.endswith(f".{base_domain}"):
            names.add(host.removesuffix(f".{base_domain}"))
    return names


def named_workspace(request: Request) -> UUID | None:
    """Tell the workspace that path and header name; raises Invalid where they differ."""
    named = {name for name in (request.path_params.get("ws"), _single_header(request, "x-workspace-id")) if name}
    if not named:
        return None
    if len(named) > 1:
        raise Invalid("header_ambiguous", "X-Workspace-Id: differs from the workspace in the path", layer="guard")
    return parse_id(Prefix.WORKSPACE, named.pop())


def _single_header(request: Request, name: str) -> str | None:
    values = request.headers.getlist(name)
    if not values:
        return None
    if len(values) > 1 or "," in values[0] or not values[0]:
        raise Invalid("header_ambiguous", f"{name}: must stand once, with one value", layer="guard")
    return values[0]
