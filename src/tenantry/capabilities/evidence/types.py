"""Evidence, what it is of, and what keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

EVIDENCE_TAMPERED: Final = "evidence.tampered"
"""Outbox topic; the payload holds ids: evidence, its workspace and its subject."""
FLOOR: Final = "evidence_floor_days"
"""Member of a tenant's `limits`, which the platform alone sets."""
MOST_DAYS: Final = 36_500


class State(StrEnum):
    WIP = "wip"
    LOCKED = "locked"
    TAMPERED = "tampered"


@dataclass(frozen=True, slots=True)
class Subject:
    """A piece of work, as it is when evidence of it begins or its end is told.

    `judged` is what policies said when it was accepted; no words of its content.
    """

    kind: str
    id: UUID
    workspace_id: UUID
    persistence_mode: str
    labels: Mapping[str, str] = field(default_factory=dict)
    judged: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Product:
    """What work has left: by an id or a word of ours, which is no content, and its SHA-256."""

    name: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Description:
    """What a capability says of work that has ended; JSON of texts, numbers, lists and objects.

    `execution` stays the same for ever: it is compared when evidence is examined. `authority` (the grant it ran by, the
    approvals of that) is as it was when it is locked. `resource`, `end` and `events` name its audit events: of that
    resource, those actions, up to the one that ends it.
    """

    execution: Mapping[str, Any]
    authority: Mapping[str, Any]
    products: Sequence[Product]
    resource: str
    end: str
    events: frozenset[str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row, with what is told of its envelope once there is one. `sha256` is of the envelope's canonical bytes."""

    evidence_id: UUID
    workspace_id: UUID
    subject_kind: str
    subject_id: UUID
    state: State
    persistence_mode: str
    labels: Mapping[str, str]
    judged: Mapping[str, Any]
    created_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    checked_at: datetime | None
    faults: tuple[str, ...]
    sha256: bytes | None = None
    size_bytes: int | None = None
    first_sequence: int | None = None
    last_sequence: int | None = None
    locked_at: datetime | None = None
    sealed: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is inserted when evidence is locked; `sealed` under the tenant's keyset."""

    evidence_id: UUID
    workspace_id: UUID
    sealed: bytes = field(repr=False)
    sha256: bytes
    size_bytes: int
    first_sequence: int
    last_sequence: int
    locked_at: datetime


@dataclass(frozen=True, slots=True)
class Examined:
    """What an examination has found: nothing, or the stable words of what does not hold."""

    evidence: Evidence
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """What a hold keeps: all of its workspace, but for what a member that is set leaves out.

    `since` and `until` select what lived at some time between them: until inclusive, since inclusive.
    """

    subject_kind: str | None = None
    subject_id: UUID | None = None
    label_name: str | None = None
    label_value: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold of one case; active until it is released, and kept after that."""

    hold_id: UUID
    workspace_id: UUID
    case_id: str
    reason: str
    selector: Selector
    placed_at: datetime
    placed_by: str
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Evidence that nothing keeps any longer."""

    evidence_id: UUID
    workspace_id: UUID
    subject_kind: str
    subject_id: UUID
    state: State
    ended_at: datetime
    sha256: bytes | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """What a collection did, or would do.

    `scanned` is all there is, by state; `expired` what its workspace's days are over for: `under_floor`, or `held`, or
    `deleted`, or `left` to the next collection. `bytes` are those of the deleted envelopes.
    """

    dry_run: bool
    scanned: Mapping[State, int]
    expired: int
    under_floor: int
    held: int
    deleted: int
    bytes: int
    left: int
    floor_days: int
