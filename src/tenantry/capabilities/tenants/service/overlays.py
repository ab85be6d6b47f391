"""Overlays of the session's tenant and its workspaces: read as they come out, replaced whole, layer by layer."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import (
    state_conflict,
    tenant_not_found,
    version_mismatch,
    workspace_not_found,
)
from tenantry.capabilities.tenants.service.catalogues import Effective, OverlayCatalogue, check_labels
from tenantry.capabilities.tenants.types import OverlayFault, OverlayKind, Tenant, Workspace, WorkspaceStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.kit.overlays import differences

_COLUMNS: Final = {OverlayKind.SLOS: "slo_overlay", OverlayKind.LABELS: "label_overlay"}
_FIELDS_TOLD: Final = 100


class OverlayService:
    """SLOs and labels. What one tenant says is in its own rows: no other's result holds any of it."""

    def __init__(
        self, *, session: TenantSession, catalogue: OverlayCatalogue, audit: AuditService, clock: Clock
    ) -> None:
        self._session = session
        self._catalogue = catalogue
        self._audit = audit
        self._clock = clock

    async def of_tenant(self, kind: OverlayKind) -> tuple[Tenant, Effective]:
        """Give the tenant and what holds in all of it."""
        tenant = await self._tenant()
        return tenant, self._catalogue.effective(kind, plan=tenant.plan, tenant=overlay_of(tenant, kind))

    async def of_workspace(self, kind: OverlayKind, workspace_id: UUID) -> tuple[Workspace, Effective]:
        """Give the workspace and what holds in it; raises NotFound."""
        tenant = await self._tenant()
        workspace = await self._workspace(workspace_id)
        effective = self._catalogue.effective(
            kind, plan=tenant.plan, tenant=overlay_of(tenant, kind), workspace=overlay_of(workspace, kind)
        )
        return workspace, effective

    async def replace_tenants(
        self, kind: OverlayKind, overlay: Mapping[str, Any], *, if_version: int | None
    ) -> tuple[Tenant, Effective]:
        """Replace the tenant's overlay; raises Invalid `overlay_invalid`, Precondition. Repeating it is safe."""
        tenant = await self._tenant(lock=True)
        _require_version(tenant.version, if_version)
        self._catalogue.require(kind, overlay, plan=tenant.plan)
        now = self._clock.now()
        changed = await repository.update_tenant(self._session, {_COLUMNS[kind]: dict(overlay)}, now=now)
        fields = differences(overlay_of(tenant, kind), overlay)
        await self._audit.record(
            "tenant.overlay_changed",
            resource_type="tenant",
            resource_id=format_id(Prefix.TENANT, tenant.tenant_id),
            details=_told(kind, fields),
        )
        return changed, self._catalogue.effective(kind, plan=changed.plan, tenant=overlay)

    async def replace_workspaces(
        self, kind: OverlayKind, workspace_id: UUID, overlay: Mapping[str, Any], *, if_version: int | None
    ) -> tuple[Workspace, Effective]:
        """Replace a workspace's overlay, as `replace_tenants`; raises NotFound, and Conflict for an archived one."""
        tenant = await self._tenant()
        workspace = await self._workspace(workspace_id, lock=True)
        _require_version(workspace.version, if_version)
        if workspace.status is WorkspaceStatus.ARCHIVED:
            raise state_conflict("workspace", workspace.status, "changed")
        above = overlay_of(tenant, kind)
        self._catalogue.require(kind, overlay, plan=tenant.plan, tenant=above)
        now = self._clock.now()
        columns = {_COLUMNS[kind]: dict(overlay)}
        changed = await repository.update_workspace(self._session, workspace_id, columns, now=now)
        if changed is None:
            raise workspace_not_found()
        await self._audit.record(
            "workspace.overlay_changed",
            resource_type="workspace",
            resource_id=format_id(Prefix.WORKSPACE, workspace_id),
            details=_told(kind, differences(overlay_of(workspace, kind), overlay)),
        )
        return changed, self._catalogue.effective(kind, plan=tenant.plan, tenant=above, workspace=overlay)

    async def check_labels(self, workspace_id: UUID, labels: Mapping[str, Any]) -> list[OverlayFault]:
        """Tell what the workspace's catalogue finds wrong with label values; empty when they are valid."""
        return check_labels(labels, (await self.of_workspace(OverlayKind.LABELS, workspace_id))[1])

    async def _tenant(self, *, lock: bool = False) -> Tenant:
        tenant = await repository.find_tenant(self._session, lock=lock)
        if tenant is None:
            raise tenant_not_found()
        return tenant

    async def _workspace(self, workspace_id: UUID, *, lock: bool = False) -> Workspace:
        workspace = await repository.find_workspace(self._session, workspace_id, lock=lock)
        if workspace is None:
            raise workspace_not_found()
        return workspace


def overlay_of(holder: Tenant | Workspace, kind: OverlayKind) -> dict[str, Any]:
    """Give the layer as it was written."""
    return holder.slo_overlay if kind is OverlayKind.SLOS else holder.label_overlay


def _require_version(present: int, wanted: int | None) -> None:
    if wanted is not None and wanted != present:
        raise version_mismatch(present)


def _told(kind: OverlayKind, fields: list[str]) -> dict[str, Any]:
    """Say which fields changed, not what they say; the count stands for those beyond the first hundred."""
    return {"kind": kind.value, "fields": fields[:_FIELDS_TOLD], "changed": len(fields)}
