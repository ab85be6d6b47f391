"""The directory: which tenant lives where."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import slug_taken, tenant_not_found
from tenantry.capabilities.tenants.service.operations import LEASE, OperationLog
from tenantry.capabilities.tenants.types import (
    PLATFORM_SLUG,
    PLATFORM_TENANT,
    Isolation,
    Placement,
    TenantStatus,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.places import SHARED
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import ACQUIRE_SECONDS, database_errors
from tenantry.foundation.errors import Denied
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool


def candidate_scope(placement: Placement | None, *, region: str, ip: str | None) -> TenantScope:
    """Give the scope in which a secret is looked for, of the tenant that it names.

    For one that nobody has, or has no more, it is the installation's own in `region`, where the secret is not either:
    that takes as long.
    """
    if placement is None or placement.status in (TenantStatus.PENDING, TenantStatus.ERASED):
        return TenantScope(tenant_id=PLATFORM_TENANT, region=region, actor=SYSTEM, ip=ip)
    return TenantScope(tenant_id=placement.tenant_id, region=placement.region, actor=SYSTEM, ip=ip)


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

    async def locate(self, tenant_id: UUID, *, region: str) -> str | None:
        """Tell the place of a tenant in a cell; raises Denied `tenant_unknown` when it has left for another.

        The platform's own tenant has rows in the shared place of each cell.
        """
        if tenant_id == PLATFORM_TENANT:
            return SHARED
        placement = await self.find(tenant_id)
        if placement is not None and placement.region != region:
            raise Denied("tenant_unknown", "no such tenant in this cell", layer="tenants")
        return placement.placement if placement else None

    async def find_region(self, tenant_id: UUID) -> str | None:
        """Tell where a tenant is; None for one that is none, or none any more."""
        placement = await self.find(tenant_id)
        return placement.region if placement and placement.status is not TenantStatus.ERASED else None

    async def list_places(self, region: str) -> list[str]:
        """List the places in a region that tenants have for themselves; one statement, as every loop asks it often."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as directory:
                return await repository.list_places(directory, region)

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

    async def knows_workspaces(self, ids: Collection[UUID]) -> bool:
        """Say whether any of the ids is taken here."""
        async with platform_session(self._pool) as directory:
            return await repository.known_workspaces(directory, list(ids))

    async def place_workspaces(self, ids: Collection[UUID], *, tenant_id: UUID, region: str) -> None:
        async with platform_session(self._pool) as directory:
            await repository.insert_workspaces(directory, list(ids), tenant_id=tenant_id, region=region)

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

    def operations(self, clock: Clock, *, lease: timedelta = LEASE) -> OperationLog:
        """Give what the directory remembers of moves, exports, imports and erasures."""
        return OperationLog(self._pool, clock=clock, lease=lease)

    async def close(self) -> None:
        await self._pool.close()
