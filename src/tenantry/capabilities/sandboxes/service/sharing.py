"""How the workers' time is shared out: weights by plan, and no more at once than limits allow, set beside the jobs."""

from uuid import UUID

from tenantry.capabilities.limits.service import QuotaService
from tenantry.capabilities.limits.types import Holder
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.session import TenantSession


class QueueShares:
    """Shares of the session's tenant and of one of its workspaces."""

    def __init__(self, *, session: TenantSession, quotas: QuotaService) -> None:
        self._session = session
        self._quotas = quotas

    async def keep(self, workspace_id: UUID) -> None:
        """See to it that the queue has what holds now; nothing is asked where this process has done so before."""
        known = await self._quotas.known()
        if workspace_id in known.shared:
            return
        held = known.limits_in(workspace_id)
        tenant_most, most = (held.most(Quota.CONCURRENT_JOBS, holder) for holder in (Holder.TENANT, Holder.WORKSPACE))
        await self._set(None, weight=known.weight, most=tenant_most)
        await self._set(workspace_id, weight=1.0, most=most)
        self._session.after_commit(lambda: known.shared.add(workspace_id))

    async def change(self, workspace_id: UUID | None, *, most: int | None) -> None:
        """Set how many jobs of a workspace, or of the tenant, run at once, and wake the workers for those that wait."""
        weight = (await self._quotas.known()).weight if workspace_id is None else 1.0
        if await self._set(workspace_id, weight=weight, most=most):
            await repository.wake_workers(self._session, "")

    async def _set(self, workspace_id: UUID | None, *, weight: float, most: int | None) -> bool:
        tenant_id = self._session.scope.tenant_id
        with database_errors():
            return await QUEUE.set_share(
                await self._session.connection(),
                keys=(tenant_id, workspace_id) if workspace_id else (tenant_id,),
                weight=weight,
                most_running=most,
            )
