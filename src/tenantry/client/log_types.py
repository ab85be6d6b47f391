"""What the audit log is told as; see types.py."""

from typing import TypedDict

from tenantry.client.types import AuditEvent


class VerifierKey(TypedDict, total=False):
    """`key` is `name+id+base64` of C2SP signed-note."""

    key: str
    valid_from: str | None
    valid_until: str | None


class Checkpoint(TypedDict, total=False):
    """`root` is in base64; `note` is the signed text, to be kept byte for byte."""

    origin: str
    size: int
    root: str
    made_at: str
    note: str
    keys: list[VerifierKey]


class Root(TypedDict, total=False):
    """A region's signed root; `signed_by` names who has signed the note: the region, and regions that have seen it."""

    region: str
    origin: str
    size: int
    root: str
    made_at: str
    note: str
    signed_by: list[str]
    keys: list[VerifierKey]


class Anchor(TypedDict, total=False):
    """That a tenant's newest checkpoint is leaf `index` of its region's log; `leaf` and `path` are in base64."""

    checkpoint: Checkpoint
    index: int
    leaf: str
    path: list[str]
    root: Root


class ConsistencyProof(TypedDict, total=False):
    """`path`, in base64, shows that the checkpoint's log begins with its first `size` events."""

    size: int
    path: list[str]
    checkpoint: Checkpoint


class InclusionProof(TypedDict, total=False):
    """`leaf` and `path` are in base64; `index` counts from 0."""

    event: str
    index: int
    leaf: str
    path: list[str]
    checkpoint: Checkpoint


class AuditFilters(TypedDict, total=False):
    """What events are asked for; None, as what is left out, means any."""

    actor: str | None
    actor_type: str | None
    action: str | None
    exact: bool | None
    resource: str | None
    resource_type: str | None
    outcome: str | None
    since: str | None
    until: str | None
    workspace: str | None
    trace: str | None
    q: str | None


class SequencePage(TypedDict, total=False):
    """`reached`: the place up to where was looked; `next_cursor` None at the end of what is sealed."""

    items: list[AuditEvent]
    next_cursor: str | None
    reached: int


class AuditDay(TypedDict, total=False):
    """`closed_at` None: more may come; `sha256` and `size_bytes` are of the file as it was last written."""

    day: str
    events: int
    first: int
    last: int
    closed_at: str | None
    size_bytes: int | None
    sha256: str | None


class Forgetting(TypedDict, total=False):
    """A request to forget one person; `state` is `open`, `held` (by a legal hold) or `done`."""

    id: str
    principal: str
    state: str
    looked_at: int
    forgotten: int
    requested_at: str
    requested_by: str
    ended_at: str | None


class AuditStream(TypedDict, total=False):
    """`secret` only in the answer that makes one; `lag_events` and `lag_seconds` only where one stream is read."""

    id: str
    name: str
    kind: str
    format: str
    hint: str
    filter: dict[str, list[str]]
    status: str
    paused_because: str | None
    version: int
    position: int
    sent: int
    attempts: int
    failing_since: str | None
    last_error: str | None
    last_sent_at: str | None
    next_attempt_at: str | None
    lag_events: int
    lag_seconds: float
    secret: str | None
