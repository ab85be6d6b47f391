"""All SQL of the directory's placements."""

from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from tenantry.capabilities.tenants.types import (
    Isolation,
    Placement,
    TenantStatus,
)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Directory = PoolConnectionProxy[asyncpg.Record]

_PLACEMENT: Final = "tenant_id, slug, region, isolation, placement, status, created_at"


async def insert_placement(directory: "Directory", placement: Placement) -> Placement | None:
    """Reserve a slug; None when it is held. What stayed `pending` for 30 s is given again: a crash left it."""
    row = await directory.fetchrow(
        f"""insert into directory.tenants as t (tenant_id, slug, region, isolation, placement, status, created_at)
            values ($1, $2, $3, $4, $5, 'pending', $6)
            on conflict (slug) do update set created_at = excluded.created_at
            where t.status = 'pending' and t.region = excluded.region and t.isolation = excluded.isolation
              and t.created_at < excluded.created_at - interval '30 seconds'
              and not exists (
                  select from directory.operations o where o.tenant_id = t.tenant_id and o.status = 'running')
            returning {_PLACEMENT}""",
        placement.tenant_id,
        placement.slug,
        placement.region,
        placement.isolation.value,
        placement.placement,
        placement.created_at,
    )
    return _placement(row) if row else None


async def update_placement_status(directory: "Directory", tenant_id: UUID, status: TenantStatus) -> None:
    await directory.execute(
        "update directory.tenants set status = $2 where tenant_id = $1 and status <> 'erased'", tenant_id, status.value
    )


async def find_placement(directory: "Directory", *, tenant_id: UUID | None, slug: str | None) -> Placement | None:
    row = await directory.fetchrow(
        f"select {_PLACEMENT} from directory.tenants where tenant_id = $1 or slug = $2", tenant_id, slug
    )
    return _placement(row) if row else None


async def find_placement_of_workspace(directory: "Directory", workspace_id: UUID) -> Placement | None:
    row = await directory.fetchrow(
        f"""select {", ".join("t." + column.strip() for column in _PLACEMENT.split(","))}
            from directory.workspaces w join directory.tenants t on t.tenant_id = w.tenant_id
            where w.workspace_id = $1""",
        workspace_id,
    )
    return _placement(row) if row else None


async def list_placements(directory: "Directory", *, after: UUID | None, limit: int) -> list[Placement]:
    rows = await directory.fetch(
        f"""select {_PLACEMENT} from directory.tenants where ($1::uuid is null or tenant_id > $1)
            order by tenant_id limit $2""",
        after,
        limit,
    )
    return [_placement(row) for row in rows]


async def list_places(directory: "Directory", region: str) -> list[str]:
    rows = await directory.fetch(
        """select placement from directory.tenants
           where region = $1 and placement <> 'tenantry' and status <> 'pending' order by placement""",
        region,
    )
    return [row["placement"] for row in rows]


async def insert_workspace_placement(
    directory: "Directory", *, workspace_id: UUID, tenant_id: UUID, region: str
) -> None:
    await directory.execute(
        "insert into directory.workspaces (workspace_id, tenant_id, region) values ($1, $2, $3) on conflict do nothing",
        workspace_id,
        tenant_id,
        region,
    )


def _placement(row: "asyncpg.Record") -> Placement:
    return Placement(
        row["tenant_id"],
        row["slug"],
        row["region"],
        Isolation(row["isolation"]),
        row["placement"],
        TenantStatus(row["status"]),
        row["created_at"],
    )
