"""The audit trail: record, query, seal, follow, stream."""

from tenantry.capabilities.audit.service.bundle import BundleHeader, LeafLines
from tenantry.capabilities.audit.service.checkpoints import Notary, Witness, WitnessFile, sign_grown
from tenantry.capabilities.audit.service.days import DayService, DayWriter, key_of, list_due_days, stands
from tenantry.capabilities.audit.service.erasing import Eraser, list_erasable, oldest_kept
from tenantry.capabilities.audit.service.events import AuditService, make_event
from tenantry.capabilities.audit.service.forgetting import forget, forgettable
from tenantry.capabilities.audit.service.indexing import IndexService, list_unindexed
from tenantry.capabilities.audit.service.log import Inclusion, LogService
from tenantry.capabilities.audit.service.persons import (
    ForgettingService,
    end_forgetting,
    forget_person,
    hold_forgetting,
    list_due_forgettings,
)
from tenantry.capabilities.audit.service.receipts import Recorded, collecting
from tenantry.capabilities.audit.service.regions import Anchor, RegionLogs
from tenantry.capabilities.audit.service.sealing import seal
from tenantry.capabilities.audit.service.searching import Found
from tenantry.capabilities.audit.service.streaming import AuditArrival, Streaming, list_due_streams
from tenantry.capabilities.audit.service.streams import NewStream, StreamChange, StreamService, TargetSeals
from tenantry.capabilities.audit.service.trail import AuditTrail

__all__ = [
    "Anchor",
    "AuditArrival",
    "AuditService",
    "AuditTrail",
    "BundleHeader",
    "DayService",
    "DayWriter",
    "Eraser",
    "ForgettingService",
    "Found",
    "Inclusion",
    "IndexService",
    "LeafLines",
    "LogService",
    "NewStream",
    "Notary",
    "Recorded",
    "RegionLogs",
    "StreamChange",
    "StreamService",
    "Streaming",
    "TargetSeals",
    "Witness",
    "WitnessFile",
    "collecting",
    "end_forgetting",
    "forget",
    "forget_person",
    "forgettable",
    "hold_forgetting",
    "key_of",
    "list_due_days",
    "list_due_forgettings",
    "list_due_streams",
    "list_erasable",
    "list_unindexed",
    "make_event",
    "oldest_kept",
    "seal",
    "sign_grown",
    "stands",
]
