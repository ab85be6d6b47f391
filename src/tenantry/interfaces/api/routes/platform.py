"""The installation's own: plans, regions, and tenants declared in files."""

from typing import Any

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.policies.errors import policy_not_found
from tenantry.capabilities.policies.service import FILES
from tenantry.interfaces.api.routes.policies import kind_of
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class DifferenceAnswer(Answer):
    tenant: str = Field(description="its slug")
    file: str
    action: str = Field(description="create or update")
    fields: list[str] = Field(description="dotted names; the values are in the file and in the tenant")
    applied: bool = Field(description="false where the server only checks")


class SkippedAnswer(Answer):
    file: str
    line: int = Field(description="from 1; 0 for the file as a whole")
    field: str
    rule: str


class ReloadAnswer(Answer):
    mode: str = Field(description="check or apply: the setting `declared_tenants`")
    loaded: int = Field(description="files that count")
    changed: list[DifferenceAnswer]
    skipped: list[SkippedAnswer]


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
    items = [{"slug": name, "served_here": name in served} for name in runtime.settings.known_region_names]
    return {"items": items, "next_cursor": None}


@routes.get("/platform/policies/{kind}", needs=Permission.PLATFORM_ADMIN)
async def get_platform_policy(request: Request, kind: str) -> dict[str, Any]:
    """What the installation's own file of a kind says; every tenant is held to it."""
    placed = unit_of(request).runtime.policies.platform.get(kind_of(kind))
    if placed is None or placed.bundle is None:
        raise policy_not_found()
    bundle = placed.bundle
    return {"kind": kind, "file": FILES[bundle.kind], "digest": bundle.digest, "document": bundle.canonical}


async def _reloaded(unit: Unit, _resource_id: str) -> ReloadAnswer:
    found = await unit.runtime.declared.reload()
    return ReloadAnswer(
        mode=found.mode,
        loaded=found.loaded,
        changed=[
            DifferenceAnswer(
                tenant=each.slug, file=each.file, action=each.action, fields=list(each.fields), applied=each.applied
            )
            for each in found.changed
        ],
        skipped=[
            SkippedAnswer(file=each.file, line=each.line, field=each.field, rule=each.rule) for each in found.skipped
        ],
    )


@routes.post("/platform/tenants/reload", needs=Permission.PLATFORM_ADMIN, replay=_reloaded)
async def reload_tenants(request: Request) -> ReloadAnswer:
    """Read the declared tenants anew: check them, or apply them where the setting says so; repeating it is safe."""
    unit = unit_of(request)
    found = await _reloaded(unit, "")
    await unit.audit.record(
        "platform.tenants_reloaded",
        resource_type="platform",
        resource_id="tenants",
        details={
            "mode": found.mode,
            "loaded": found.loaded,
            "changed": len(found.changed),
            "skipped": len(found.skipped),
        },
    )
    return found
