"""What notifications refuse, and how a sending fails."""

from tenantry.capabilities.notifications.types import MAX_CHANNELS, SUBSCRIPTIONS
from tenantry.foundation.errors import Conflict, Exhausted, Invalid, NotFound, Precondition

_LAYER = "notifications"


class NotSentError(Exception):
    """A message did not arrive, or it is not known to have. `code` says why, in our words; no address is in it.

    `lasting`: another attempt would end the same.
    """

    def __init__(self, code: str, *, lasting: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.lasting = lasting


def channel_not_found() -> NotFound:
    return NotFound("not_found", "no such notification channel", layer=_LAYER)


def delivery_not_found() -> NotFound:
    return NotFound("not_found", "no such delivery", layer=_LAYER)


def channel_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"a channel named {name!r} exists here", layer=_LAYER, field="name")


def channel_disabled() -> Conflict:
    return Conflict("channel_disabled", "the channel is disabled: set its status to active", layer=_LAYER)


def channel_version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        "the channel has changed since it was read: read it again and repeat",
        layer=_LAYER,
        current=f'"{current}"',
    )


def too_many_channels(current: int) -> Exhausted:
    return Exhausted(
        "channel_limit",
        f"a place has at most {MAX_CHANNELS} channels: remove one",
        layer=_LAYER,
        limit=MAX_CHANNELS,
        current=current,
    )


def topic_unknown(topic: str) -> Invalid:
    return Invalid(
        "topic_unknown",
        f"topics: {topic!r} is nothing one can subscribe to",
        layer=_LAYER,
        field="topics",
        known=sorted(SUBSCRIPTIONS),
    )


def address_invalid(why: str) -> Invalid:
    """Say what is wrong without repeating the address: it may hold a secret."""
    return Invalid("address_invalid", f"address: {why}", layer=_LAYER, field="address")


def address_private() -> Invalid:
    return Invalid(
        "address_private",
        "address: names a private, local or reserved network address, which this installation does not connect to",
        layer=_LAYER,
        field="address",
    )


def email_not_configured() -> Conflict:
    return Conflict(
        "email_not_configured",
        "this installation sends no e-mail: its operator sets notifications.smtp_url and notifications.sender",
        layer=_LAYER,
        field="kind",
    )


def secret_not_for_kind() -> Invalid:
    return Invalid(
        "secret_not_for_kind",
        "rotate_secret: only webhooks have a signing secret",
        layer=_LAYER,
        field="rotate_secret",
    )
