"""Jobs as evidence knows them: begun, ended, and described once they have ended."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from tenantry.capabilities.access.service import grant_records
from tenantry.capabilities.evidence.service import begin_evidence, end_evidence
from tenantry.capabilities.evidence.types import Description, Product, Subject
from tenantry.capabilities.policies.types import Checked
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types import JOB, Artifact, Job, JobPhase, JobSecret
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.kit.canonical_json import canonical_json

_FULL: Final = "full"
_LOG: Final = "log"
_EVENTS: Final = frozenset({"job.created", "job.narrowed", "job.cancel_requested"})
"""What becomes of a job, besides its end."""


async def begin_job_evidence(session: TenantSession, job: Job, checked: Checked, *, clock: Clock) -> None:
    """Begin evidence of a job that was just accepted; of one that was denied, which has ended by that, all of it."""
    subject = _subject(job, checked.record())
    if job.finished_at is not None:
        await end_evidence(session, subject, at=job.finished_at)
    else:
        await begin_evidence(session, subject, clock=clock)


async def end_job_evidence(session: TenantSession, job: Job, *, at: datetime) -> None:
    """Note that a job has ended."""
    await end_evidence(session, _subject(job, {}), at=at)


class JobEvidence:
    """The `SubjectKind` port of evidence for jobs."""

    kind: ClassVar[str] = JOB
    prefix: ClassVar[Prefix] = Prefix.JOB

    async def describe(self, session: TenantSession, ids: Sequence[UUID]) -> Mapping[UUID, Description]:
        """Say what each was that has ended; in mode `metadata_only` by digests, sizes and ids."""
        jobs = [job for job in await repository.find_jobs(session, ids) if job.finished_at is not None]
        artifacts = await repository.list_artifacts_of(session, [job.job_id for job in jobs])
        granted = [job.grant_id for job in jobs if job.grant_id is not None]
        grants = await grant_records(session, granted) if granted else {}
        return {
            job.job_id: Description(
                execution=execution_of(job, artifacts.get(job.job_id, ())),
                authority=grants.get(job.grant_id, {}) if job.grant_id is not None else {},
                products=_products(job, artifacts.get(job.job_id, ())),
                resource=format_id(Prefix.JOB, job.job_id),
                end=f"job.{job.status}",
                events=_EVENTS,
            )
            for job in jobs
        }


def execution_of(job: Job, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Describe a job that has ended. Its end has written all of it, and nothing changes it afterwards."""
    full = job.persistence_mode == _FULL
    network = [asdict(each) for each in job.network]
    described: dict[str, Any] = {
        "status": job.status.value,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "attempt": job.attempt,
        "created_by": job.principal_id,
        "environment": job.environment,
        "programs": [_program(each, full=full) for each in job.programs],
        "limits": asdict(job.limits),
        "inputs": [_input(each, full=full) for each in job.inputs],
        "secrets": [_secret(each, full=full) for each in job.secrets],
        "network": {"sha256": _digest(network), "count": len(network), **({"allowed": network} if full else {})},
        "artifacts": [_artifact(each, full=full) for each in artifacts],
        "log": {"size_bytes": job.log_bytes, "sha256": job.log_sha256.hex() if job.log_sha256 else None},
        "usage": dict(job.usage),
        "receipt": dict(job.receipt) if job.receipt is not None else None,
        "queued_at": _written(job.queued_at),
        "started_at": _written(job.started_at),
        "finished_at": _written(job.finished_at),
    }
    if job.sandbox_id is not None:
        described["sandbox"] = format_id(Prefix.SANDBOX, job.sandbox_id)
    return described


def _subject(job: Job, judged: Mapping[str, Any]) -> Subject:
    return Subject(JOB, job.job_id, job.workspace_id, job.persistence_mode, labels=job.labels, judged=judged)


def _products(job: Job, artifacts: Sequence[Artifact]) -> list[Product]:
    log = [Product(_LOG, job.log_sha256)] if job.log_sha256 else []
    return log + [Product(format_id(Prefix.ARTIFACT, each.artifact_id), each.sha256) for each in artifacts]


def _program(program: JobPhase, *, full: bool) -> dict[str, Any]:
    joined = "\0".join(program.command).encode()
    told = {
        "phase": program.phase.value,
        "image": program.image,
        "image_digest": program.image_digest,
        "command_sha256": hashlib.sha256(joined).hexdigest(),
        "writable": program.writable,
    }
    return told | {"command": list(program.command)} if full else told


def _input(given: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
    told = {"size_bytes": given["size_bytes"], "sha256": given["sha256"]}
    return told | {"path": given["path"]} if full else told


def _secret(given: JobSecret, *, full: bool) -> dict[str, Any]:
    secret = given.secret
    told = {"id": format_id(Prefix.SECRET, secret.secret_id), "version": secret.version, "phase": given.phase.value}
    if not full:
        return told
    inject = asdict(given.inject) if given.inject is not None else None
    return told | {"name": secret.name, "env": given.env, "file": given.file, "inject": inject}


def _artifact(kept: Artifact, *, full: bool) -> dict[str, Any]:
    told = {
        "id": format_id(Prefix.ARTIFACT, kept.artifact_id),
        "size_bytes": kept.size_bytes,
        "sha256": kept.sha256.hex(),
    }
    return told | {"path": kept.path} if full else told


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _written(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="microseconds") if at else None
