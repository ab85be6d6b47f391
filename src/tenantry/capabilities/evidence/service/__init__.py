"""The face of evidence: begin and end it, lock, examine, hold, collect; bundles and their index without a server."""

from tenantry.capabilities.evidence.service.checking import EvidenceExaminer
from tenantry.capabilities.evidence.service.envelopes import EvidenceSigner
from tenantry.capabilities.evidence.service.evidence import EvidenceService, Shown
from tenantry.capabilities.evidence.service.holds import HoldService, LegalHolds, LogReserve
from tenantry.capabilities.evidence.service.locking import EvidenceLocker
from tenantry.capabilities.evidence.service.opening import begin_evidence, end_evidence
from tenantry.capabilities.evidence.service.retention import EvidenceCollector

__all__ = [
    "EvidenceCollector",
    "EvidenceExaminer",
    "EvidenceLocker",
    "EvidenceService",
    "EvidenceSigner",
    "HoldService",
    "LegalHolds",
    "LogReserve",
    "Shown",
    "begin_evidence",
    "end_evidence",
]
