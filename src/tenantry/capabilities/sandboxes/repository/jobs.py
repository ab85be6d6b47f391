"""All SQL of jobs themselves."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tenantry.capabilities.sandboxes.types import (
    CANCELLATION,
    CONTENT,
    JOB_NEWS,
    NARROWING,
    QUEUE_NEWS,
    Injected,
    Job,
    JobEnd,
    JobLimits,
    JobPhase,
    JobSecret,
    JobStatus,
    StartedJob,
)
from tenantry.capabilities.secrets.types import SecretReference
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.settings import JobSettings

if TYPE_CHECKING:
    import asyncpg

_JOB: Final = (
    "job_id, workspace_id, principal_id, status, reason, detail, exit_code, command, image, image_digest, labels, "
    "limits, artifact_globs, persistence_mode, place, content_key, transient_key, transient_holder, inputs, attempt, "
    "log_bytes, log_sha256, usage, receipt, queued_at, started_at, finished_at, content_until, content_purged_at, "
    "environment, grant_id, network, secrets, phases, sandbox_id, tree_id, link"
)


async def insert_job(session: TenantSession, job: Job, *, given: bytes | None, given_inputs: bytes | None) -> None:
    """Insert a job and, at commit, wake the cell's workers."""
    await session.execute(
        f"""with woken as (select pg_notify('{QUEUE_NEWS}', $29))
            insert into jobs (tenant_id, job_id, workspace_id, principal_id, status, command, image, image_digest,
                labels, limits, artifact_globs, persistence_mode, content_key, inputs, given, usage, queued_at, place,
                environment, grant_id, given_inputs, reason, detail, finished_at, network, secrets, phases, sandbox_id,
                tree_id)
            select $1, $2, $3, $4, $20, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '{{}}', $15, $16, $17, $18,
                $19, $21, $22, $23, $24, $25, $26, $27, $28
            from woken""",
        session.scope.tenant_id,
        job.job_id,
        job.workspace_id,
        job.principal_id,
        list(job.command),
        job.image,
        job.image_digest,
        dict(job.labels),
        dataclasses.asdict(job.limits),
        list(job.artifact_globs),
        job.persistence_mode,
        job.content_key,
        [dict(item) for item in job.inputs],
        given,
        job.queued_at,
        job.place,
        job.environment,
        job.grant_id,
        given_inputs,
        job.status.value,
        job.reason,
        job.detail,
        job.finished_at,
        [dataclasses.asdict(asked) for asked in job.network],
        [_secret_record(each) for each in job.secrets],
        [dataclasses.asdict(each) for each in job.phases],
        job.sandbox_id,
        job.tree_id,
        job.lane,
    )


async def find_job(session: TenantSession, job_id: UUID, *, lock: bool = False) -> Job | None:
    row = await session.fetchrow(
        f"select {_JOB} from jobs where tenant_id = $1 and job_id = $2 {'for update' if lock else ''}",
        session.scope.tenant_id,
        job_id,
    )
    return _job(row) if row else None


async def find_jobs(session: TenantSession, ids: Sequence[UUID]) -> list[Job]:
    """Those of these that are there, in no order."""
    rows = await session.fetch(
        f"select {_JOB} from jobs where tenant_id = $1 and job_id = any ($2::uuid[])",
        session.scope.tenant_id,
        list(ids),
    )
    return [_job(row) for row in rows]


async def list_jobs(
    session: TenantSession,
    *,
    workspace_id: UUID,
    before: UUID | None,
    limit: int,
    status: JobStatus | None,
    sandbox_id: UUID | None = None,
) -> list[Job]:
    """Newest first: those that run a command, or those that one sandbox lived by."""
    rows = await session.fetch(
        f"""select {_JOB} from jobs
            where tenant_id = $1 and workspace_id = $2 and ($3::uuid is null or job_id < $3)
              and ($4::text is null or status = $4) and sandbox_id is not distinct from $6::uuid
            order by job_id desc limit $5""",
        session.scope.tenant_id,
        workspace_id,
        before,
        status.value if status else None,
        limit,
        sandbox_id,
    )
    return [_job(row) for row in rows]


async def count_open_jobs(session: TenantSession, *, workspace_id: UUID) -> tuple[int, int]:
    """Count those that wait and those that run, by their partial index."""
    row = await session.fetchrow(
        """select count(*) filter (where status = 'queued') as queued,
                  count(*) filter (where status = 'running') as running
           from jobs where tenant_id = $1 and workspace_id = $2 and finished_at is null""",
        session.scope.tenant_id,
        workspace_id,
    )
    return (row["queued"], row["running"]) if row else (0, 0)


async def lock_open_jobs(session: TenantSession, *, workspace_id: UUID | None) -> list[Job]:
    """Lock every job that has not ended, in the order of their ids: two at once wait for each other, no deadlock."""
    rows = await session.fetch(
        f"""select {_JOB} from jobs
            where tenant_id = $1 and status in ('queued', 'running') and ($2::uuid is null or workspace_id = $2)
            order by job_id for update""",
        session.scope.tenant_id,
        workspace_id,
    )
    return [_job(row) for row in rows]


async def lock_queued_jobs(session: TenantSession, *, workspace_id: UUID | None) -> list[tuple[Job, bytes | None]]:
    """Lock every job that has not begun, in the order of their ids, each with the sealed environment it was given."""
    rows = await session.fetch(
        f"""select {_JOB}, given from jobs
            where tenant_id = $1 and status = 'queued' and ($2::uuid is null or workspace_id = $2)
            order by job_id for update""",
        session.scope.tenant_id,
        workspace_id,
    )
    return [(_job(row), row["given"]) for row in rows]


async def lock_granted_jobs(session: TenantSession, grant_id: UUID) -> list[Job]:
    """Lock every open job that a grant alone allows, in the order of their ids."""
    rows = await session.fetch(
        f"""select {_JOB} from jobs
            where tenant_id = $1 and grant_id = $2 and finished_at is null order by job_id for update""",
        session.scope.tenant_id,
        grant_id,
    )
    return [_job(row) for row in rows]


async def set_grant(session: TenantSession, job_id: UUID, grant_id: UUID | None) -> None:
    """Say which grant alone allows a job from now on, with None that something lasting does."""
    await session.execute(
        "update jobs set grant_id = $3 where tenant_id = $1 and job_id = $2", session.scope.tenant_id, job_id, grant_id
    )


async def start_job(
    session: TenantSession, job_id: UUID, *, attempt: int, transient: tuple[bytes, UUID], now: datetime
) -> StartedJob | None:
    """Take a queued job of an open workspace for one attempt; None when there is nothing to start (any more).

    The claim is held meanwhile, so it cannot be given to another between this look and the commit. Safe to repeat when
    it is not known whether the commit arrived: an attempt finds its own start again. `transient` is the wrapped key of
    what the job will leave, and its holder: for one whose content is not kept.
    """
    row = await session.fetchrow(
        f"""with job as materialized (
                select tenant_id, job_id from jobs
                where tenant_id = $1 and job_id = $2 and (status = 'queued' or (status = 'running' and attempt = $3))
                for update
            ), claim as materialized (
                select e.tenant_id, e.job_id from job join queue.entries e using (tenant_id, job_id)
                where e.attempt = $3 and e.state = 'claimed' and e.used_slot_seconds is null
                for share of e
            )
            update jobs j set status = 'running', attempt = $3, started_at = coalesce(j.started_at, $4),
                transient_key = case when j.persistence_mode = 'metadata_only' then $5::bytea end,
                transient_holder = case when j.persistence_mode = 'metadata_only' then $6::uuid end
            from claim, workspaces w
            where j.tenant_id = claim.tenant_id and j.job_id = claim.job_id
              and w.tenant_id = j.tenant_id and w.workspace_id = j.workspace_id and w.status = 'active'
            returning {", ".join(f"j.{column.strip()}" for column in _JOB.split(","))}, j.given,
                j.given_inputs,
                w.settings ->> 'min_isolation' as min_isolation""",
        session.scope.tenant_id,
        job_id,
        attempt,
        now,
        *transient,
    )
    return StartedJob(_job(row), row["given"], row["given_inputs"], row["min_isolation"]) if row else None


async def find_running_job(session: TenantSession, job_id: UUID, *, attempt: int) -> Job | None:
    """Find a job that this attempt may go on with: nobody wants it cancelled, and its workspace is open."""
    row = await session.fetchrow(
        f"""select {", ".join(f"j.{column.strip()}" for column in _JOB.split(","))} from jobs j
            join workspaces w on w.tenant_id = j.tenant_id and w.workspace_id = j.workspace_id and w.status = 'active'
            where j.tenant_id = $1 and j.job_id = $2 and j.status = 'running' and j.attempt = $3
              and j.reason is null""",
        session.scope.tenant_id,
        job_id,
        attempt,
    )
    return _job(row) if row else None


async def end_job(
    session: TenantSession, job_id: UUID, end: JobEnd, *, inputs: bytes | None, settings: JobSettings, now: datetime
) -> tuple[str, int] | None:
    """Write the end unless there is one, and tell who waits, at commit; gives its reason and what bytes are kept.

    Why a cancelled job was cancelled was noted by whoever wished it. Content stays for its grace, in mode `full`
    for the days of the workspace or, where that names none, of the installation. Its environment goes now; its inputs
    stay as they are in mode `full`, else as `inputs`: sealed anew, under a key that is not stored.
    """
    session.forward(JOB_NEWS, job_id.hex)
    found = await session.fetchrow(
        f"""with ended as (
                update jobs j set status = $3, detail = $5, exit_code = $6, usage = $7, receipt = $8, log_bytes = $9,
                    log_sha256 = $10, finished_at = $11::timestamptz, given = null, link = null,
                    given_inputs = case when j.persistence_mode = 'full' then j.given_inputs else $16::bytea end,
                    content_key = case when j.transient_key is null then j.content_key end,
                    reason = case when $3 = 'cancelled' then coalesce(j.reason, $4) else $4 end,
                    image_digest = coalesce($12, j.image_digest),
                    content_until = $11::timestamptz + case when j.persistence_mode = 'full'
                        then make_interval(days => coalesce((w.settings ->> 'retention_days')::integer, $14))
                        else make_interval(secs => $13) end
                from workspaces w
                where j.tenant_id = $1 and j.job_id = $2 and j.status in ('queued', 'running')
                  and w.tenant_id = j.tenant_id and w.workspace_id = j.workspace_id
                returning j.tenant_id, j.job_id, j.content_until, j.reason, j.transient_holder,
                    j.log_bytes + coalesce(octet_length(j.given_inputs), 0) as kept_bytes
            ), purge as (
                insert into queue.purges (tenant_id, kind, item_id, due_at, holder)
                select tenant_id, '{CONTENT}', job_id, content_until, transient_holder from ended on conflict do nothing
            )
            select reason, kept_bytes from ended, pg_notify('{JOB_NEWS}', $15)""",
        session.scope.tenant_id,
        job_id,
        end.status.value,
        end.reason,
        end.detail,
        end.exit_code,
        dict(end.usage),
        dict(end.receipt) if end.receipt is not None else None,
        end.log_bytes,
        end.log_sha256,
        now,
        _started_digest(end.receipt or {}),
        float(settings.content_grace_seconds),
        settings.retention_days,
        job_id.hex,
        inputs,
    )
    return (found["reason"], found["kept_bytes"]) if found is not None else None


async def lock_connected_jobs(session: TenantSession, *, workspace_id: UUID | None) -> list[Job]:
    """Lock every running job that may connect to something, in the order of their ids."""
    rows = await session.fetch(
        f"""select {_JOB} from jobs
            where tenant_id = $1 and status = 'running' and network <> '[]' and ($2::uuid is null or workspace_id = $2)
            order by job_id for update""",
        session.scope.tenant_id,
        workspace_id,
    )
    return [_job(row) for row in rows]


async def narrow_network(session: TenantSession, job_id: UUID, network: Sequence[Connection]) -> None:
    """Say what a running job may still connect to, and wake the workers at commit."""
    await session.execute(
        f"""with woken as (select pg_notify('{QUEUE_NEWS}', '{NARROWING}'))
            update jobs set network = $3 from woken where tenant_id = $1 and job_id = $2""",
        session.scope.tenant_id,
        job_id,
        [dataclasses.asdict(asked) for asked in network],
    )


async def request_cancellation(session: TenantSession, job_id: UUID, *, reason: str) -> None:
    """Say why a running job is to be killed, for its worker to report, and wake the workers at commit."""
    await session.execute(
        f"""with woken as (select pg_notify('{QUEUE_NEWS}', '{CANCELLATION}'))
            update jobs set reason = $3 from woken where tenant_id = $1 and job_id = $2""",
        session.scope.tenant_id,
        job_id,
        reason,
    )


def _job(row: "asyncpg.Record") -> Job:
    values: dict[str, Any] = dict(row)
    for name in ("given", "given_inputs", "min_isolation"):
        values.pop(name, None)
    values["status"] = JobStatus(values["status"])
    values["limits"] = JobLimits(**values["limits"])
    for name in ("command", "artifact_globs", "inputs"):
        values[name] = tuple(values[name])
    values["network"] = tuple(Connection(Phase(one["phase"]), one["host"], one["port"]) for one in values["network"])
    values["secrets"] = tuple(_secret_of(each) for each in values["secrets"])
    values["phases"] = tuple(_phase_of(each) for each in values["phases"])
    return Job(**values)


def _started_digest(receipt: Mapping[str, Any]) -> str | None:
    """Tell the digest of what was started, of several that of `run`."""
    found: str | None = receipt.get("phases", {}).get(Phase.RUN, receipt).get("image_digest")
    return found


def _phase_of(record: dict[str, Any]) -> JobPhase:
    return JobPhase(**{**record, "phase": Phase(record["phase"]), "command": tuple(record["command"])})


def _secret_record(given: JobSecret) -> dict[str, Any]:
    reference = given.secret
    place: dict[str, Any] = {"env": given.env} if given.env is not None else {"file": given.file}
    place |= {"phase": given.phase.value} if given.phase is not Phase.RUN else {}
    place |= {"inject": dataclasses.asdict(given.inject)} if given.inject is not None else {}
    return {"secret_id": reference.secret_id.hex, "name": reference.name, "version": reference.version, **place}


def _secret_of(record: dict[str, Any]) -> JobSecret:
    reference = SecretReference(UUID(hex=record["secret_id"]), record["name"], record["version"])
    phase = Phase(record.get("phase", Phase.RUN))
    inject = Injected(**record["inject"]) if "inject" in record else None
    return JobSecret(reference, env=record.get("env"), file=record.get("file"), phase=phase, inject=inject)
