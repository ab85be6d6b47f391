"""Jobs and their output, as answers."""

from typing import Any

from pydantic import Field

from tenantry.capabilities.sandboxes.types import Job, LogLine
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.job_forms import JobSecretAnswer, PhaseAnswer, render_phase, render_secret
from tenantry.interfaces.api.schema import Answer, Moment


class ConnectionAnswer(Answer):
    host: str
    port: int
    phase: str


class JobAnswer(Answer):
    id: str
    workspace: str
    status: str
    reason: str | None
    detail: str | None
    exit_code: int | None
    command: list[str]
    image: str
    image_digest: str | None
    labels: dict[str, str]
    environment: str | None
    limits: dict[str, float | int]
    network: list[ConnectionAnswer]
    inputs: list[dict[str, Any]]
    secrets: list[JobSecretAnswer]
    phases: list[PhaseAnswer] = Field(description="its programs in their order; empty: the one above is all")
    persistence_mode: str
    attempt: int
    created_by: str
    queued_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    usage: dict[str, Any] = Field(
        description="what its sandboxes used, as the kernel counted it, and which limits they ran into; empty until "
        "its end, and when no sandbox told: cpu_seconds, peak_memory_mib, wall_seconds, output_bytes, read_bytes, "
        "written_bytes (null where the kernel does not tell), oom_kills, memory_limit_hits, pids_refused, "
        "throttled_seconds; with a network sent_bytes, received_bytes, connections, denied_connections; of several "
        "phases also `phases`, by their names"
    )
    log: dict[str, Any] = Field(description="size and digest of the output, which remain when the content is gone")
    content_until: Moment | None
    sandbox: str | None = Field(default=None, description="the sandbox that lives by it")


def render_line(line: LogLine) -> dict[str, Any]:
    at = line.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"seq": line.seq, "stream": line.stream, "at": at, "text": line.text}


def render(job: Job) -> JobAnswer:
    return JobAnswer(
        id=format_id(Prefix.JOB, job.job_id),
        workspace=format_id(Prefix.WORKSPACE, job.workspace_id),
        status=job.status,
        reason=job.reason,
        detail=job.detail,
        exit_code=job.exit_code,
        command=list(job.command),
        image=job.image,
        image_digest=job.image_digest,
        labels=dict(job.labels),
        environment=job.environment,
        limits={
            "cpus": job.limits.cpus,
            "memory_mib": job.limits.memory_mib,
            "pids": job.limits.pids,
            "timeout_seconds": job.limits.timeout_seconds,
            "output_bytes": job.limits.output_bytes,
            "artifacts_mib": job.limits.artifacts_mib,
        },
        network=[ConnectionAnswer(host=one.host, port=one.port, phase=one.phase) for one in job.network],
        inputs=[dict(item) for item in job.inputs],
        secrets=[render_secret(each) for each in job.secrets],
        phases=[render_phase(each) for each in job.phases],
        persistence_mode=job.persistence_mode,
        attempt=job.attempt,
        created_by=job.principal_id,
        queued_at=job.queued_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        usage=dict(job.usage),
        log={"size_bytes": job.log_bytes, "sha256": job.log_sha256.hex() if job.log_sha256 else None},
        content_until=job.content_until,
        sandbox=format_id(Prefix.SANDBOX, job.sandbox_id) if job.sandbox_id else None,
    )
