"""Forgets the content of jobs whose time is over."""

from typing import TYPE_CHECKING

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool


async def purge_due(pool: "Pool", *, cell: Cell, content: JobContent, clock: Clock) -> int:
    """Purge what is due, one transaction a job; tells how many. `pool` is the dispatcher's: it sees ids only.

    Objects go first: a crash in between leaves rows that say they are still to go.
    """
    with database_errors():
        due = await repository.list_due_purges(pool, now=clock.now())
    for tenant_id, job_id in due:
        await content.purge(tenant_id=tenant_id, job_id=job_id)
        scope = TenantScope(tenant_id=tenant_id, region=cell.region, actor=SYSTEM)
        async with cell.session(scope, lifecycle=True) as session:
            await repository.purge_content(session, job_id, now=clock.now())
    return len(due)
