"""The installation's own catalogue: plans and regions."""

from typing import Any

from fastapi import Request

from tenantry.capabilities.access.types import Permission
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.unit import unit_of

routes = RouteRegistry()


@routes.get("/platform/plans", needs=Permission.PLATFORM_ADMIN)
async def list_plans(request: Request) -> dict[str, Any]:
    """The plan catalogue in force."""
    plans = unit_of(request).runtime.plans
    return {
        "items": [{"slug": slug, **plan.model_dump(by_alias=True)} for slug, plan in plans.items()],
        "next_cursor": None,
    }


@routes.get("/platform/regions", needs=Permission.PLATFORM_ADMIN)
async def list_regions(request: Request) -> dict[str, Any]:
    """The regions of the installation, and whether this process serves them."""
    runtime = unit_of(request).runtime
    served = {cell.region for cell in runtime.cells}
    items = [{"slug": name, "served_here": name in served} for name in runtime.settings.region_names]
    return {"items": items, "next_cursor": None}
