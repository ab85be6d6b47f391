"""The face of access: `decide`, bindings and roles, and the admission of credentials."""

from tenantry.capabilities.access.service.admission import Admission
from tenantry.capabilities.access.service.bindings import AccessService, KeyGrantor, OwnerAdmissionByKey
from tenantry.capabilities.access.service.decide import Grantor, compile_access, decide

__all__ = ["AccessService", "Admission", "Grantor", "KeyGrantor", "OwnerAdmissionByKey", "compile_access", "decide"]
