"""The face of tenants: plans, the directory, tenants, workspaces, tenant keys."""

from tenantry.capabilities.tenants.service.directory import Directory
from tenantry.capabilities.tenants.service.keyring import TenantKeyring, TenantKeys
from tenantry.capabilities.tenants.service.plans import PlanCatalogue, load_plans
from tenantry.capabilities.tenants.service.tenants import (
    TENANT_SUSPENDED,
    TenantRegistry,
    TenantService,
    announce_revocation,
    ensure_platform_tenant,
    refuse_unless_active,
)
from tenantry.capabilities.tenants.service.workspaces import WORKSPACE_SUSPENDED, NewWorkspace, WorkspaceService

__all__ = [
    "TENANT_SUSPENDED",
    "WORKSPACE_SUSPENDED",
    "Directory",
    "NewWorkspace",
    "PlanCatalogue",
    "TenantKeyring",
    "TenantKeys",
    "TenantRegistry",
    "TenantService",
    "WorkspaceService",
    "announce_revocation",
    "ensure_platform_tenant",
    "load_plans",
    "refuse_unless_active",
]
