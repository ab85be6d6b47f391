"""The face of access: `decide`, roles, groups, bindings, and the admission of credentials."""

from tenantry.capabilities.access.service.admission import Admission, WorkspaceState
from tenantry.capabilities.access.service.bindings import AccessService, KeyGrantor, OwnerAdmissionByKey
from tenantry.capabilities.access.service.decide import (
    Grantor,
    compile_access,
    decide,
    held_in,
)
from tenantry.capabilities.access.service.groups import GroupService
from tenantry.capabilities.access.service.identification import CredentialReader, Identified, Presented
from tenantry.capabilities.access.service.rights import Rights, RightsReader, bindable_roles, role_book, sources_of
from tenantry.capabilities.access.service.roles import RoleService

__all__ = [
    "AccessService",
    "Admission",
    "CredentialReader",
    "Grantor",
    "GroupService",
    "Identified",
    "KeyGrantor",
    "OwnerAdmissionByKey",
    "Presented",
    "Rights",
    "RightsReader",
    "RoleService",
    "WorkspaceState",
    "bindable_roles",
    "compile_access",
    "decide",
    "held_in",
    "role_book",
    "sources_of",
]
