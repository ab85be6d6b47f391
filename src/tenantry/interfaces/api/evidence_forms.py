"""Evidence, holds and reports as answers, and what a hold is asked for by."""

from typing import Any, Self
from uuid import UUID

from pydantic import Field, model_validator

from tenantry.capabilities.evidence.types import CollectionReport, Evidence, Hold, Selector, State
from tenantry.capabilities.sandboxes.types import JOB
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.schema import Answer, Body, Description, Instant, Moment

_SUBJECTS = {JOB: Prefix.JOB}


class EvidenceAnswer(Answer):
    id: str
    workspace: str
    kind: str = Field(description="of what: `job`")
    subject: str
    state: State
    faults: list[str] = Field(description="what does not hold; empty unless `tampered`")
    persistence_mode: str
    labels: dict[str, str]
    created_at: Moment
    ended_at: Moment | None
    locked_at: Moment | None
    checked_at: Moment | None = Field(description="when it was examined last")
    sha256: str | None = Field(description="of the envelope in RFC 8785, hexadecimal")
    size_bytes: int | None
    audit: dict[str, int] | None = Field(description="`first` and `last` sequence of its events")


class EvidenceBundleAnswer(EvidenceAnswer):
    bundle: dict[str, Any] = Field(description="what `tenantry evidence verify` reads: DSSE envelope, keys, meta")


class TenantCounts(Answer):
    count: int
    wip: int
    locked: int
    tampered: int


class IndexSummary(Answer):
    count: int
    by_tenant: dict[str, TenantCounts]


class EvidenceKeyAnswer(Answer):
    key: str = Field(description="name, id and key, as `tenantry evidence verify --key` takes it")
    valid_from: Moment | None
    valid_until: Moment | None


class IndexAnswer(Answer):
    summary: IndexSummary
    keys: list[EvidenceKeyAnswer] = Field(description="by which evidence is signed, of each region")
    floor_days: int = Field(description="how long evidence is kept here at least")


class ExaminedIndexAnswer(IndexAnswer):
    examined: int
    tampered: list[EvidenceAnswer] = Field(description="what was found tampered with just now")


class CollectionBody(Body):
    dry_run: bool = Field(default=True, description="false: it is really deleted")


class CollectionAnswer(Answer):
    dry_run: bool
    scanned: int
    by_state: dict[str, int] = Field(description="of all that was scanned")
    expired: int = Field(description="past the workspace's `retention_days`: under the floor, held, deleted or left")
    under_floor: int
    held: int
    deleted: int
    bytes: int
    left: int = Field(description="to the next collection")
    floor_days: int


class HoldBody(Body):
    """Without a selector all of the workspace is held; each one narrows it."""

    case_id: Description = Field(min_length=1, max_length=120)
    reason: Description = Field(min_length=1)
    subject: str | None = Field(default=None, max_length=60, description="one piece of work: `job_…`")
    label: dict[str, str] | None = Field(
        default=None, min_length=1, max_length=1, description="one label, as `{name: value}`"
    )
    since: Instant | None = Field(default=None, description="what had not ended before")
    until: Instant | None = Field(default=None, description="what had begun by then")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError("since is later than until")
        return self

    @property
    def selector(self) -> Selector:
        """Read what it selects; raises Invalid `id_malformed`."""
        kind, subject_id = subject_of(self.subject) if self.subject is not None else (None, None)
        name, value = next(iter(self.label.items())) if self.label else (None, None)
        return Selector(kind, subject_id, name, value, self.since, self.until)


class HoldAnswer(Answer):
    id: str
    workspace: str
    case_id: str
    reason: str
    subject: str | None
    label: dict[str, str] | None
    since: Moment | None
    until: Moment | None
    active: bool
    placed_at: Moment
    placed_by: str
    released_at: Moment | None
    released_by: str | None
    release_reason: str | None


def subject_of(text: str) -> tuple[str, UUID]:
    """Read of what kind of work an id is; raises Invalid `id_malformed`."""
    known = {prefix.value: kind for kind, prefix in _SUBJECTS.items()}
    kind = known.get(text.rpartition("_")[0], JOB)
    return kind, parse_id(_SUBJECTS[kind], text)


def render(evidence: Evidence, *, subject: str, faults: tuple[str, ...] | None = None) -> EvidenceAnswer:
    """Show it; `faults` are what an examination just now has found."""
    return EvidenceAnswer(**rendered(evidence, subject=subject, faults=faults))


def rendered(evidence: Evidence, *, subject: str, faults: tuple[str, ...] | None = None) -> dict[str, Any]:
    found = evidence.faults if faults is None else faults
    audit = None
    if evidence.first_sequence is not None and evidence.last_sequence is not None:
        audit = {"first": evidence.first_sequence, "last": evidence.last_sequence}
    return {
        "id": format_id(Prefix.EVIDENCE, evidence.evidence_id),
        "workspace": format_id(Prefix.WORKSPACE, evidence.workspace_id),
        "kind": evidence.subject_kind,
        "subject": subject,
        "state": State.TAMPERED if found else evidence.state,
        "faults": list(found),
        "persistence_mode": evidence.persistence_mode,
        "labels": dict(evidence.labels),
        "created_at": evidence.created_at,
        "ended_at": evidence.ended_at,
        "locked_at": evidence.locked_at,
        "checked_at": evidence.checked_at,
        "sha256": evidence.sha256.hex() if evidence.sha256 else None,
        "size_bytes": evidence.size_bytes,
        "audit": audit,
    }


def render_hold(hold: Hold) -> HoldAnswer:
    selector = hold.selector
    prefix = _SUBJECTS.get(selector.subject_kind or "", Prefix.JOB)
    return HoldAnswer(
        id=format_id(Prefix.HOLD, hold.hold_id),
        workspace=format_id(Prefix.WORKSPACE, hold.workspace_id),
        case_id=hold.case_id,
        reason=hold.reason,
        subject=format_id(prefix, selector.subject_id) if selector.subject_id else None,
        label={selector.label_name: selector.label_value or ""} if selector.label_name else None,
        since=selector.since,
        until=selector.until,
        active=hold.released_at is None,
        placed_at=hold.placed_at,
        placed_by=hold.placed_by,
        released_at=hold.released_at,
        released_by=hold.released_by,
        release_reason=hold.release_reason,
    )


def render_report(report: CollectionReport) -> CollectionAnswer:
    return CollectionAnswer(
        dry_run=report.dry_run,
        scanned=sum(report.scanned.values()),
        by_state={state.value: number for state, number in report.scanned.items()},
        expired=report.expired,
        under_floor=report.under_floor,
        held=report.held,
        deleted=report.deleted,
        bytes=report.bytes,
        left=report.left,
        floor_days=report.floor_days,
    )
