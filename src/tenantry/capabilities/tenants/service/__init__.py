"""The face of tenants: plans, the directory, tenants, workspaces, tenant keys."""

from tenantry.capabilities.tenants.service.catalogues import Effective, OverlayCatalogue, load_catalogue
from tenantry.capabilities.tenants.service.directory import Directory, candidate_scope
from tenantry.capabilities.tenants.service.environments import EnvironmentService
from tenantry.capabilities.tenants.service.erasures import Erasures
from tenantry.capabilities.tenants.service.exports import Exports, ExportService, remove_old_exports
from tenantry.capabilities.tenants.service.import_files import ImportFiles
from tenantry.capabilities.tenants.service.import_requests import ImportService, remove_old_imports
from tenantry.capabilities.tenants.service.imports import Imports
from tenantry.capabilities.tenants.service.keyring import KeysetShelf, TenantKeyring, TenantKeys
from tenantry.capabilities.tenants.service.known import KnownTenants
from tenantry.capabilities.tenants.service.move_requests import GRACE_SECONDS, MoveRequest, MoveService
from tenantry.capabilities.tenants.service.moves import MoverAccess, Moves
from tenantry.capabilities.tenants.service.offboarding import Offboarding
from tenantry.capabilities.tenants.service.operation_runner import PUT_BACK, OperationRunner
from tenantry.capabilities.tenants.service.operations import LEASE, OperationLog, Steps
from tenantry.capabilities.tenants.service.overlays import OverlayService, overlay_of
from tenantry.capabilities.tenants.service.plans import PlanCatalogue, load_plans
from tenantry.capabilities.tenants.service.purge import purge_due
from tenantry.capabilities.tenants.service.tenants import (
    TENANT_CHANGED,
    TENANT_SUSPENDED,
    TenantRegistry,
    TenantService,
    announce_revocation,
    ensure_platform_tenant,
    refuse_unless_active,
)
from tenantry.capabilities.tenants.service.usage import UsageService
from tenantry.capabilities.tenants.service.workspaces import (
    WORKSPACE_SUSPENDED,
    NewWorkspace,
    WorkspaceService,
    is_place_of,
    owner_of_path,
    place_of,
)

__all__ = [
    "GRACE_SECONDS",
    "LEASE",
    "PUT_BACK",
    "TENANT_CHANGED",
    "TENANT_SUSPENDED",
    "WORKSPACE_SUSPENDED",
    "Directory",
    "Effective",
    "EnvironmentService",
    "Erasures",
    "ExportService",
    "Exports",
    "ImportFiles",
    "ImportService",
    "Imports",
    "KeysetShelf",
    "KnownTenants",
    "MoveRequest",
    "MoveService",
    "MoverAccess",
    "Moves",
    "NewWorkspace",
    "Offboarding",
    "OperationLog",
    "OperationRunner",
    "OverlayCatalogue",
    "OverlayService",
    "PlanCatalogue",
    "Steps",
    "TenantKeyring",
    "TenantKeys",
    "TenantRegistry",
    "TenantService",
    "UsageService",
    "WorkspaceService",
    "announce_revocation",
    "candidate_scope",
    "ensure_platform_tenant",
    "is_place_of",
    "load_catalogue",
    "load_plans",
    "overlay_of",
    "owner_of_path",
    "place_of",
    "purge_due",
    "refuse_unless_active",
    "remove_old_exports",
    "remove_old_imports",
]
