"""What a notice says of a grant beside its ids."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tenantry.capabilities.access.repository import grants as repository
from tenantry.foundation.database.session import TenantSession


class GrantFacts:
    """The `Describe` port of notifications for topics of grants: how long, and until when. Nobody's words are in it."""

    async def describe(
        self,
        session: TenantSession,
        *,
        topic: str,  # noqa: ARG002 - all of them are told the same
        payload: Mapping[str, Any],
    ) -> Mapping[str, str]:
        try:
            named = UUID(hex=str(payload.get("grant_id")))
        except ValueError:  # news that names no grant has nothing to be told, and silences no other
            return {}
        grant = await repository.find_grant(session, named)
        if grant is None:
            return {}
        facts = {"minutes": str(grant.granted_minutes or grant.minutes)}
        if grant.expires_at is not None:
            facts["until"] = grant.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        if grant.provider is not None:
            facts["provider"] = grant.provider
        return facts
