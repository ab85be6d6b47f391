"""All SQL of approvals."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.approvals.types import COMMENTS, Approval, ApprovalStatus, Ballot, Vote
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_APPROVAL: Final = (
    "approval_id, workspace_id, kind, subject_id, digest, summary, requested_by, excluded, eligible, needed, minutes, "
    "granted_minutes, status, persistence_mode, content_key, escalate_to, escalate_at, escalated_at, expires_at, "
    "due_at, created_at, decided_at, consumed_at, content_until, content_purged_at, version"
)
_BALLOT: Final = "principal_id, actor_id, vote, minutes, comment, comment_bytes, comment_sha256, decided_at"


async def insert_approval(session: TenantSession, approval: Approval) -> None:
    await session.execute(
        """insert into approvals (tenant_id, approval_id, workspace_id, kind, subject_id, digest, summary, requested_by,
               excluded, eligible, needed, minutes, status, persistence_mode, escalate_to, escalate_at, expires_at,
               due_at, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)""",
        session.scope.tenant_id,
        approval.approval_id,
        approval.workspace_id,
        approval.kind,
        approval.subject_id,
        approval.digest,
        approval.summary,
        approval.requested_by,
        list(approval.excluded),
        list(approval.eligible) if approval.eligible is not None else None,
        approval.needed,
        approval.minutes,
        approval.status.value,
        approval.persistence_mode,
        list(approval.escalate_to),
        approval.escalate_at,
        approval.expires_at,
        approval.due_at,
        approval.created_at,
    )


async def find_approval(session: TenantSession, approval_id: UUID, *, lock: str = "") -> Approval | None:
    """Find it; `lock` is a locking clause of PostgreSQL, as `for update skip locked`."""
    row = await session.fetchrow(
        f"select {_APPROVAL} from approvals where tenant_id = $1 and approval_id = $2 {lock}",
        session.scope.tenant_id,
        approval_id,
    )
    return _approval(row) if row else None


async def list_approvals(
    session: TenantSession, *, workspace_id: UUID, status: ApprovalStatus | None, before: UUID | None, limit: int
) -> list[Approval]:
    """Newest first."""
    rows = await session.fetch(
        f"""select {_APPROVAL} from approvals
            where tenant_id = $1 and workspace_id = $2 and ($3::text is null or status = $3)
              and ($4::uuid is null or approval_id < $4)
            order by approval_id desc limit $5""",
        session.scope.tenant_id,
        workspace_id,
        status.value if status else None,
        before,
        limit,
    )
    return [_approval(row) for row in rows]


async def update_approval(session: TenantSession, approval_id: UUID, changes: dict[str, Any]) -> Approval:
    """Set columns of a row that is locked; gives the next version."""
    names = ", ".join(f"{name} = ${place}" for place, name in enumerate(changes, 3))
    row = await session.fetchrow(
        f"""update approvals set {names}, version = version + 1 where tenant_id = $1 and approval_id = $2
            returning {_APPROVAL}""",
        session.scope.tenant_id,
        approval_id,
        *changes.values(),
    )
    if row is None:
        raise LookupError("an approval that was locked is gone")
    return _approval(row)


async def insert_ballot(session: TenantSession, approval: Approval, ballot: Ballot) -> None:
    await session.execute(
        f"""insert into approval_decisions (tenant_id, approval_id, workspace_id, {_BALLOT})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        session.scope.tenant_id,
        approval.approval_id,
        approval.workspace_id,
        ballot.principal_id,
        ballot.actor_id,
        ballot.vote.value,
        ballot.minutes,
        ballot.comment,
        ballot.comment_bytes,
        ballot.comment_sha256,
        ballot.decided_at,
    )


async def list_ballots(session: TenantSession, approval_ids: Sequence[UUID]) -> dict[UUID, list[Ballot]]:
    """In the order in which they were cast, by approval."""
    rows = await session.fetch(
        f"""select approval_id, {_BALLOT} from approval_decisions
            where tenant_id = $1 and approval_id = any($2) order by decided_at, principal_id""",
        session.scope.tenant_id,
        list(approval_ids),
    )
    found: dict[UUID, list[Ballot]] = {approval_id: [] for approval_id in approval_ids}
    for row in rows:
        values = dict(row)
        approval_id = values.pop("approval_id")
        found[approval_id].append(Ballot(**values | {"vote": Vote(values["vote"])}))
    return found


async def plan_purge(session: TenantSession, approval_id: UUID, *, due_at: datetime) -> None:
    await session.execute(
        f"""insert into queue.purges (tenant_id, kind, item_id, due_at) values ($1, '{COMMENTS}', $2, $3)
            on conflict do nothing""",
        session.scope.tenant_id,
        approval_id,
        due_at,
    )


async def purge_comments(session: TenantSession, approval_id: UUID, *, now: datetime) -> None:
    """Forget what was said, and the key of it; sizes and digests stay."""
    await session.execute(
        "update approval_decisions set comment = null where tenant_id = $1 and approval_id = $2",
        session.scope.tenant_id,
        approval_id,
    )
    await session.execute(
        """update approvals set content_key = null, content_purged_at = coalesce(content_purged_at, $3)
           where tenant_id = $1 and approval_id = $2""",
        session.scope.tenant_id,
        approval_id,
        now,
    )


def _approval(row: "asyncpg.Record") -> Approval:
    values: dict[str, Any] = dict(row)
    values["status"] = ApprovalStatus(values["status"])
    for name in ("excluded", "escalate_to"):
        values[name] = tuple(values[name])
    if values["eligible"] is not None:
        values["eligible"] = tuple(values["eligible"])
    return Approval(**values)
