"""Declared tenants: one file a tenant, in `tenants/` of the home.

A file manages what it names and nothing else; it never deletes. A file that does not count is told by file, line, field
and rule, and hides no other. Region and isolation are set by a file once, at the making of the tenant.
"""

from tenantry.capabilities.tenants.service.declared.applier import (
    DeclaredMode,
    DeclaredTenants,
    Difference,
    Reloaded,
)
from tenantry.capabilities.tenants.service.declared.bootstrap_keys import FOLDER as KEY_FOLDER
from tenantry.capabilities.tenants.service.declared.bootstrap_keys import keep_key
from tenantry.capabilities.tenants.service.declared.declaration import (
    Declaration,
    DeclaredTenant,
    FileFault,
    examples,
    render_schema,
    schema_text,
)
from tenantry.capabilities.tenants.service.declared.difference import Action, Change, FieldChange, compare
from tenantry.capabilities.tenants.service.declared.folder import Loaded, TenantFolder

__all__ = [
    "KEY_FOLDER",
    "Action",
    "Change",
    "Declaration",
    "DeclaredMode",
    "DeclaredTenant",
    "DeclaredTenants",
    "Difference",
    "FieldChange",
    "FileFault",
    "Loaded",
    "Reloaded",
    "TenantFolder",
    "compare",
    "examples",
    "keep_key",
    "render_schema",
    "schema_text",
]
