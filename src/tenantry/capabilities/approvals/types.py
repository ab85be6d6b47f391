"""Approvals, votes, and the digest that binds them to what will be done."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tenantry.foundation.scope import Actor
from tenantry.kit.canonical_json import canonical_json

COMMENTS: Final = "approval"
"""What the purge list calls the comments of an approval."""
REQUESTED: Final = "approval.requested"
DECIDED: Final = "approval.decided"
EXPIRED: Final = "approval.expired"
ESCALATED: Final = "approval.escalated"
"""Outbox topics; the payload holds ids, the kind and the status: `Approval.news`."""


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"


class Vote(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class NewApproval:
    """What is asked for. `content` says all of what will be done: its digest is what is approved.

    `eligible` None: whoever may decide there. `parties` gain by it and so may not decide, besides the requester.
    `minutes`: a duration that approvers may shorten. From `escalate_at` on `escalate_to` may decide as well.
    """

    kind: str
    subject_id: str
    content: Mapping[str, Any]
    summary: str
    needed: int
    expires_at: datetime
    eligible: tuple[str, ...] | None = None
    parties: tuple[str, ...] = ()
    minutes: int | None = None
    escalate_at: datetime | None = None
    escalate_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """`excluded` names all who may not decide. `due_at`: when something becomes of it by itself; None: never again."""

    approval_id: UUID
    workspace_id: UUID
    kind: str
    subject_id: str
    digest: bytes
    summary: str
    requested_by: str
    excluded: tuple[str, ...]
    eligible: tuple[str, ...] | None
    needed: int
    minutes: int | None
    granted_minutes: int | None
    """The least that an approver gave; None while nobody has shortened it."""
    status: ApprovalStatus
    persistence_mode: str
    """That of its workspace when it was asked for."""
    content_key: bytes | None = field(repr=False)
    escalate_to: tuple[str, ...]
    escalate_at: datetime | None
    escalated_at: datetime | None
    expires_at: datetime
    due_at: datetime | None
    created_at: datetime
    decided_at: datetime | None
    consumed_at: datetime | None
    content_until: datetime | None
    content_purged_at: datetime | None
    version: int

    def status_at(self, now: datetime) -> ApprovalStatus:
        """Tell its status by the clock, whether or not it has been swept."""
        lapsed = self.status is ApprovalStatus.PENDING and self.expires_at <= now
        return ApprovalStatus.EXPIRED if lapsed else self.status

    @property
    def lasting_minutes(self) -> int | None:
        """How long it lasts what is approved, as asked or as shortened."""
        return self.minutes if self.granted_minutes is None else self.granted_minutes

    @property
    def news(self) -> dict[str, str]:
        """Give the payload of its outbox events: ids and names, nothing of its content."""
        return {
            "approval_id": self.approval_id.hex,
            "workspace_id": self.workspace_id.hex,
            "kind": self.kind,
            "subject_id": self.subject_id,
            "status": self.status.value,
        }


@dataclass(frozen=True, slots=True)
class Ballot:
    """One principal's vote; `actor_id` is the credential it was cast with. A purged comment leaves size and digest."""

    principal_id: str
    actor_id: str
    vote: Vote
    minutes: int | None
    comment: bytes | None = field(repr=False)
    """Sealed."""
    comment_bytes: int
    comment_sha256: bytes | None
    decided_at: datetime


def digest_of(content: Mapping[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON (RFC 8785); raises ValueError for what has none."""
    return hashlib.sha256(canonical_json(dict(content))).digest()


def identities_of(actor: Actor) -> tuple[str, ...]:
    """Name everybody who acts when this actor does: the credential, its principal, on whose behalf."""
    return (actor.id, *actor.chain)


def voter_of(actor: Actor) -> str:
    """Name whose vote it is: the last on whose behalf the credential acts, so several credentials have one vote."""
    return actor.chain[-1] if actor.chain else actor.id
