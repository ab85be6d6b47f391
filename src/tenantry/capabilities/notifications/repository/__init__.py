"""All SQL of notifications."""

from tenantry.capabilities.notifications.repository.channels import (
    count_channels,
    delete_channel,
    find_address,
    find_channel,
    insert_channel,
    list_channels,
    update_channel,
)
from tenantry.capabilities.notifications.repository.deliveries import (
    claim_delivery,
    end_pending,
    find_delivery,
    forget_ended,
    insert_for_channels,
    insert_one,
    list_deliveries,
    list_due,
    note_ended,
    note_retry,
)

__all__ = [
    "claim_delivery",
    "count_channels",
    "delete_channel",
    "end_pending",
    "find_address",
    "find_channel",
    "find_delivery",
    "forget_ended",
    "insert_channel",
    "insert_for_channels",
    "insert_one",
    "list_channels",
    "list_deliveries",
    "list_due",
    "note_ended",
    "note_retry",
    "update_channel",
]
