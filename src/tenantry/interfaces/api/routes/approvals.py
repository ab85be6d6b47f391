"""Approvals of a workspace: the one way to decide anything, whatever it is about."""

from typing import Annotated, Any, Final

from fastapi import Request
from pydantic import AfterValidator, Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.approvals.types import Approval, ApprovalStatus, Ballot, Vote
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

MAX_MINUTES = 366 * 24 * 60
_STATUS = "by the clock: one whose time is over reads as expired, also before it was swept"


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold NUL")
    return text


Comment = Annotated[str, AfterValidator(_no_nul), Field(min_length=1, max_length=4000)]


class ApproveBody(Body):
    comment: Comment | None = None
    minutes: int | None = Field(default=None, ge=1, le=MAX_MINUTES, description="shorter than what was asked for")


class RejectBody(Body):
    comment: Comment | None = None


_NOTHING_ADDED: Final = ApproveBody()
_NOTHING_SAID: Final = RejectBody()


class DecisionAnswer(Answer):
    principal: str
    decision: str
    minutes: int | None
    at: Moment
    comment: str | None = Field(description="null when nothing was said, or it is kept no more")
    comment_size_bytes: int
    comment_sha256: str | None


class ApprovalAnswer(Answer):
    id: str
    workspace: str
    kind: str
    subject: str
    digest: str = Field(description="SHA-256 of the canonical JSON of exactly what will be done")
    summary: str
    status: str = Field(description=_STATUS)
    requested_by: str
    needed: int
    approved: int
    eligible: list[str] | None = Field(description="null: whoever holds approval:decide here")
    minutes: int | None
    granted_minutes: int | None = Field(description="what an approver has shortened it to")
    escalated_at: Moment | None
    expires_at: Moment
    created_at: Moment
    decided_at: Moment | None
    used_at: Moment | None
    content_until: Moment | None
    version: int
    decisions: list[DecisionAnswer]


async def _again(unit: Unit, resource_id: str) -> ApprovalAnswer:
    return await _shown(unit, await _get(unit, resource_id))


async def _get(unit: Unit, approval: str) -> Approval:
    return await unit.approvals.get(parse_id(Prefix.APPROVAL, approval), workspace_id=unit.workspace_id)


async def _shown(unit: Unit, approval: Approval) -> ApprovalAnswer:
    service = unit.approvals
    ballots = (await service.list_ballots([approval]))[approval.approval_id]
    comments = await service.open_comments(approval, ballots)
    unit.show_version(approval.version)
    return render(approval, ballots, comments, unit=unit)


@routes.get("/workspaces/{ws}/approvals", needs=Permission.APPROVAL_READ)
async def list_approvals(
    request: Request,
    ws: str,
    status: ApprovalStatus | None = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[ApprovalAnswer]:
    """Approvals of the workspace, newest first, without what was said: that is shown with each."""
    unit = unit_of(request)
    before = after(unit, cursor, filters=str(status))
    found = await unit.approvals.list_approvals(
        workspace_id=unit.workspace_id, status=status, before=before, limit=limit + 1
    )
    ballots = await unit.approvals.list_ballots(found)
    items = [render(approval, ballots[approval.approval_id], {}, unit=unit) for approval in found]
    ids = [approval.approval_id for approval in found]
    return Page[ApprovalAnswer](**page(unit, items, ids=ids, limit=limit, filters=str(status)))


@routes.get("/workspaces/{ws}/approvals/{approval}", needs=Permission.APPROVAL_READ)
async def get_approval(request: Request, ws: str, approval: str) -> ApprovalAnswer:
    """One approval with its votes, and what was said as long as it is kept."""
    return await _again(unit_of(request), approval)


@routes.post("/workspaces/{ws}/approvals/{approval}/approve", needs=Permission.APPROVAL_DECIDE, replay=_again)
async def approve(request: Request, ws: str, approval: str, body: ApproveBody = _NOTHING_ADDED) -> ApprovalAnswer:
    """Approve what its digest says, never one's own; `minutes` shortens what is asked for."""
    return await _decide(unit_of(request), approval, Vote.APPROVE, body.comment, minutes=body.minutes)


@routes.post("/workspaces/{ws}/approvals/{approval}/reject", needs=Permission.APPROVAL_DECIDE, replay=_again)
async def reject(request: Request, ws: str, approval: str, body: RejectBody = _NOTHING_SAID) -> ApprovalAnswer:
    """Reject: one is enough."""
    return await _decide(unit_of(request), approval, Vote.REJECT, body.comment)


async def _decide(
    unit: Unit, approval: str, vote: Vote, comment: str | None, *, minutes: int | None = None
) -> ApprovalAnswer:
    decided = await unit.approvals.decide(
        parse_id(Prefix.APPROVAL, approval),
        vote,
        workspace_id=unit.workspace_id,
        comment=comment,
        minutes=minutes,
        if_version=unit.if_version,
    )
    unit.resource_id = approval
    return await _shown(unit, decided)


def render(approval: Approval, ballots: list[Ballot], comments: dict[str, str], *, unit: Unit) -> ApprovalAnswer:
    return ApprovalAnswer(
        id=format_id(Prefix.APPROVAL, approval.approval_id),
        workspace=format_id(Prefix.WORKSPACE, approval.workspace_id),
        kind=approval.kind,
        subject=approval.subject_id,
        digest=approval.digest.hex(),
        summary=approval.summary,
        status=approval.status_at(unit.runtime.clock.now()),
        requested_by=approval.requested_by,
        needed=approval.needed,
        approved=sum(ballot.vote is Vote.APPROVE for ballot in ballots),
        eligible=list(approval.eligible) if approval.eligible is not None else None,
        minutes=approval.minutes,
        granted_minutes=approval.granted_minutes,
        escalated_at=approval.escalated_at,
        expires_at=approval.expires_at,
        created_at=approval.created_at,
        decided_at=approval.decided_at,
        used_at=approval.consumed_at,
        content_until=approval.content_until,
        version=approval.version,
        decisions=[_rendered(ballot, comments.get(ballot.principal_id)) for ballot in ballots],
    )


def _rendered(ballot: Ballot, comment: str | None) -> DecisionAnswer:
    shown: dict[str, Any] = {
        "principal": ballot.principal_id,
        "decision": ballot.vote,
        "minutes": ballot.minutes,
        "at": ballot.decided_at,
        "comment": comment,
        "comment_size_bytes": ballot.comment_bytes,
        "comment_sha256": ballot.comment_sha256.hex() if ballot.comment_sha256 else None,
    }
    return DecisionAnswer(**shown)
