"""The audit trail: record, query, seal."""

from tenantry.capabilities.audit.service.bundle import BundleHeader, LeafLines
from tenantry.capabilities.audit.service.checkpoints import Notary, WitnessFile, sign_grown
from tenantry.capabilities.audit.service.events import AuditService, make_event
from tenantry.capabilities.audit.service.log import Inclusion, LogService
from tenantry.capabilities.audit.service.receipts import Recorded, collecting
from tenantry.capabilities.audit.service.regions import Anchor, RegionLogs
from tenantry.capabilities.audit.service.sealing import seal
from tenantry.capabilities.audit.service.trail import AuditTrail

__all__ = [
    "Anchor",
    "AuditService",
    "AuditTrail",
    "BundleHeader",
    "Inclusion",
    "LeafLines",
    "LogService",
    "Notary",
    "Recorded",
    "RegionLogs",
    "WitnessFile",
    "collecting",
    "make_event",
    "seal",
    "sign_grown",
]
