"""Which addresses a stream of audit events may lead to: those that a channel's webhook may have, by https alone."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from tenantry.capabilities.notifications.errors import address_invalid
from tenantry.capabilities.notifications.service.addresses import hint_of, require_address
from tenantry.capabilities.notifications.types import ChannelKind
from tenantry.foundation.notification_settings import NotificationSettings


@dataclass(frozen=True, slots=True)
class StreamAddresses:
    """The `Addresses` port of audit streams."""

    allow_private: bool

    @classmethod
    def of(cls, settings: NotificationSettings) -> "StreamAddresses":
        return cls(settings.allow_private_addresses)

    def require(self, url: str) -> None:
        require_address(ChannelKind.WEBHOOK, url, allow_private=self.allow_private)
        if urlsplit(url).scheme != "https" and not self.allow_private:
            raise address_invalid("must begin with https://")

    def hint(self, url: str) -> str:
        return hint_of(ChannelKind.WEBHOOK, url)
