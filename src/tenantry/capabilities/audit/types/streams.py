"""Streams of a tenant's sealed events to elsewhere, and the files of its days (ADR 0042)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.types import AuditEvent

MAX_STREAMS: Final = 20
"""Of one tenant."""


class StreamKind(StrEnum):
    WEBHOOK = "webhook"
    FILE = "file"
    OBJECT = "object"


class StreamFormat(StrEnum):
    CLOUDEVENTS = "cloudevents"
    OCSF = "ocsf"


class StreamStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """Which events a stream sends; an empty part asks for nothing. An action that ends in `.` means all of a noun."""

    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    resource_types: tuple[str, ...] = ()

    def passes(self, event: AuditEvent) -> bool:
        return (
            (not self.actions or any(_named(event.action, each) for each in self.actions))
            and (not self.outcomes or event.outcome in self.outcomes)
            and (not self.resource_types or event.resource_type in self.resource_types)
        )

    def to_json(self) -> dict[str, list[str]]:
        parts = (("actions", self.actions), ("outcomes", self.outcomes), ("resource_types", self.resource_types))
        return {name: list(values) for name, values in parts if values}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "StreamFilter":
        return cls(*(tuple(kept.get(name, ())) for name in ("actions", "outcomes", "resource_types")))


def _named(action: str, asked: str) -> bool:
    return action.startswith(asked) if asked.endswith(".") else action == asked


@dataclass(frozen=True, slots=True)
class AuditStream:
    """A stream without its address, of which `hint` shows what is no secret.

    `position` is the sequence of the last event that the sink has confirmed, or that the filter has passed over.
    """

    stream_id: UUID
    name: str
    kind: StreamKind
    format: StreamFormat
    hint: str
    directory: str | None
    filter: StreamFilter
    status: StreamStatus
    paused_because: str | None
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    position: int
    sent: int
    attempts: int
    failing_since: datetime | None
    last_error: str | None
    last_sent_at: datetime | None
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a stream is behind: events that are sealed and not confirmed, and the age of the oldest, in seconds."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where a webhook leads, and what signs what it is sent."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A stream that this process may send; `epoch` fences whoever held it before."""

    stream: AuditStream
    sealed: bytes | None
    epoch: int


@dataclass(frozen=True, slots=True)
class DueStream:
    """A stream that has something to send; `failing` if its last attempt did not succeed."""

    tenant_id: UUID
    stream_id: UUID
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in their order, written in the stream's format: one JSON object each, and what they are as one body.

    `first` and `last` are sequences of what was looked at; the filter may have left out any of it.
    """

    tenant_id: UUID
    stream_id: UUID
    first: int
    last: int
    documents: tuple[bytes, ...]
    media_type: str

    @property
    def lines(self) -> bytes:
        return b"".join(document + b"\n" for document in self.documents)

    @property
    def array(self) -> bytes:
        return b"[" + b",".join(self.documents) + b"]"


@dataclass(frozen=True, slots=True)
class AuditDay:
    """The file of a day (UTC): `written` is the sequence of the last event in it, `last` that of the last there is.

    `sha256` and `size_bytes` are of what was written; a closed day has all its events in its file.
    """

    day: date
    first: int
    last: int
    events: int
    written: int
    size_bytes: int | None
    sha256: bytes | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueDay:
    tenant_id: UUID
    day: date
