"""Sandboxes that live, as their callers see them: create, get, list, start, stop, extend, change, delete.

A sandbox lives by a job whose program only waits. A row and its job are locked in this order: the job, then the row.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome as AuditOutcome
from tenantry.capabilities.limits.service import QuotaService
from tenantry.capabilities.policies.service import PolicyService
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.errors import (
    content_not_kept,
    life_too_long,
    sandbox_busy,
    sandbox_name_taken,
    sandbox_not_found,
    sandbox_not_running,
    sandbox_version_mismatch,
)
from tenantry.capabilities.sandboxes.service.job_limits import life_of, limits_of, lives
from tenantry.capabilities.sandboxes.service.job_secrets import pin_secrets
from tenantry.capabilities.sandboxes.service.jobs import JobService
from tenantry.capabilities.sandboxes.service.judging import DENIED_BY_POLICY, detail_of, facts_of, refusal_of
from tenantry.capabilities.sandboxes.service.live_content import LiveContent
from tenantry.capabilities.sandboxes.service.stopping import JobStopper
from tenantry.capabilities.sandboxes.types import NARROWING, Job, Keeper, NewJob
from tenantry.capabilities.sandboxes.types.living import (
    DEFAULT_IDLE_SECONDS,
    KeptTree,
    LivePlace,
    LiveSandbox,
    LiveState,
    NewSandbox,
    SandboxChanges,
    Starter,
)
from tenantry.capabilities.tenants.service import WorkspaceService, place_of
from tenantry.engines.rules.types import Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, new_id

_OUTPUT_BYTES: Final = 64 << 10
"""What the keeper itself may print: it prints nothing."""
_SHOWN_PROGRAM: Final = 200


class LiveSandboxService:
    """Sandboxes of the session's tenant."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        jobs: JobService,
        content: LiveContent,
        workspaces: WorkspaceService,
        quotas: QuotaService,
        policies: PolicyService,
        stopper: JobStopper,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._jobs = jobs
        self._content = content
        self._workspaces = workspaces
        self._quotas = quotas
        self._policies = policies
        self._stopper = stopper
        self._clock = clock

    async def create(
        self, new: NewSandbox, *, workspace_id: UUID, starter: Starter, start: bool = True, tree: KeptTree | None = None
    ) -> tuple[LiveSandbox, Denied | None]:
        """Make a sandbox and, if wished, start it; what policies deny is recorded as a job and not made.

        Commit, then raise what comes with it. With `tree`, whose owner's row is locked, its files begin as that.
        Raises Invalid, Conflict `name_taken`, Denied, Exhausted `quota_exceeded`.
        """
        sandbox = await self._made(new, workspace_id=workspace_id, principal=starter.principal, tree=tree)
        job: Job | None = None
        if start:
            job, refusal = await self._begin(sandbox, new.env, starter)
            if refusal is not None:
                return dataclasses.replace(sandbox, job_id=job.job_id), refusal
            sandbox = dataclasses.replace(sandbox, job_id=job.job_id)
        else:
            await pin_secrets(self._session, _keeping(sandbox, new.env, starter, seconds=1), workspace_id=workspace_id)
        if not await repository.insert_sandbox(self._session, sandbox):
            raise sandbox_name_taken(new.name)
        await self._record("sandbox.created", sandbox, {"name": sandbox.name, "image": sandbox.image})
        if job is not None:
            await self._record("sandbox.started", sandbox, {"job": format_id(Prefix.JOB, job.job_id)})
        return await self.get(sandbox.sandbox_id, workspace_id=workspace_id), None

    async def _made(self, new: NewSandbox, *, workspace_id: UUID, principal: str, tree: KeptTree | None) -> LiveSandbox:
        workspace = await self._workspaces.get(workspace_id)
        if tree is not None and workspace.settings.persistence_mode != "full":
            raise content_not_kept()
        held = await self._quotas.limits_in(workspace_id)
        limits = limits_of(new.limits, held, workspace.settings)
        ttl = lives(new.ttl_seconds, held, workspace.settings)
        sandbox_id, tenant_id = new_id(), self._session.scope.tenant_id
        key, given = await self._content.seal_environment(new.env, tenant_id=tenant_id, sandbox_id=sandbox_id)
        return LiveSandbox(
            sandbox_id=sandbox_id,
            workspace_id=workspace_id,
            name=new.name,
            image=new.image,
            environment=new.environment,
            labels=new.labels,
            limits={"cpus": limits.cpus, "memory_mib": limits.memory_mib, "pids": limits.pids},
            network=new.network,
            secrets=new.secrets,
            persistence_mode=workspace.settings.persistence_mode,
            place=place_of(workspace.path, workspace_id),
            content_key=key,
            given=given,
            ttl_seconds=ttl,
            idle_seconds=DEFAULT_IDLE_SECONDS if new.idle_seconds is None else new.idle_seconds,
            job_id=None,
            tree_id=tree.tree_id if tree else None,
            created_at=self._clock.now(),
            created_by=principal,
            expires_at=None,
            deleted_at=None,
            version=1,
        )

    async def _begin(
        self, sandbox: LiveSandbox, environment: Mapping[str, str], starter: Starter
    ) -> tuple[Job, Denied | None]:
        """Queue the job that it is to live by; every layer of policies is asked, as for any job."""
        workspace = await self._workspaces.get(sandbox.workspace_id)
        held = await self._quotas.limits_in(sandbox.workspace_id)
        seconds = life_of(held, workspace.settings)
        lives(sandbox.ttl_seconds, held, workspace.settings)
        return await self._jobs.create(
            _keeping(sandbox, environment, starter, seconds=seconds),
            workspace_id=sandbox.workspace_id,
            principal=starter.principal,
        )

    async def get(self, sandbox_id: UUID, *, workspace_id: UUID) -> LiveSandbox:
        found = await repository.find_sandbox(self._session, sandbox_id, workspace_id=workspace_id)
        if found is None:
            raise sandbox_not_found()
        return found

    async def list_sandboxes(
        self, *, workspace_id: UUID, before: UUID | None = None, limit: int = 50
    ) -> list[LiveSandbox]:
        return await repository.list_sandboxes(self._session, workspace_id=workspace_id, before=before, limit=limit)

    async def start(
        self, sandbox_id: UUID, *, workspace_id: UUID, starter: Starter, if_version: int | None = None
    ) -> tuple[LiveSandbox, Denied | None]:
        """Give it a new job to live by; one that runs, or is about to, stays as it is.

        Commit, then raise what comes with it. Raises Conflict `sandbox_busy`, and what `create` raises.
        """
        sandbox = await self._locked(sandbox_id, workspace_id=workspace_id, if_version=if_version)
        if sandbox.state in (LiveState.STARTING, LiveState.RUNNING):
            return sandbox, None
        if sandbox.state is LiveState.STOPPING:
            raise sandbox_busy(sandbox.state)
        environment = await self._content.open_environment(sandbox, tenant_id=self._session.scope.tenant_id)
        job, refusal = await self._begin(sandbox, environment, starter)
        if refusal is not None:
            return sandbox, refusal
        await repository.begin_life(self._session, sandbox_id, job_id=job.job_id)
        await self._record("sandbox.started", sandbox, {"job": format_id(Prefix.JOB, job.job_id)})
        return await self.get(sandbox_id, workspace_id=workspace_id), None

    async def stop(
        self, sandbox_id: UUID, *, workspace_id: UUID, reason: str = "stopped", if_version: int | None = None
    ) -> LiveSandbox:
        """Have it killed, and its files kept where its workspace keeps content. Stopping twice changes nothing."""
        sandbox = await self.get(sandbox_id, workspace_id=workspace_id)
        _require_version(sandbox, if_version)
        if await self._end(sandbox, reason=reason):
            await self._record("sandbox.stopped", sandbox, {"files_kept": sandbox.keeps}, reason=reason)
        return await self.get(sandbox_id, workspace_id=workspace_id)

    async def _end(self, sandbox: LiveSandbox, *, reason: str) -> bool:
        if sandbox.job_id is None:
            return False
        job = await repository.find_job(self._session, sandbox.job_id, lock=True)
        if job is None or job.status.ended or job.reason is not None:
            return False
        await self._stopper.stop(self._session, job, reason=reason)
        return True

    async def delete(self, sandbox_id: UUID, *, workspace_id: UUID, if_version: int | None = None) -> None:
        """End it with everything that is kept of it, its snapshots too; what was forked from those stays."""
        sandbox = await self.get(sandbox_id, workspace_id=workspace_id)
        await self._end(sandbox, reason="deleted")
        locked = await self._locked(sandbox_id, workspace_id=workspace_id, if_version=if_version)
        if locked.job_id != sandbox.job_id:
            raise sandbox_busy(locked.state)
        now = self._clock.now()
        snapshots = await repository.list_snapshots(self._session, sandbox_id, limit=1000)
        for snapshot in snapshots:
            await repository.delete_snapshot(self._session, snapshot.snapshot_id)
        await repository.delete_sandbox(self._session, locked, now=now)
        trees = {each.tree.tree_id for each in snapshots} | ({locked.tree_id} if locked.tree_id else set())
        for tree_id in sorted(trees):
            await repository.drop_tree(self._session, tree_id, now=now)
        await self._record("sandbox.deleted", locked, {"name": locked.name, "snapshots": len(snapshots)})

    async def extend(self, sandbox_id: UUID, *, workspace_id: UUID, seconds: int | None = None) -> LiveSandbox:
        """Let a running one live for so many seconds from now on, its own `ttl_seconds` unless told; never less than
        before. Raises Conflict `sandbox_not_running`, Invalid `life_too_long`.
        """
        sandbox = await self._locked(sandbox_id, workspace_id=workspace_id)
        job = sandbox.job
        if sandbox.state is not LiveState.RUNNING or job is None or job.started_at is None:
            raise sandbox_not_running(sandbox.state)
        now = self._clock.now()
        last = job.started_at + timedelta(seconds=job.limits["timeout_seconds"])
        wanted = now + timedelta(seconds=sandbox.ttl_seconds if seconds is None else seconds)
        if wanted > last and seconds is not None:
            raise life_too_long(most=max(0.0, (last - now).total_seconds()))
        expires_at = min(last, max(wanted, sandbox.expires_at or now))
        await repository.set_expiry(self._session, sandbox_id, expires_at)
        await repository.wake_workers(self._session, NARROWING)
        await self._record("sandbox.extended", sandbox, {"expires_at": expires_at.isoformat()})
        return await self.get(sandbox_id, workspace_id=workspace_id)

    async def change(
        self, sandbox_id: UUID, changes: SandboxChanges, *, workspace_id: UUID, if_version: int | None = None
    ) -> LiveSandbox:
        """Change how long it may be idle, at once; labels, and how long it lives, from the next start on."""
        sandbox = await self._locked(sandbox_id, workspace_id=workspace_id, if_version=if_version)
        workspace = await self._workspaces.get(workspace_id)
        ttl = sandbox.ttl_seconds
        if changes.ttl_seconds is not None:
            ttl = lives(changes.ttl_seconds, await self._quotas.limits_in(workspace_id), workspace.settings)
        await repository.change_sandbox(
            self._session,
            sandbox_id,
            labels=sandbox.labels if changes.labels is None else changes.labels,
            ttl_seconds=ttl,
            idle_seconds=sandbox.idle_seconds if changes.idle_seconds is None else changes.idle_seconds,
        )
        await repository.wake_workers(self._session, NARROWING)
        told = [field.name for field in dataclasses.fields(changes) if getattr(changes, field.name) is not None]
        await self._record("sandbox.changed", sandbox, {"fields": told})
        return await self.get(sandbox_id, workspace_id=workspace_id)

    async def place(self, sandbox_id: UUID, *, workspace_id: UUID) -> tuple[LiveSandbox, LivePlace]:
        """Find a running sandbox, and where it answers; raises NotFound, Conflict `sandbox_not_running`."""
        sandbox = await self.get(sandbox_id, workspace_id=workspace_id)
        job = sandbox.job
        if sandbox.state is not LiveState.RUNNING or job is None or job.link is None or sandbox.job_id is None:
            raise sandbox_not_running(sandbox.state)
        return sandbox, LivePlace(sandbox_id, sandbox.job_id, job.link)

    async def check_exec(self, sandbox: LiveSandbox, command: Sequence[str], *, env_names: Sequence[str] = ()) -> None:
        """Ask every layer of policies for a command in a running sandbox, and record it before it runs.

        The caller commits, then runs it. Raises Denied `policy_denied`, with the denial recorded and committed.
        """
        job = await repository.find_job(self._session, sandbox.job_id) if sandbox.job_id else None
        if job is None:
            raise sandbox_not_running(sandbox.state)
        job = dataclasses.replace(job, command=tuple(command))
        facts = facts_of(job, env_names={Phase.RUN: tuple(env_names)})
        workspace = await self._workspaces.get(sandbox.workspace_id)
        checked = await self._policies.check_job(facts, workspace_id=sandbox.workspace_id, settings=workspace.settings)
        await self._policies.note(
            checked,
            workspace_id=sandbox.workspace_id,
            principal=self._session.scope.actor.id,
            job=format_id(Prefix.JOB, job.job_id),
            facts=facts,
            content_kept=sandbox.keeps,
        )
        told = {"program": command[0][:_SHOWN_PROGRAM], "arguments": len(command) - 1}
        if not checked.outcome.denied:
            await self._record("sandbox.exec", sandbox, told)
            return
        denied = refusal_of(dataclasses.replace(job, detail=detail_of(checked.outcome)), checked.outcome.decisive)
        await self._record("sandbox.exec", sandbox, told, reason=DENIED_BY_POLICY, outcome=AuditOutcome.DENIED)
        await self._session.commit()
        raise denied

    async def record_access(self, sandbox: LiveSandbox, kind: str, path: str) -> None:
        """Record that files or a port of a running sandbox were used: `kind` says how, `path` what."""
        await self._record("sandbox.accessed", sandbox, {"kind": kind, "path": path})

    async def _locked(self, sandbox_id: UUID, *, workspace_id: UUID, if_version: int | None = None) -> LiveSandbox:
        found = await repository.find_sandbox(self._session, sandbox_id, workspace_id=workspace_id, lock=True)
        if found is None:
            raise sandbox_not_found()
        _require_version(found, if_version)
        return found

    async def _record(
        self,
        action: str,
        sandbox: LiveSandbox,
        details: Mapping[str, Any],
        *,
        reason: str | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
    ) -> None:
        await self._audit.record(
            action,
            resource_type="sandbox",
            resource_id=format_id(Prefix.SANDBOX, sandbox.sandbox_id),
            outcome=outcome,
            reason=reason,
            details=details,
        )


def _keeping(sandbox: LiveSandbox, environment: Mapping[str, str], starter: Starter, *, seconds: float) -> NewJob:
    """Make the job that a sandbox lives by; under another tree's id each time, where its files are kept."""
    return NewJob(
        command=(),
        image=sandbox.image,
        env=environment,
        limits={**sandbox.limits, "timeout_seconds": seconds, "output_bytes": _OUTPUT_BYTES, "artifacts_mib": 0},
        labels=sandbox.labels,
        environment=sandbox.environment,
        grant_id=starter.grant_id,
        secrets=sandbox.secrets,
        network=sandbox.network,
        keeper=Keeper(sandbox.sandbox_id, new_id() if sandbox.keeps else None),
    )


def _require_version(sandbox: LiveSandbox, if_version: int | None) -> None:
    if if_version not in (None, sandbox.version):
        raise sandbox_version_mismatch(sandbox.version)
