"""All SQL of the audit trail."""

from tenantry.capabilities.audit.repository.checkpoints import (
    insert_checkpoints,
    take_unsigned,
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
from tenantry.capabilities.audit.repository.sealing import (
    find_heads,
    find_sealed_leaves,
    find_waiting,
    pass_gate,
    write_growth,
)

__all__ = [
    "find_checkpoint",
    "find_event",
    "find_hashes",
    "find_heads",
    "find_sealed_leaves",
    "find_waiting",
    "insert_checkpoints",
    "insert_event",
    "insert_events",
    "list_checkpoints",
    "list_events",
    "list_log",
    "pass_gate",
    "take_unsigned",
    "write_growth",
]
