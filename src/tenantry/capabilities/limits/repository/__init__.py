"""All SQL of limits."""

from tenantry.capabilities.limits.repository.metering import (
    add_to_hours,
    advance_mark,
    find_mark,
    forget_events,
    insert_events,
    list_events,
    list_hours,
)
from tenantry.capabilities.limits.repository.overrides import find_override, list_overrides, put_override

__all__ = [
    "add_to_hours",
    "advance_mark",
    "find_mark",
    "find_override",
    "forget_events",
    "insert_events",
    "list_events",
    "list_hours",
    "list_overrides",
    "put_override",
]
