"""The rounds of a server, made by hand in the tests' own process, and its database behind everybody's back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from tests.conftest import Installation
from tests.integration.sandboxes.ground import Ground
from tests.integration.tenancy.ground import superuser_dsn

from tenantry.capabilities.evidence.service import LegalHolds
from tenantry.capabilities.tenants.service import purge_due
from tenantry.entrypoints.evidence import EvidenceRound, make_evidence_round, make_lockers
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection


class Later(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(days=400)


@asynccontextmanager
async def round_of(parts: Parts) -> AsyncIterator[EvidenceRound]:
    made = make_evidence_round(parts, parts.cells.get("us"), lockers=make_lockers(parts))
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def behind(installation: Installation) -> "AsyncIterator[Connection]":
    """A superuser's connection to the cell, whose triggers and foreign keys do not hold him up."""
    connection = await asyncpg.connect(superuser_dsn(installation, "tenantry_us"))
    try:
        await connection.execute("set session_replication_role = replica; set search_path = tenantry")
        yield connection
    finally:
        await connection.close()


def session_of(parts: Parts, ground: Ground, *, workspace: UUID | None = None) -> TenantSession:
    scope = TenantScope(tenant_id=ground.tenant_id, region="us", actor=SYSTEM, workspace_id=workspace)
    return parts.cells.session(scope)


async def aged(ground: Ground, *, days: int, job: UUID | None = None) -> None:
    """Let a tenant's evidence, or that of one job, have ended so many days ago."""
    async with behind(ground.installation) as connection:
        await connection.execute(
            """update evidence set ended_at = ended_at - make_interval(days => $2),
                   created_at = created_at - make_interval(days => $2)
               where tenant_id = $1 and ($3::uuid is null or subject_id = $3)""",
            ground.tenant_id,
            days,
            job,
        )


async def purge(parts: Parts) -> None:
    """Sweep content as a worker does, a long time from now."""
    pool = await open_pool(parts.addresses.cells["us"].dispatcher, search_path="queue", max_size=1)
    try:
        cell, kinds = parts.cells.get("us"), parts.content_kinds("us")
        while await purge_due(pool, queue=pool, cell=cell, kinds=kinds, clock=Later(), keeping=LegalHolds()):
            pass
    finally:
        await pool.close()
