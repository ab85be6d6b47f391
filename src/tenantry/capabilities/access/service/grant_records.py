"""Just-in-time grants as they are told for good, with the approvals they rest on. No words of anybody's."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tenantry.capabilities.access.repository import grants as repository
from tenantry.capabilities.approvals.service import approval_records
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


async def grant_records(session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, dict[str, Any]]:
    """Tell each that is there, under `grant`, and under `approvals` those of it and of its extension."""
    grants = [found for each in dict.fromkeys(ids) if (found := await repository.find_grant(session, each))]
    resting = {each.grant_id: [a for a in (each.approval_id, each.extension_approval_id) if a] for each in grants}
    approvals = await approval_records(session, [each for rests in resting.values() for each in rests])
    return {
        grant.grant_id: {
            "grant": {
                "id": format_id(Prefix.GRANT, grant.grant_id),
                "principal": grant.principal_id,
                "role": grant.role,
                "requested_by": grant.requested_by,
                "granted_by": list(grant.granted_by),
                "active_at": grant.active_at.isoformat() if grant.active_at else None,
                "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
            },
            "approvals": [approvals[each] for each in resting[grant.grant_id] if each in approvals],
        }
        for grant in grants
    }
