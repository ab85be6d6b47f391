"""What active grants give: roles in their workspace, until their end."""

from datetime import datetime

from tenantry.capabilities.access.repository import grants as repository
from tenantry.capabilities.access.service.decide import RoleBook
from tenantry.capabilities.access.types import Source
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
