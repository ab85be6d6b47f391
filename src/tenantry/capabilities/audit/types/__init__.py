"""The audit event and its canonical form (ADR 0006)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tenantry.engines.merkle.tree import Frontier, TileHashes
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import Actor
from tenantry.kit.canonical_json import canonical_json

FORM_VERSION: Final = 1
COMMITTING_FORM: Final = 2
"""Of an event with the member `committed`."""


class Outcome(StrEnum):
    SUCCESS = "success"
    DENIED = "denied"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event. `sequence` counts from 1 within the tenant and is None until the sealer has given it.

    `committed` has a commitment for each value that is not public, by its name (`types/privacy`); of one that was read
    `withheld` names those that could not be opened.
    """

    tenant_id: UUID
    event_id: UUID
    occurred_at: datetime
    actor: Actor
    action: str
    resource_type: str
    resource_id: str
    outcome: Outcome
    workspace_id: UUID | None = None
    reason: str | None = None
    ip: str | None = None
    trace_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    sequence: int | None = None
    committed: Mapping[str, str] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What a query asks for; None means any. `since` is inclusive, `until` exclusive.

    `action` is a prefix, with `exact` the whole name; `text` are words that must all stand in the allowed fields.
    """

    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None
    workspace_id: UUID | None = None
    actor_type: str | None = None
    resource_type: str | None = None
    trace: str | None = None
    text: str | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Growth:
    """What sealing makes of a tenant's tree: ids and leaves of `events` at the places from `first` on, and its edge."""

    tenant_id: UUID
    first: int
    events: tuple[tuple[UUID, bytes], ...]
    frontier: Frontier
    tiles: tuple[TileHashes, ...]


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """What a tenant's log was at `size`, as the signed note (C2SP) that says so."""

    tenant_id: UUID
    size: int
    made_at: datetime
    note: bytes


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """What a region's log was at `size`, counted in checkpoints of tenants, as the signed note (C2SP) that says so."""

    size: int
    made_at: datetime
    note: bytes


@dataclass(frozen=True, slots=True)
class LogExtent:
    """How far a tenant's log is: events that have their place, and how many of those, from the first on, have left.

    `erased` were signed away and are read no more; of the first `swept` the rows are gone. `erased` is whole tiles.
    """

    size: int = 0
    erased: int = 0
    swept: int = 0


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """An event as evidence names it: its place in the log, None while it has none, and the leaf that stands there."""

    event_id: UUID
    sequence: int | None
    action: str
    actor: Actor
    details: Mapping[str, Any]
    leaf: bytes


def canonical_bytes(event: AuditEvent) -> bytes:
    """Write the event in the JSON Canonicalization Scheme (RFC 8785); raises ValueError for what has no form in it.

    These bytes are what is hashed, exported and verified, for ever: a member is only ever added, with a higher `form`.
    `sequence` is not among them: the sealer gives it later, the tree binds it.
    """
    form: dict[str, Any] = {
        "form": FORM_VERSION,
        "id": format_id(Prefix.AUDIT_EVENT, event.event_id),
        "tenant": format_id(Prefix.TENANT, event.tenant_id),
        "workspace": format_id(Prefix.WORKSPACE, event.workspace_id) if event.workspace_id else None,
        "occurred_at": event.occurred_at.isoformat(timespec="microseconds"),
        "actor": {"type": event.actor.type.value, "id": event.actor.id, "chain": list(event.actor.chain)},
        "action": event.action,
        "resource": {"type": event.resource_type, "id": event.resource_id},
        "outcome": event.outcome.value,
        "reason": event.reason,
        "ip": event.ip,
        "trace_id": event.trace_id,
        "details": dict(event.details),
    }
    if event.committed:
        form |= {"form": COMMITTING_FORM, "committed": dict(event.committed)}
    return canonical_json(form)
