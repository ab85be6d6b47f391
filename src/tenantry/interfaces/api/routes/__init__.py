"""All routes, a module for each room; `ALL_ROUTES` is what the server serves and the isolation suite enumerates."""

from tenantry.interfaces.api.routes import (
    access,
    artifacts,
    audit,
    health,
    images,
    jobs,
    keys,
    me,
    platform,
    service_accounts,
    tenants,
    workspaces,
)
from tenantry.interfaces.api.routing import RouteSpec

_ROOMS = (health, me, platform, tenants, workspaces, service_accounts, keys, access, audit, images, jobs, artifacts)
ALL_ROUTES: tuple[RouteSpec, ...] = tuple(spec for room in _ROOMS for spec in room.routes)
