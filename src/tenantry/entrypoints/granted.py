"""Stops what a grant alone allowed, when that grant has ended."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from tenantry.capabilities.access.service import RightsReader, decide, is_held, joined
from tenantry.capabilities.access.types import Circumstances, Decision, Outcome, Permission
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.types import ApiKey
from tenantry.capabilities.sandboxes.service import JobStopper
from tenantry.capabilities.sandboxes.types import Job
from tenantry.capabilities.tenants.service import Directory, WorkspaceService
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.scope import SYSTEM, TenantScope


class GrantFollower:
    """Hears `grant.ended` in one cell. Hearing it twice is safe."""

    def __init__(self, *, cell: Cell, directory: Directory, jobs: JobStopper, clock: Clock) -> None:
        self._cell = cell
        self._directory = directory
        self._jobs = jobs
        self._clock = clock

    async def follow(self, tenant_id: UUID, payload: Mapping[str, Any]) -> None:
        """Cancel the open jobs of the grant, but for those that something else allows now."""
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM)
        async with self._cell.session(scope, lifecycle=True) as session:

            async def judge(job: Job) -> Decision:
                return await self._judge(session, job)

            await self._jobs.stop_granted(
                session, UUID(hex=payload["grant_id"]), reason=str(payload["reason"]), judge=judge
            )

    async def _judge(self, session: TenantSession, job: Job) -> Decision:
        """Decide anew whether its principal may run such a job there, by what lasts or by another grant."""
        rights = await RightsReader(session=session, clock=self._clock, find_key=_no_key).of_principal(job.principal_id)
        audit = AuditService(session=session, clock=self._clock)
        workspaces = WorkspaceService(session=session, directory=self._directory, audit=audit, clock=self._clock)
        workspace = await workspaces.find(job.workspace_id)
        about = Circumstances(
            path=workspace.path if workspace else None, told=True, environment=job.environment, labels=job.labels
        )
        needed = Permission.JOB_CREATE if job.sandbox_id is None else Permission.SANDBOX_START
        decision = decide(rights.access, needed, job.workspace_id, about)
        if job.secrets:
            using = decide(rights.access, Permission.SECRET_USE, job.workspace_id, about)
            decision = joined(decision, using)
        # The other grant is held until this is kept: it may be ending as well, and its end must find the job.
        if decision.grant_id is None or await is_held(session, decision.grant_id, now=self._clock.now()):
            return decision
        return replace(decision, outcome=Outcome.DENY, reason="that grant has just ended too")


async def _no_key(_key_id: UUID) -> ApiKey | None:
    """Find none: a principal is judged, not what it shows."""
    return None
