"""Approvals of one tenant: asked for, decided, used once, void when what they are about has changed."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

from tenantry.capabilities.approvals import errors, repository
from tenantry.capabilities.approvals.ports import Subject
from tenantry.capabilities.approvals.service.comments import ApprovalComments
from tenantry.capabilities.approvals.types import (
    DECIDED,
    ESCALATED,
    EXPIRED,
    REQUESTED,
    Approval,
    ApprovalStatus,
    Ballot,
    NewApproval,
    Vote,
    digest_of,
    identities_of,
    voter_of,
)
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.service import WorkspaceService
from tenantry.foundation import outbox
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import ActorType
from tenantry.foundation.settings import Settings

_LOCKED: Final = "for update"
_FREE: Final = "for update skip locked"


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """`people_only` lets no service account decide; `grace` is how long comments stay in mode `metadata_only`."""

    people_only: bool = False
    grace: timedelta = timedelta(seconds=900)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.access.people_only, timedelta(seconds=settings.jobs.content_grace_seconds))


class ApprovalService:
    """Approvals in the session's tenant; `subjects` by kind hear what becomes of theirs."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        workspaces: WorkspaceService,
        comments: ApprovalComments,
        subjects: Mapping[str, Subject],
        rules: ApprovalRules,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._workspaces = workspaces
        self._comments = comments
        self._subjects = subjects
        self._rules = rules
        self._clock = clock

    async def request(self, new: NewApproval, *, workspace_id: UUID) -> Approval:
        """Ask for a decision; raises Invalid `quorum_unreachable`."""
        actor, now = self._session.scope.actor, self._clock.now()
        excluded = tuple(dict.fromkeys((*identities_of(actor), *new.parties)))
        if new.eligible is not None:
            able = set(new.eligible).union(new.escalate_to).difference(excluded)
            if len(able) < new.needed:
                raise errors.quorum_unreachable(new.needed, len(able))
        workspace = await self._workspaces.get(workspace_id)
        approval = Approval(
            approval_id=new_id(),
            workspace_id=workspace_id,
            kind=new.kind,
            subject_id=new.subject_id,
            digest=digest_of(new.content),
            summary=new.summary,
            requested_by=voter_of(actor),
            excluded=excluded,
            eligible=new.eligible,
            needed=new.needed,
            minutes=new.minutes,
            granted_minutes=None,
            status=ApprovalStatus.PENDING,
            persistence_mode=workspace.settings.persistence_mode,
            content_key=None,
            escalate_to=new.escalate_to,
            escalate_at=new.escalate_at,
            escalated_at=None,
            expires_at=new.expires_at,
            due_at=_due(new.expires_at, new.escalate_at),
            created_at=now,
            decided_at=None,
            consumed_at=None,
            content_until=None,
            content_purged_at=None,
            version=1,
        )
        await repository.insert_approval(self._session, approval)
        await self._record("approval.requested", approval, details={"needed": approval.needed})
        await outbox.publish(self._session, topic=REQUESTED, payload=approval.news)
        return approval

    async def get(self, approval_id: UUID, *, workspace_id: UUID) -> Approval:
        approval = await repository.find_approval(self._session, approval_id)
        if approval is None or approval.workspace_id != workspace_id:
            raise errors.approval_not_found()
        return approval

    async def list_approvals(
        self, *, workspace_id: UUID, status: ApprovalStatus | None = None, before: UUID | None = None, limit: int = 50
    ) -> list[Approval]:
        """Newest first."""
        return await repository.list_approvals(
            self._session, workspace_id=workspace_id, status=status, before=before, limit=limit
        )

    async def list_ballots(self, approvals: list[Approval]) -> dict[UUID, list[Ballot]]:
        """In the order in which they were cast, by approval."""
        return await repository.list_ballots(self._session, [approval.approval_id for approval in approvals])

    async def open_comments(self, approval: Approval, ballots: list[Ballot]) -> dict[str, str]:
        """Give what was said and is still kept, by principal."""
        return await self._comments.open(ballots, tenant_id=self._session.scope.tenant_id, approval=approval)

    async def decide(
        self,
        approval_id: UUID,
        vote: Vote,
        *,
        workspace_id: UUID,
        comment: str | None = None,
        minutes: int | None = None,
        if_version: int | None = None,
    ) -> Approval:
        """Cast the vote of the session's actor, whatever interface it came by. The same vote again changes nothing.

        Raises Denied `approval_own_request`, `approval_not_eligible` or `approver_not_a_person`; Conflict `vote_cast`,
        `approval_closed` or `approval_expired`; Invalid `minutes_too_long` or `minutes_not_taken`; what the subject
        raises undoes the vote.
        """
        approval = await self._locked(approval_id, workspace_id)
        self._require_able(approval)
        voter = voter_of(self._session.scope.actor)
        ballots = (await self.list_ballots([approval]))[approval_id]
        before = next((ballot for ballot in ballots if ballot.principal_id == voter), None)
        if before is not None:
            if before.vote is not vote:
                raise errors.vote_cast()
            return approval
        self._require_open(approval, if_version=if_version)
        if minutes is not None and approval.minutes is None:
            raise errors.minutes_not_taken()
        if minutes is not None and approval.minutes is not None and minutes > approval.minutes:
            raise errors.minutes_too_long(approval.minutes)
        approval = await self._cast(approval, vote, comment=comment, minutes=minutes)
        if vote is Vote.REJECT:
            return await self._settle(approval, ApprovalStatus.REJECTED)
        approved = 1 + sum(ballot.vote is Vote.APPROVE for ballot in ballots)
        return await self._settle(approval, ApprovalStatus.APPROVED) if approved >= approval.needed else approval

    async def resubmit(self, approval_id: UUID, content: Mapping[str, Any], *, workspace_id: UUID) -> Approval:
        """Say anew what will be done: the very same keeps the approval as it is, anything else makes it void."""
        approval = await self._locked(approval_id, workspace_id)
        if hmac.compare_digest(approval.digest, digest_of(content)):
            return approval
        return await self._make_void(approval, "content_changed")

    async def withdraw(self, approval_id: UUID, *, workspace_id: UUID, reason: str) -> Approval:
        """Make it void: what it is about will not be done. One that is settled or used stays as it is."""
        return await self._make_void(await self._locked(approval_id, workspace_id), reason)

    async def consume(self, approval_id: UUID, content: Mapping[str, Any], *, workspace_id: UUID) -> Approval:
        """Use it, once, for exactly what was approved, in the transaction of doing that.

        Raises Conflict `approval_not_given`, `approval_used`, `approval_expired` or `approval_content_changed`.
        """
        approval = await self._locked(approval_id, workspace_id)
        if approval.status is not ApprovalStatus.APPROVED:
            raise errors.approval_not_given(approval.status)
        if approval.consumed_at is not None:
            raise errors.approval_used()
        if approval.expires_at <= self._clock.now():
            raise errors.approval_expired()
        if not hmac.compare_digest(approval.digest, digest_of(content)):
            raise errors.content_changed()
        return await self._use(approval)

    async def pass_due(self, approval_id: UUID) -> None:
        """Let happen what time brings: expiry, escalation. Safe to repeat, and from several processes at once."""
        approval = await repository.find_approval(self._session, approval_id, lock=_FREE)
        now = self._clock.now()
        if approval is None or approval.due_at is None or approval.due_at > now:
            return
        if approval.expires_at <= now:
            await self._settle(approval, ApprovalStatus.EXPIRED)
            return
        changes: dict[str, Any] = {"escalated_at": now, "due_at": approval.expires_at}
        if approval.eligible is not None:
            changes["eligible"] = list(dict.fromkeys((*approval.eligible, *approval.escalate_to)))
        escalated = await repository.update_approval(self._session, approval_id, changes)
        await self._record("approval.escalated", escalated, details={"to": list(approval.escalate_to)})
        await outbox.publish(self._session, topic=ESCALATED, payload=escalated.news)

    async def _use(self, approval: Approval) -> Approval:
        changes = {"consumed_at": self._clock.now()}
        used = await repository.update_approval(self._session, approval.approval_id, changes)
        await self._record("approval.used", used)
        return used

    async def _locked(self, approval_id: UUID, workspace_id: UUID) -> Approval:
        approval = await repository.find_approval(self._session, approval_id, lock=_LOCKED)
        if approval is None or approval.workspace_id != workspace_id:
            raise errors.approval_not_found()
        return approval

    def _require_able(self, approval: Approval) -> None:
        """Refuse whoever may not decide on it at all: themselves, those not named, programs where people must."""
        actor = self._session.scope.actor
        if not set(identities_of(actor)).isdisjoint(approval.excluded):
            raise errors.own_request()
        voter = voter_of(actor)
        if actor.type is ActorType.AGENT_SESSION or (self._rules.people_only and not voter.startswith(Prefix.USER)):
            raise errors.not_a_person()
        if approval.eligible is not None and voter not in approval.eligible:
            raise errors.not_eligible()

    def _require_open(self, approval: Approval, *, if_version: int | None) -> None:
        if approval.status is not ApprovalStatus.PENDING:
            raise errors.approval_closed(approval.status)
        if approval.expires_at <= self._clock.now():
            raise errors.approval_expired()
        if if_version is not None and if_version != approval.version:
            raise errors.version_mismatch(approval.version)

    async def _cast(self, approval: Approval, vote: Vote, *, comment: str | None, minutes: int | None) -> Approval:
        tenant_id, actor = self._session.scope.tenant_id, self._session.scope.actor
        voter = voter_of(actor)
        changes: dict[str, Any] = {}
        if minutes is not None:
            changes["granted_minutes"] = min(minutes, approval.granted_minutes or minutes)
        sealed, size, digest = None, 0, None
        if comment:
            if approval.content_key is None:
                key = await self._comments.make_key(tenant_id=tenant_id, approval_id=approval.approval_id)
                changes["content_key"] = key
                approval = replace(approval, content_key=key)
            sealed, size, digest = await self._comments.seal(
                comment, tenant_id=tenant_id, approval=approval, principal_id=voter
            )
        ballot = Ballot(voter, actor.id, vote, minutes, sealed, size, digest, self._clock.now())
        await repository.insert_ballot(self._session, approval, ballot)
        if changes:
            approval = await repository.update_approval(self._session, approval.approval_id, changes)
        await self._record("approval.voted", approval, details={"vote": vote.value, "minutes": minutes})
        return approval

    async def _make_void(self, approval: Approval, reason: str) -> Approval:
        used = approval.consumed_at is not None
        if used or approval.status not in (ApprovalStatus.PENDING, ApprovalStatus.APPROVED):
            return approval
        return await self._settle(approval, ApprovalStatus.VOID, reason=reason)

    async def _settle(self, approval: Approval, status: ApprovalStatus, *, reason: str | None = None) -> Approval:
        """End it, tell its subject in this transaction and everybody else after it; its comments have their date."""
        now = self._clock.now()
        changes: dict[str, Any] = {"status": status.value, "decided_at": now, "due_at": None}
        if approval.content_key is not None:
            changes["content_until"] = until = await self._keep_until(approval, now)
            await repository.plan_purge(self._session, approval.approval_id, due_at=until)
        settled = await repository.update_approval(self._session, approval.approval_id, changes)
        word = {
            ApprovalStatus.APPROVED: "approved",
            ApprovalStatus.REJECTED: "rejected",
            ApprovalStatus.EXPIRED: "expired",
            ApprovalStatus.VOID: "voided",
        }[status]
        await self._record(f"approval.{word}", settled, reason=reason)
        topic = EXPIRED if status is ApprovalStatus.EXPIRED else DECIDED
        await outbox.publish(self._session, topic=topic, payload=settled.news)
        return await self._tell_subject(settled)

    async def _tell_subject(self, settled: Approval) -> Approval:
        subject = self._subjects.get(settled.kind)
        if subject is None:
            return settled
        ballots = (await self.list_ballots([settled]))[settled.approval_id]
        voters = tuple(ballot.principal_id for ballot in ballots if ballot.vote is Vote.APPROVE)
        done = await subject.settled(self._session, settled, voters)
        return await self._use(settled) if done and settled.status is ApprovalStatus.APPROVED else settled

    async def _keep_until(self, approval: Approval, now: datetime) -> datetime:
        if approval.persistence_mode != "full":
            return now + self._rules.grace
        workspace = await self._workspaces.get(approval.workspace_id)
        return now + timedelta(days=workspace.settings.retention_days)

    async def _record(
        self,
        action: str,
        approval: Approval,
        *,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        about = {"kind": approval.kind, "subject": approval.subject_id, "digest": approval.digest.hex()}
        await self._audit.record(
            action,
            resource_type="approval",
            resource_id=format_id(Prefix.APPROVAL, approval.approval_id),
            reason=reason,
            details={**about, **(details or {})},
        )


def _due(expires_at: datetime, escalate_at: datetime | None) -> datetime:
    return expires_at if escalate_at is None else min(expires_at, escalate_at)
