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
from tenantry.capabilities.limits.repository.overrides import find_override, list_overrides, put_override

__all__ = [
    "delete_reservations",
    "find_override",
    "list_counters",
    "list_expired",
    "list_overrides",
    "list_reserved",
    "list_wrong_counters",
    "lock_place",
    "move_reservation",
    "put_override",
    "reserve",
    "set_counter",
]
