"""All routes, a module for each room; `ALL_ROUTES` is what the server serves and the isolation suite enumerates."""

from tenantry.interfaces.api.routes import (
    artifacts,
    audit,
    bindings,
    environments,
    exports,
    groups,
    health,
    images,
    jobs,
    keys,
    me,
    members,
    operations,
    overlays,
    platform,
    roles,
    service_accounts,
    tenants,
    usage,
    workspaces,
)
from tenantry.interfaces.api.routing import RouteSpec

_ROOMS = (
    health,
    me,
    platform,
    tenants,
    operations,
    exports,
    workspaces,
    environments,
    overlays,
    usage,
    service_accounts,
    keys,
    members,
    groups,
    roles,
    bindings,
    audit,
    images,
    jobs,
    artifacts,
)
ALL_ROUTES: tuple[RouteSpec, ...] = tuple(spec for room in _ROOMS for spec in room.routes)
