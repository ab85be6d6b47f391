"""All SQL of the audit trail."""

from tenantry.capabilities.audit.repository.checkpoints import (
    insert_checkpoints,
    take_unsigned,
    thin_checkpoints,
)
from tenantry.capabilities.audit.repository.events import (
    find_event,
    insert_event,
    insert_events,
    list_events,
)
from tenantry.capabilities.audit.repository.log import (
    find_checkpoint,
    find_hashes,
    list_checkpoints,
    list_log,
)
from tenantry.capabilities.audit.repository.regions import (
    find_known_leaves,
    find_region_hashes,
    find_region_root,
    insert_region_root,
    take_region_head,
    take_region_note,
    take_seen_root,
    thin_region_roots,
    write_region_growth,
    write_region_note,
    write_seen_root,
)
from tenantry.capabilities.audit.repository.sealing import (
    find_heads,
    find_sealed_leaves,
    find_waiting,
    pass_gate,
    write_growth,
)
from tenantry.capabilities.audit.repository.tracing import trace_resources

__all__ = [
    "find_checkpoint",
    "find_event",
    "find_hashes",
    "find_heads",
    "find_known_leaves",
    "find_region_hashes",
    "find_region_root",
    "find_sealed_leaves",
    "find_waiting",
    "insert_checkpoints",
    "insert_event",
    "insert_events",
    "insert_region_root",
    "list_checkpoints",
    "list_events",
    "list_log",
    "pass_gate",
    "take_region_head",
    "take_region_note",
    "take_seen_root",
    "take_unsigned",
    "thin_checkpoints",
    "thin_region_roots",
    "trace_resources",
    "write_growth",
    "write_region_growth",
    "write_region_note",
    "write_seen_root",
]
