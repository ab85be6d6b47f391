"""The face of notifications: channels, announcing, sending."""

from tenantry.capabilities.notifications.service.addresses import (
    HOST_SCHEMAS,
    MAX_ADDRESS,
    VENDOR_SCHEMAS,
    AddressBook,
)
from tenantry.capabilities.notifications.service.announcing import Announcer
from tenantry.capabilities.notifications.service.channels import ChannelChange, ChannelService
from tenantry.capabilities.notifications.service.sending import (
    PER_LANE,
    PER_TENANT,
    Deliveries,
    NoticeArrival,
    list_due,
    retry_after,
)
from tenantry.capabilities.notifications.service.stream_addresses import StreamAddresses

__all__ = [
    "HOST_SCHEMAS",
    "MAX_ADDRESS",
    "PER_LANE",
    "PER_TENANT",
    "VENDOR_SCHEMAS",
    "AddressBook",
    "Announcer",
    "ChannelChange",
    "ChannelService",
    "Deliveries",
    "NoticeArrival",
    "StreamAddresses",
    "list_due",
    "retry_after",
]
