"""The face of access: `decide`, roles, groups, bindings, and the admission of credentials."""

from tenantry.capabilities.access.service.admission import Admission, WorkspaceState
from tenantry.capabilities.access.service.bindings import AccessService, KeyGrantor, OwnerAdmissionByKey
from tenantry.capabilities.access.service.decide import (
    Grantor,
    compile_access,
    decide,
    held_in,
    joined,
)
from tenantry.capabilities.access.service.grant_facts import GrantFacts
from tenantry.capabilities.access.service.grant_life import GrantLife
from tenantry.capabilities.access.service.grant_records import grant_records
from tenantry.capabilities.access.service.grant_sources import hold_grant, is_held
from tenantry.capabilities.access.service.grant_subject import GRANT_KIND, GrantSubject
from tenantry.capabilities.access.service.grants import GRANTS_DUE, GrantService
from tenantry.capabilities.access.service.groups import GroupService
from tenantry.capabilities.access.service.identification import (
    CERTIFICATE,
    SIGNATURE,
    CertificateReader,
    CredentialReader,
    Identified,
    Presented,
    Proof,
    SignatureReader,
    identified_key,
)
from tenantry.capabilities.access.service.login_readers import LoginReader, identified_login
from tenantry.capabilities.access.service.memberships import BoundMemberships
from tenantry.capabilities.access.service.rights import Rights, RightsReader, bindable_roles, role_book, sources_of
from tenantry.capabilities.access.service.roles import RoleService

__all__ = [
    "CERTIFICATE",
    "GRANTS_DUE",
    "GRANT_KIND",
    "SIGNATURE",
    "AccessService",
    "Admission",
    "BoundMemberships",
    "CertificateReader",
    "CredentialReader",
    "GrantFacts",
    "GrantLife",
    "GrantService",
    "GrantSubject",
    "Grantor",
    "GroupService",
    "Identified",
    "KeyGrantor",
    "LoginReader",
    "OwnerAdmissionByKey",
    "Presented",
    "Proof",
    "Rights",
    "RightsReader",
    "RoleService",
    "SignatureReader",
    "WorkspaceState",
    "bindable_roles",
    "compile_access",
    "decide",
    "grant_records",
    "held_in",
    "hold_grant",
    "identified_key",
    "identified_login",
    "is_held",
    "joined",
    "role_book",
    "sources_of",
]
