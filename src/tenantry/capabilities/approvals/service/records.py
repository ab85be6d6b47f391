"""Approvals as they are told for good: what was approved, by its digest, and who said what. No words of anybody's."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tenantry.capabilities.approvals import repository
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


async def approval_records(session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, dict[str, Any]]:
    """Tell each that is there: id, kind, digest, status, how many had to agree, and the votes."""
    ballots = await repository.list_ballots(session, ids)
    found: dict[UUID, dict[str, Any]] = {}
    for approval_id in ids:
        approval = await repository.find_approval(session, approval_id)
        if approval is None:
            continue
        found[approval_id] = {
            "id": format_id(Prefix.APPROVAL, approval_id),
            "kind": approval.kind,
            "sha256": approval.digest.hex(),
            "status": approval.status.value,
            "needed": approval.needed,
            "votes": [
                {"by": each.principal_id, "vote": each.vote.value, "at": each.decided_at.isoformat()}
                for each in ballots[approval_id]
            ],
        }
    return found
