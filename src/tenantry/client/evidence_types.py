"""Shapes of evidence and legal holds."""

from typing import Any, TypedDict


class Evidence(TypedDict, total=False):
    """One piece; `bundle` is what `tenantry evidence verify` reads, where it was asked for alone or exported."""

    id: str
    workspace: str
    kind: str
    subject: str
    state: str
    faults: list[str]
    persistence_mode: str
    labels: dict[str, str]
    created_at: str
    ended_at: str | None
    locked_at: str | None
    checked_at: str | None
    sha256: str | None
    size_bytes: int | None
    audit: dict[str, int] | None
    bundle: dict[str, Any]


class EvidenceIndex(TypedDict, total=False):
    """`summary` has `count` and `by_tenant`; `examined` and `tampered` are there after one. `keys` sign it."""

    summary: dict[str, Any]
    floor_days: int
    keys: list[dict[str, str | None]]
    examined: int
    tampered: list[Evidence]


class EvidenceCollection(TypedDict):
    """What a collection did, or with `dry_run` would do."""

    dry_run: bool
    scanned: int
    by_state: dict[str, int]
    expired: int
    under_floor: int
    held: int
    deleted: int
    bytes: int
    left: int
    floor_days: int


class LegalHold(TypedDict):
    id: str
    workspace: str
    case_id: str
    reason: str
    subject: str | None
    label: dict[str, str] | None
    since: str | None
    until: str | None
    active: bool
    placed_at: str
    placed_by: str
    released_at: str | None
    released_by: str | None
    release_reason: str | None
