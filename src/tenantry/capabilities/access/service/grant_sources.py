"""What active grants give: roles in their workspace, until their end."""

from datetime import datetime
from uuid import UUID

from tenantry.capabilities.access.errors import grant_over
from tenantry.capabilities.access.repository import grants as repository
from tenantry.capabilities.access.service.decide import RoleBook
from tenantry.capabilities.access.types import Source
from tenantry.capabilities.access.types.grants import (
    GrantStatus,
)
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


async def grant_sources(session: TenantSession, principal_id: str, book: RoleBook, *, now: datetime) -> list[Source]:
    """List what the grants of a principal give at this moment; several add up."""
    sources = []
    for grant in await repository.list_active_grants(session, principal_id, now=now):
        name = format_id(Prefix.GRANT, grant.grant_id)
        sources.append(
            Source(
                grant.workspace_id,
                f"role {grant.role} by {name}",
                book.get(grant.role, frozenset()),
                until=grant.expires_at,
                source=name,
                grant_id=grant.grant_id,
            )
        )
    return sources


async def is_held(session: TenantSession, grant_id: UUID, *, now: datetime) -> bool:
    """Say whether a grant counts, and keep it from ending until the session's transaction has.

    So whoever ends it finds what was begun by it.
    """
    grant = await repository.find_grant(session, grant_id, lock="for share")
    return grant is not None and grant.status_at(now) is GrantStatus.ACTIVE


async def hold_grant(session: TenantSession, grant_id: UUID, *, now: datetime) -> None:
    """Raise Denied `grant_over` for one that counts no more; see `is_held`."""
    if not await is_held(session, grant_id, now=now):
        raise grant_over()
