"""Sandboxes and snapshots as bodies and answers."""

from typing import Annotated, Any, Final

from pydantic import Field

from tenantry.capabilities.sandboxes.types import HOST_IMAGE
from tenantry.capabilities.sandboxes.types.living import (
    MOST_LIFE_SECONDS,
    LiveSandbox,
    LiveState,
    NewSandbox,
    Snapshot,
)
from tenantry.foundation.ids import Prefix, format_id
from tenantry.interfaces.api.job_answers import ConnectionAnswer
from tenantry.interfaces.api.job_forms import ConnectionBody, Number, SecretUseBody, Slug, Text, VariableName
from tenantry.interfaces.api.schema import Answer, Body, Moment

_NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=_NAME, description="lower-case letters, digits and hyphens")]
Labels = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")], Annotated[str, Field(max_length=200)]],
    Field(max_length=50),
]
Ttl = Annotated[int, Field(ge=1, le=MOST_LIFE_SECONDS)]
Idle = Annotated[int, Field(ge=0, le=MOST_LIFE_SECONDS)]


class SandboxLimitsBody(Body):
    cpus: Annotated[Number, Field(gt=0, le=1024, allow_inf_nan=False)] | None = None
    memory_mib: int | None = Field(default=None, ge=16, le=1 << 24)
    pids: int | None = Field(default=None, ge=1, le=1 << 20)


class SandboxBody(Body):
    name: Name
    image: str = Field(default=HOST_IMAGE, min_length=1, max_length=300)
    env: dict[VariableName, Text] = Field(default={}, max_length=200)
    limits: SandboxLimitsBody = SandboxLimitsBody()
    labels: Labels = Field(default={})
    environment: Slug | None = Field(default=None, description="one of the workspace's environments")
    secrets: list[SecretUseBody] = Field(default=[], max_length=32, description="asks for `secret:use`")
    network: list[ConnectionBody] = Field(default=[], max_length=64, description="what it may connect to; else nothing")
    ttl_seconds: Ttl | None = Field(default=None, description="how long it lives from a start on; an hour, unless told")
    idle_seconds: Idle | None = Field(
        default=None, description="after how long without traffic it is stopped; 0: never; 900, unless told"
    )
    start: bool = Field(default=True, description="whether it starts at once, which asks for `sandbox:start`")

    @property
    def wanted(self) -> NewSandbox:
        return NewSandbox(
            name=self.name,
            image=self.image,
            env=self.env,
            limits=self.limits.model_dump(exclude_none=True),
            labels=self.labels,
            environment=self.environment,
            secrets=tuple(each.wanted() for each in self.secrets),
            network=tuple(each.connection for each in self.network),
            ttl_seconds=self.ttl_seconds,
            idle_seconds=self.idle_seconds,
        )


class SandboxChangesBody(Body):
    labels: Labels | None = None
    ttl_seconds: Ttl | None = None
    idle_seconds: Idle | None = None


class ExtensionBody(Body):
    seconds: Ttl | None = Field(default=None, description="from now on; its ttl_seconds, unless told")


class SnapshotBody(Body):
    name: Name


class ForkBody(Body):
    name: Name
    snapshot: str | None = Field(default=None, max_length=64, description="one of this sandbox; its files now, if none")
    start: bool = True


class SandboxAnswer(Answer):
    id: str
    workspace: str
    name: str
    status: str
    reason: str | None = Field(description="why it stopped or failed, or is about to")
    detail: str | None
    image: str
    labels: dict[str, str]
    environment: str | None
    limits: dict[str, float | int]
    network: list[ConnectionAnswer]
    secrets: list[str] = Field(description="names; which version it is given, its job says")
    persistence_mode: str
    files_kept: bool = Field(description="whether a stop keeps its files; else they go with it")
    ttl_seconds: int
    idle_seconds: int
    job: str | None = Field(description="the job it lives by, or did last")
    created_by: str
    created_at: Moment
    started_at: Moment | None
    expires_at: Moment | None
    kept: dict[str, Any] | None = Field(description="what the next start begins from: size, digest and count of files")


class SnapshotAnswer(Answer):
    id: str
    sandbox: str
    name: str
    size_bytes: int
    files: int
    sha256: str
    created_at: Moment
    created_by: str


def render(sandbox: LiveSandbox) -> SandboxAnswer:
    job, tree = sandbox.job, sandbox.tree
    return SandboxAnswer(
        id=format_id(Prefix.SANDBOX, sandbox.sandbox_id),
        workspace=format_id(Prefix.WORKSPACE, sandbox.workspace_id),
        name=sandbox.name,
        status=sandbox.state,
        reason=sandbox.reason,
        detail=job.detail if job else None,
        image=sandbox.image,
        labels=dict(sandbox.labels),
        environment=sandbox.environment,
        limits=dict(sandbox.limits),
        network=[ConnectionAnswer(host=one.host, port=one.port, phase=one.phase) for one in sandbox.network],
        secrets=[each.name for each in sandbox.secrets],
        persistence_mode=sandbox.persistence_mode,
        files_kept=sandbox.keeps,
        ttl_seconds=sandbox.ttl_seconds,
        idle_seconds=sandbox.idle_seconds,
        job=format_id(Prefix.JOB, sandbox.job_id) if sandbox.job_id else None,
        created_by=sandbox.created_by,
        created_at=sandbox.created_at,
        started_at=job.started_at if job else None,
        expires_at=sandbox.expires_at if sandbox.state is LiveState.RUNNING else None,
        kept={"size_bytes": tree.size_bytes, "files": tree.files, "sha256": tree.sha256.hex(), "at": tree.created_at}
        if tree
        else None,
    )


def render_snapshot(snapshot: Snapshot) -> SnapshotAnswer:
    return SnapshotAnswer(
        id=format_id(Prefix.SNAPSHOT, snapshot.snapshot_id),
        sandbox=format_id(Prefix.SANDBOX, snapshot.sandbox_id),
        name=snapshot.name,
        size_bytes=snapshot.tree.size_bytes,
        files=snapshot.tree.files,
        sha256=snapshot.tree.sha256.hex(),
        created_at=snapshot.created_at,
        created_by=snapshot.created_by,
    )
