"""All SQL of limits."""

from tenantry.capabilities.limits.repository.ledger import (
    delete_reservations,
    list_counters,
    list_expired,
    list_reserved,
    list_wrong_counters,
    lock_place,
    move_reservation,
    reserve,
    set_counter,
)
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
    "delete_reservations",
    "find_mark",
    "find_override",
    "forget_events",
    "insert_events",
    "list_counters",
    "list_events",
    "list_expired",
    "list_hours",
    "list_overrides",
    "list_reserved",
    "list_wrong_counters",
    "lock_place",
    "move_reservation",
    "put_override",
    "reserve",
    "set_counter",
]
