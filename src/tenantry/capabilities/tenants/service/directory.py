"""The directory: which tenant lives where."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import slug_taken, tenant_not_found
from tenantry.capabilities.tenants.types import (
    PLATFORM_SLUG,
    PLATFORM_TENANT,
    Isolation,
    Placement,
    TenantStatus,
)
from tenantry.foundation.database.cells import SHARED
from tenantry.foundation.database.platform_session import platform_session

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool


class Directory:
    """Placements only: ids, slug, region, isolation, status. Each call is a short transaction of its own."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def get(self, name: UUID | str) -> Placement:
        """Find a tenant by id or slug; raises NotFound `tenant_not_found`."""
        placement = await self.find(name)
        if placement is None:
            raise tenant_not_found()
        return placement

    async def find(self, name: UUID | str) -> Placement | None:
        async with platform_session(self._pool) as directory:
            if isinstance(name, UUID):
                return await repository.find_placement(directory, tenant_id=name, slug=None)
            return await repository.find_placement(directory, tenant_id=None, slug=name)

    async def find_by_workspace(self, workspace_id: UUID) -> Placement | None:
        """Find whose workspace an id is; for credentials and for `region.blocked`, never for an answer."""
        async with platform_session(self._pool) as directory:
            return await repository.find_placement_of_workspace(directory, workspace_id)

    async def list_placements(self, *, after: UUID | None, limit: int) -> list[Placement]:
        async with platform_session(self._pool) as directory:
            return await repository.list_placements(directory, after=after, limit=limit)

    async def reserve(self, placement: Placement) -> Placement:
        """Reserve slug and place as `pending`; raises Conflict `slug_taken`. Repeating it is safe."""
        async with platform_session(self._pool) as directory:
            reserved = await repository.insert_placement(directory, placement)
        if reserved is None:
            raise slug_taken(placement.slug)
        return reserved

    async def set_status(self, tenant_id: UUID, status: TenantStatus) -> None:
        async with platform_session(self._pool) as directory:
            await repository.update_placement_status(directory, tenant_id, status)

    async def place_workspace(self, *, workspace_id: UUID, tenant_id: UUID, region: str) -> None:
        async with platform_session(self._pool) as directory:
            await repository.insert_workspace_placement(
                directory, workspace_id=workspace_id, tenant_id=tenant_id, region=region
            )

    async def ensure_platform(self, *, region: str, now: datetime) -> None:
        """Place the installation's own tenant in its home region, so that nobody else takes its name."""
        placement = Placement(
            PLATFORM_TENANT, PLATFORM_SLUG, region, Isolation.ROW_LEVEL, SHARED, TenantStatus.PENDING, now
        )
        async with platform_session(self._pool) as directory:
            if await repository.insert_placement(directory, placement):
                await repository.update_placement_status(directory, PLATFORM_TENANT, TenantStatus.ACTIVE)

    async def close(self) -> None:
        await self._pool.close()
