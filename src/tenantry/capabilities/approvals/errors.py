"""What approvals refuse."""

from tenantry.capabilities.approvals.types import ApprovalStatus
from tenantry.foundation.errors import Conflict, Denied, Invalid, NotFound, Precondition


def approval_not_found() -> NotFound:
    return NotFound("not_found", "no such approval", layer="approvals")


def own_request() -> Denied:
    return Denied(
        "approval_own_request",
        "nobody decides on what they asked for or gain by, whichever credential they use: ask another approver",
        layer="approvals",
    )


def not_eligible() -> Denied:
    return Denied("approval_not_eligible", "only those named in it decide on this approval", layer="approvals")


def not_a_person() -> Denied:
    return Denied("approver_not_a_person", "a person decides, not a program on their behalf", layer="approvals")


def approval_closed(status: ApprovalStatus) -> Conflict:
    return Conflict("approval_closed", f"this approval is {status} already", layer="approvals", current=status.value)


def approval_expired() -> Conflict:
    return Conflict("approval_expired", "its time to be decided or used is over: ask anew", layer="approvals")


def vote_cast() -> Conflict:
    return Conflict("vote_cast", "you have voted otherwise on this approval: a vote stands", layer="approvals")


def minutes_too_long(most: int) -> Invalid:
    return Invalid(
        "minutes_too_long",
        f"minutes: an approver shortens, at most the {most} asked for",
        layer="approvals",
        field="minutes",
        limit=most,
    )


def minutes_not_taken() -> Invalid:
    return Invalid(
        "minutes_not_taken", "minutes: what is approved here lasts no time", layer="approvals", field="minutes"
    )


def quorum_unreachable(needed: int, able: int) -> Invalid:
    return Invalid(
        "quorum_unreachable",
        f"{needed} must approve and only {able} of those named may",
        layer="approvals",
        limit=able,
        current=needed,
    )


def approval_not_given(status: ApprovalStatus) -> Conflict:
    return Conflict("approval_not_given", f"this approval is {status}", layer="approvals", current=status.value)


def approval_used() -> Conflict:
    return Conflict("approval_used", "an approval is used once: ask anew", layer="approvals")


def content_changed() -> Conflict:
    return Conflict(
        "approval_content_changed", "what would be done is not what was approved: ask anew", layer="approvals"
    )


def version_mismatch(version: int) -> Precondition:
    return Precondition("version_mismatch", "If-Match: names another version", layer="approvals", current=version)
