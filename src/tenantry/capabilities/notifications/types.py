"""Channels, deliveries, and what a notice is made of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

TEST_TOPIC: Final = "notification.test"
"""Sent by `…/test`; nothing subscribes to it."""
TOPICS: Final = (
    "grant.requested",
    "grant.active",
    "grant.expiring",
    "grant.expired",
    "grant.revoked",
    "grant.denied",
    "grant.extended",
    "approval.requested",
    "approval.decided",
    "approval.expired",
    "approval.escalated",
    "audit_stream.paused",
    "evidence.tampered",
)
"""What notices are made of. A payload holds ids and names only: `workspace_id`, `principal_id`, `requested_by`, …"""
SUBSCRIPTIONS: Final = frozenset({"*", *TOPICS, *(f"{topic.partition('.')[0]}.*" for topic in TOPICS)})
"""What a channel may subscribe to: one topic, all of a noun, or all."""
PERSON_FIELDS: Final = ("principal_id", "requested_by")
"""Members of a payload that name whom an event concerns."""
MAX_CHANNELS: Final = 50
"""Of one workspace, or of the tenant itself."""
MAX_ATTEMPTS: Final = 8

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


class ChannelKind(StrEnum):
    WEBHOOK = "webhook"
    EMAIL = "email"
    APPRISE = "apprise"


class ChannelStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel without its address, of which `hint` shows what is no secret. `workspace_id` None: of the tenant."""

    channel_id: UUID
    workspace_id: UUID | None
    name: str
    kind: ChannelKind
    hint: str
    topics: tuple[str, ...]
    status: ChannelStatus
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a channel leads. `secret` signs what a webhook is sent; other kinds have none."""

    text: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told, made once for an event and kept with each of its deliveries.

    `ids` are the payload's, `facts` what a `Describe` added. `workspace_name` and `facts` are words of users.
    """

    topic: str
    occurred_at: datetime
    workspace_id: UUID | None = None
    workspace_name: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one channel or person. `last_error` is a code, never what the other side said."""

    delivery_id: UUID
    workspace_id: UUID | None
    event_id: UUID
    topic: str
    channel_id: UUID | None
    recipient_id: UUID | None
    notice: Notice
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come. `lane` is its channel or recipient: one that is slow holds up itself alone."""

    tenant_id: UUID
    delivery_id: UUID
    lane: UUID


@dataclass(frozen=True, slots=True)
class Message:
    """A notice as it is sent. `delivery` is the same at each attempt; title and body hold no control characters."""

    delivery: str
    topic: str
    title: str
    body: str
    document: Mapping[str, Any]


def ids_of(payload: Mapping[str, Any]) -> dict[str, str]:
    """Take what has the form of an id or a name from a payload; anything else is nobody's to send."""
    return {
        name: value
        for name, value in payload.items()
        if isinstance(value, str) and _ID.fullmatch(value) and _ID.fullmatch(name)
    }
