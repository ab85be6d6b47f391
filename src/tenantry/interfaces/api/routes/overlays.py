"""SLOs and labels: what holds in a tenant and in a workspace, and the layer each of them lays over the others."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.tenants.service import Effective, overlay_of
from tenantry.capabilities.tenants.types import OverlayKind, Tenant, Workspace
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body
from tenantry.interfaces.api.unit import Unit, unit_of
from tenantry.kit.overlays import thaw

routes = RouteRegistry()

_DIGEST_LENGTH: Final = 16


class OverlayBody(Body):
    overlay: dict[str, Any] = Field(description="replaces this layer whole; {} lays nothing")


class LabelsBody(Body):
    labels: dict[str, Any] = Field(max_length=200, description="values by label")


class Holds(Answer):
    """What comes of all layers, and what this one says."""

    overlay: dict[str, Any] = Field(description="this layer, as it was written")
    version: int = Field(description="of the tenant or workspace, for If-Match")
    layers: dict[str, str] | None = Field(default=None, description="with explain: platform, plan, tenant or workspace")
    ignored: dict[str, list[str]] | None = Field(
        default=None, description="with explain: by layer, what no longer fits the catalogue and counts for nothing"
    )


A = TypeVar("A", bound=Holds)


class SlosAnswer(Holds):
    slos: dict[str, Any] = Field(description="null: no limit")


class LabelsAnswer(Holds):
    labels: dict[str, Any]


class LabelFault(Answer):
    label: str
    rule: str
    message: str


class LabelCheck(Answer):
    valid: bool
    faults: list[LabelFault]


@routes.get("/tenants/{tenant}/slos", needs=Permission.TENANT_READ, platform=True)
async def get_slos_of_tenant(request: Request, tenant: str, *, explain: bool = False) -> SlosAnswer:
    """The SLOs that hold in the whole tenant."""
    unit = unit_of(request)
    return _slos(unit, await unit.overlays.of_tenant(OverlayKind.SLOS), explain=explain)


@routes.put("/tenants/{tenant}/slos", needs=Permission.TENANT_ADMIN, platform=True)
async def replace_slos_of_tenant(request: Request, tenant: str, body: OverlayBody) -> SlosAnswer:
    """Replace what the tenant lays over its plan's SLOs."""
    unit = unit_of(request)
    changed = await unit.overlays.replace_tenants(OverlayKind.SLOS, body.overlay, if_version=unit.if_version)
    return _slos(unit, changed, explain=True)


@routes.get("/tenants/{tenant}/labels", needs=Permission.TENANT_READ, platform=True)
async def get_labels_of_tenant(request: Request, tenant: str, *, explain: bool = False) -> LabelsAnswer:
    """The label catalogue that holds in the whole tenant."""
    unit = unit_of(request)
    return _labels(unit, await unit.overlays.of_tenant(OverlayKind.LABELS), explain=explain)


@routes.put("/tenants/{tenant}/labels", needs=Permission.TENANT_ADMIN, platform=True)
async def replace_labels_of_tenant(request: Request, tenant: str, body: OverlayBody) -> LabelsAnswer:
    """Replace the labels and further values that the tenant adds."""
    unit = unit_of(request)
    changed = await unit.overlays.replace_tenants(OverlayKind.LABELS, body.overlay, if_version=unit.if_version)
    return _labels(unit, changed, explain=True)


@routes.get("/workspaces/{ws}/slos", needs=Permission.WORKSPACE_READ)
async def get_slos(request: Request, ws: str, *, explain: bool = False) -> SlosAnswer:
    """The SLOs that hold in the workspace."""
    unit = unit_of(request)
    return _slos(unit, await unit.overlays.of_workspace(OverlayKind.SLOS, unit.workspace_id), explain=explain)


@routes.put("/workspaces/{ws}/slos", needs=Permission.WORKSPACE_UPDATE)
async def replace_slos(request: Request, ws: str, body: OverlayBody) -> SlosAnswer:
    """Replace what the workspace lays over its tenant's SLOs."""
    unit = unit_of(request)
    changed = await unit.overlays.replace_workspaces(
        OverlayKind.SLOS, unit.workspace_id, body.overlay, if_version=unit.if_version
    )
    return _slos(unit, changed, explain=True)


@routes.get("/workspaces/{ws}/labels", needs=Permission.WORKSPACE_READ)
async def get_labels(request: Request, ws: str, *, explain: bool = False) -> LabelsAnswer:
    """The label catalogue that holds in the workspace."""
    unit = unit_of(request)
    return _labels(unit, await unit.overlays.of_workspace(OverlayKind.LABELS, unit.workspace_id), explain=explain)


@routes.put("/workspaces/{ws}/labels", needs=Permission.WORKSPACE_UPDATE)
async def replace_labels(request: Request, ws: str, body: OverlayBody) -> LabelsAnswer:
    """Replace the labels and further values that the workspace adds."""
    unit = unit_of(request)
    changed = await unit.overlays.replace_workspaces(
        OverlayKind.LABELS, unit.workspace_id, body.overlay, if_version=unit.if_version
    )
    return _labels(unit, changed, explain=True)


@routes.post("/workspaces/{ws}/labels/check", needs=Permission.WORKSPACE_READ, replay=None, closed_too=True)
async def check_labels(request: Request, ws: str, body: LabelsBody) -> LabelCheck:
    """Tell whether label values fit the workspace's catalogue; nothing is done."""
    unit = unit_of(request)
    faults = await unit.overlays.check_labels(unit.workspace_id, body.labels)
    return LabelCheck(
        valid=not faults,
        faults=[LabelFault(label=each.field, rule=each.rule, message=each.message) for each in faults],
    )


def _slos(unit: Unit, found: tuple[Tenant | Workspace, Effective], *, explain: bool) -> SlosAnswer:
    holder, effective = found
    answer = SlosAnswer(
        slos=thaw(effective.overlaid.values), **_holds(holder, effective, OverlayKind.SLOS, explain=explain)
    )
    return _shown(unit, answer)


def _labels(unit: Unit, found: tuple[Tenant | Workspace, Effective], *, explain: bool) -> LabelsAnswer:
    holder, effective = found
    answer = LabelsAnswer(
        labels=thaw(effective.overlaid.values), **_holds(holder, effective, OverlayKind.LABELS, explain=explain)
    )
    return _shown(unit, answer)


def _holds(holder: Tenant | Workspace, effective: Effective, kind: OverlayKind, *, explain: bool) -> Mapping[str, Any]:
    explained = {"layers": dict(effective.overlaid.layers), "ignored": thaw(effective.ignored)} if explain else {}
    return {"overlay": overlay_of(holder, kind), "version": holder.version, **explained}


def _shown(unit: Unit, answer: A) -> A:
    """Answer with the holder's version and a digest of the whole: lower layers change without the holder."""
    text = json.dumps(answer.model_dump(), sort_keys=True).encode()
    unit.show_tag(f"{answer.version}.{hashlib.sha256(text).hexdigest()[:_DIGEST_LENGTH]}")
    return answer
