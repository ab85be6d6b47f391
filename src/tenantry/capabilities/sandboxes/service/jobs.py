"""Jobs as their callers see them: create, get, list, cancel, read output, artifacts, receipt."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tenantry.capabilities.access.service import hold_grant
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome as AuditOutcome
from tenantry.capabilities.limits.service import QuotaService
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.policies.service import PolicyService
from tenantry.capabilities.policies.types import Checked
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.errors import (
    artifact_not_found,
    content_gone,
    image_unknown,
    input_not_found,
    job_not_found,
)
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.image_names import names_of
from tenantry.capabilities.sandboxes.service.job_evidence import begin_job_evidence
from tenantry.capabilities.sandboxes.service.job_limits import limits_of, most_kept_bytes
from tenantry.capabilities.sandboxes.service.job_secrets import pin_secrets, told_of
from tenantry.capabilities.sandboxes.service.judging import (
    DENIED_BY_POLICY,
    detail_of,
    facts_of,
    reason_of,
    refusal_of,
)
from tenantry.capabilities.sandboxes.service.planning import images_of, plan_phases, require_phases
from tenantry.capabilities.sandboxes.service.queue import ESTIMATE_SECONDS, QUEUE
from tenantry.capabilities.sandboxes.service.sharing import QueueShares
from tenantry.capabilities.sandboxes.service.stopping import JobStopper
from tenantry.capabilities.sandboxes.types import (
    HOST_IMAGE,
    JOB,
    TREE,
    Artifact,
    Image,
    Job,
    JobInput,
    JobLimits,
    JobStatus,
    LogLine,
    NewJob,
)
from tenantry.capabilities.tenants.service import WorkspaceService, place_of
from tenantry.capabilities.tenants.types import Workspace, WorkspaceSettings
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.rules.types import Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import database_errors
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Denied
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_suffix
from tenantry.foundation.settings import JobSettings


class JobService:
    """Jobs of the session's tenant."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        content: JobContent,
        workspaces: WorkspaceService,
        quotas: QuotaService,
        policies: PolicyService,
        settings: JobSettings,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._content = content
        self._workspaces = workspaces
        self._quotas = quotas
        self._policies = policies
        self._settings = settings
        self._clock = clock

    async def create(self, new: NewJob, *, workspace_id: UUID, principal: str) -> tuple[Job, Denied | None]:
        """Queue a job with all that commits with it; one that policies deny is recorded in its place, as `denied`.

        Commit, then raise what comes with it. Raises Invalid, Denied, Exhausted `quota_exceeded`.
        """
        require_phases(new)
        workspace = await self._workspaces.get(workspace_id)
        limits = limits_of(new.limits, await self._quotas.limits_in(workspace_id), workspace.settings)
        images = {name: await self._find_image(name, workspace_id) for name in images_of(new)}
        job = self._made(new, workspace, limits=limits, images=images, principal=principal)
        job = dataclasses.replace(job, secrets=await pin_secrets(self._session, new, workspace_id=workspace_id))
        facts = facts_of(job, env_names={program.phase: tuple(program.env) for program in new.programs})
        checked = await self._policies.check_job(facts, workspace_id=workspace_id, settings=workspace.settings)
        unknown = [name for name, image in images.items() if image is None and name != HOST_IMAGE]
        if unknown and not checked.outcome.denied:
            raise image_unknown(unknown[0])
        await self._policies.note(
            checked,
            workspace_id=workspace_id,
            principal=principal,
            job=format_id(Prefix.JOB, job.job_id),
            facts=facts,
            content_kept=job.persistence_mode == "full",
        )
        if checked.outcome.denied:
            return await self._deny(job, checked)
        return await self._queue(job, new, checked, settings=workspace.settings), None

    def _made(
        self,
        new: NewJob,
        workspace: Workspace,
        *,
        limits: JobLimits,
        images: Mapping[str, Image | None],
        principal: str,
    ) -> Job:
        phases = plan_phases(new, images)
        run = next(each for each in phases if each.phase is Phase.RUN)
        return Job(
            job_id=new_id(),
            workspace_id=workspace.workspace_id,
            principal_id=principal,
            status=JobStatus.QUEUED,
            reason=None,
            detail=None,
            exit_code=None,
            command=run.command,
            image=run.image,
            image_digest=run.image_digest,
            labels=new.labels,
            limits=limits,
            artifact_globs=new.artifacts,
            persistence_mode=workspace.settings.persistence_mode,
            place=place_of(workspace.path, workspace.workspace_id),
            content_key=None,
            transient_key=None,
            transient_holder=None,
            inputs=tuple(_described(item.path, item.content) for item in new.inputs),
            attempt=0,
            log_bytes=0,
            log_sha256=None,
            usage={},
            receipt=None,
            queued_at=self._clock.now(),
            started_at=None,
            finished_at=None,
            content_until=None,
            content_purged_at=None,
            environment=new.environment,
            grant_id=new.grant_id,
            network=new.network,
            phases=phases if new.phases else (),
            sandbox_id=new.keeper.sandbox_id if new.keeper else None,
            tree_id=new.keeper.tree_id if new.keeper else None,
        )

    async def _queue(self, job: Job, new: NewJob, checked: Checked, *, settings: WorkspaceSettings) -> Job:
        key, wrapped = await self._content.make_key(tenant_id=self._session.scope.tenant_id, job_id=job.job_id)
        job = dataclasses.replace(job, content_key=wrapped)
        environments = {program.phase: program.env for program in new.programs}
        given = self._content.seal_given(key, environments, job_id=job.job_id)
        inputs = self._content.seal_inputs(key, new.inputs, job_id=job.job_id)
        await repository.insert_job(self._session, job, given=given, given_inputs=inputs)
        await begin_job_evidence(self._session, job, checked, clock=self._clock)
        await self._enqueue(job)
        details: dict[str, Any] = {"image": job.image, "inputs": len(new.inputs)}
        if job.phases:
            details["phases"] = [each.phase.value for each in job.phases]
        if job.sandbox_id is not None:
            details["sandbox"] = format_id(Prefix.SANDBOX, job.sandbox_id)
        if job.secrets:
            details["secrets"] = [told_of(each) for each in job.secrets]
        if exempted := checked.outcome.exempted_by:
            details["exempted_by"] = [format_id(Prefix.EXEMPTION, each) for each in exempted]
        if (warned := checked.outcome.decisive) is not None:
            details["warning"] = {"layer": warned.layer.value, "kind": warned.kind.value, "rule": warned.rule}
        await self._record("job.created", job.job_id, details=details)
        await self._reserve(job, given=len(given or b"") + len(inputs or b""), settings=settings)
        return job

    async def _deny(self, job: Job, checked: Checked) -> tuple[Job, Denied]:
        """Record a job that never was queued, holds nothing and keeps nothing of what it was given."""
        reason = checked.outcome.decisive
        job = dataclasses.replace(
            job,
            status=JobStatus.DENIED,
            reason=DENIED_BY_POLICY,
            detail=detail_of(checked.outcome),
            finished_at=job.queued_at,
        )
        await repository.insert_job(self._session, job, given=None, given_inputs=None)
        await begin_job_evidence(self._session, job, checked, clock=self._clock)
        told = {name: text for name, text in reason.summary().items() if name != "effect"} if reason else {}
        await self._record(
            "job.denied",
            job.job_id,
            reason=DENIED_BY_POLICY,
            details={"image": job.image, **told},
            outcome=AuditOutcome.DENIED,
        )
        return job, refusal_of(job, reason)

    async def find_refusal(self, job: Job) -> Denied | None:
        """Tell again how a job was refused by policies when it was asked for; None where it was not."""
        if job.status is not JobStatus.DENIED or job.reason != DENIED_BY_POLICY:
            return None
        found = await self._policies.decision_of(format_id(Prefix.JOB, job.job_id), workspace_id=job.workspace_id)
        told = (
            next((each for each in found.reasons if (each["layer"], each["rule"]) == (found.layer, found.rule)), None)
            if found
            else None
        )
        return refusal_of(job, reason_of(told) if told else None)

    async def _reserve(self, job: Job, *, given: int, settings: WorkspaceSettings) -> None:
        """Hold the most that the job can take; its end settles what it took."""
        artifacts = job.limits.artifacts_mib << 20 if job.artifact_globs else 0
        amounts = {
            Quota.CONCURRENT_JOBS: 1,
            Quota.CONCURRENT_SANDBOXES if job.sandbox_id else Quota.DAILY_JOBS: 1,
            Quota.STORAGE: given + job.limits.output_bytes + artifacts,
        }
        # Where jobs wait for their turn, the queue sees to it that no more run at once.
        waits = frozenset({Quota.CONCURRENT_JOBS} if settings.on_limit == "queue" else ())
        await self._quotas.reserve(job.job_id, amounts, kind=JOB, workspace_id=job.workspace_id, counted_only=waits)
        if job.tree_id is not None:
            room = {Quota.STORAGE: most_kept_bytes(job.limits)}
            await self._quotas.reserve(job.tree_id, room, kind=TREE, workspace_id=job.workspace_id)

    async def _enqueue(self, job: Job) -> None:
        if job.grant_id is not None:  # whoever ends the grant waits for this commit, and finds the job
            await hold_grant(self._session, job.grant_id, now=self._clock.now())
        await QueueShares(session=self._session, quotas=self._quotas).keep(job.workspace_id)
        principal = parse_suffix(job.principal_id.rpartition("_")[2])
        with database_errors():
            await QUEUE.enqueue(
                await self._session.connection(),
                levels=(self._session.scope.tenant_id, job.workspace_id, principal),
                entry=job.job_id,
                estimate_seconds=min(ESTIMATE_SECONDS, job.limits.timeout_seconds),
                labels=(job.lane,),
            )

    async def get(self, job_id: UUID, *, workspace_id: UUID) -> Job:
        job = await repository.find_job(self._session, job_id)
        if job is None or job.workspace_id != workspace_id:
            raise job_not_found()
        return job

    async def list_jobs(
        self,
        *,
        workspace_id: UUID,
        before: UUID | None = None,
        limit: int = 50,
        status: JobStatus | None = None,
        sandbox_id: UUID | None = None,
    ) -> list[Job]:
        """List those that run a command or, with `sandbox_id`, those that this sandbox lived by."""
        return await repository.list_jobs(
            self._session,
            workspace_id=workspace_id,
            before=before,
            limit=limit,
            status=status,
            sandbox_id=sandbox_id,
        )

    async def count_open(self, *, workspace_id: UUID) -> tuple[int, int]:
        """Count those that wait and those that run."""
        return await repository.count_open_jobs(self._session, workspace_id=workspace_id)

    async def cancel(self, job_id: UUID, *, workspace_id: UUID, reason: str = "cancelled") -> Job:
        """End a waiting job at once, have a running one killed by its worker. Cancelling twice changes nothing."""
        job = await repository.find_job(self._session, job_id, lock=True)
        if job is None or job.workspace_id != workspace_id:
            raise job_not_found()
        if not job.status.ended:
            await JobStopper(settings=self._settings, clock=self._clock).stop(self._session, job, reason=reason)
        return await self.get(job_id, workspace_id=workspace_id)

    async def read_log(
        self, job_id: UUID, *, workspace_id: UUID, after: int = 0, limit: int = 500
    ) -> tuple[Job, list[LogLine]]:
        """Read output after piece `after`; raises Gone `content_gone` when it is no longer kept."""
        job = await self.get(job_id, workspace_id=workspace_id)
        key = await self._key(job)
        lines = await repository.list_lines(self._session, job_id, after=after, limit=limit)
        return job, [self._content.open_line(key, line, job_id=job_id) for line in lines]

    async def list_artifacts(
        self, job_id: UUID, *, workspace_id: UUID, after: UUID | None = None, limit: int = 50
    ) -> list[Artifact]:
        await self.get(job_id, workspace_id=workspace_id)
        return await repository.list_artifacts(self._session, job_id, after=after, limit=limit)

    async def get_artifact(
        self, job_id: UUID, artifact_id: UUID, *, workspace_id: UUID
    ) -> tuple[Job, Artifact, Keyset]:
        """Find an artifact, its job and the key that opens it; raises Gone with size and digest once it is not kept."""
        job = await self.get(job_id, workspace_id=workspace_id)
        artifact = await repository.find_artifact(self._session, job_id, artifact_id)
        if artifact is None:
            raise artifact_not_found()
        if not job.content_kept:
            raise content_gone(size_bytes=artifact.size_bytes, sha256=artifact.sha256.hex())
        return job, artifact, await self._key(job)

    async def read_input(self, job_id: UUID, sha256: str, *, workspace_id: UUID) -> JobInput:
        """Read an input by its digest; raises Gone `content_gone` with size and digest once it is not kept."""
        job = await self.get(job_id, workspace_id=workspace_id)
        described = next((each for each in job.inputs if each["sha256"] == sha256), None)
        if described is None:
            raise input_not_found()
        sealed = await repository.find_inputs(self._session, job_id)
        if sealed is None:
            raise content_gone(size_bytes=described["size_bytes"], sha256=sha256)
        key = await self._content.open_inputs_key(tenant_id=self._session.scope.tenant_id, job=job)
        inputs = self._content.open_inputs(key, sealed, job_id=job_id)
        return inputs[job.inputs.index(described)]

    async def _key(self, job: Job) -> Keyset:
        return await self._content.open_key(tenant_id=self._session.scope.tenant_id, job=job)

    async def _find_image(self, name: str, workspace_id: UUID) -> Image | None:
        """Find it by its name; with a digest behind it only that very content."""
        if name == HOST_IMAGE:
            return None
        _, joint, digest = name.partition("@")
        for each in names_of(name):
            found = await repository.find_image(self._session, workspace_id=workspace_id, name=each)
            if found is not None and (not joint or found.digest == digest):
                return found
        return None

    async def _record(
        self,
        action: str,
        job_id: UUID,
        *,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
    ) -> None:
        await self._audit.record(
            action,
            resource_type="job",
            resource_id=format_id(Prefix.JOB, job_id),
            outcome=outcome,
            reason=reason,
            details=details,
        )


def _described(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
