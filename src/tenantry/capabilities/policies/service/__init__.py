"""The face of policies: what work is asked, versions of documents, exemptions, proofs."""

from tenantry.capabilities.policies.service.book import PolicyBook
from tenantry.capabilities.policies.service.bundles import BundleService
from tenantry.capabilities.policies.service.checking import PolicyService
from tenantry.capabilities.policies.service.compiling import FILES, load_platform_policies, require_settings
from tenantry.capabilities.policies.service.exemptions import ExemptionService
from tenantry.capabilities.policies.service.proving import find_widening

__all__ = [
    "FILES",
    "BundleService",
    "ExemptionService",
    "PolicyBook",
    "PolicyService",
    "find_widening",
    "load_platform_policies",
    "require_settings",
]
