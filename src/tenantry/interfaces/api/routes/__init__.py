"""All routes, a module for each room; `ALL_ROUTES` is what the server serves and the isolation suite enumerates."""

from tenantry.interfaces.api.routes import (
    access,
    artifacts,
    audit,
    environments,
    exports,
    health,
    images,
    jobs,
    keys,
    me,
    operations,
    overlays,
    platform,
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
    access,
    audit,
    images,
    jobs,
    artifacts,
)
ALL_ROUTES: tuple[RouteSpec, ...] = tuple(spec for room in _ROOMS for spec in room.routes)
