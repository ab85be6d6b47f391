"""Sandboxes that live, and what is asked of one that runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from tenantry.capabilities.sandboxes.types import HOST_IMAGE, JobStatus, WantedSecret
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.engines.rules.types import Connection

MOST_LIFE_SECONDS: Final = 30 * 86_400
DEFAULT_TTL_SECONDS: Final = 3600
DEFAULT_IDLE_SECONDS: Final = 900
MOST_SNAPSHOTS: Final = 50
"""Of one sandbox."""
TREES: Final = "sandbox_tree"
SANDBOX: Final = "sandbox"
"""What the purge list calls a kept tree, and what a deleted sandbox has left."""


class LiveState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class NewSandbox:
    name: str
    image: str = HOST_IMAGE
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Mapping[str, float] = field(default_factory=dict)
    """`cpus`, `memory_mib`, `pids`; what is not named takes a job's default."""
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    secrets: tuple[WantedSecret, ...] = ()
    network: tuple[Connection, ...] = ()
    ttl_seconds: int | None = None
    """How long it lives from a start on; None: an hour, or the ceiling where that is less."""
    idle_seconds: int | None = None
    """After how long without traffic it is stopped; 0: never, None: a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class SandboxChanges:
    """What is None stays as it is."""

    labels: Mapping[str, str] | None = None
    ttl_seconds: int | None = None
    idle_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class KeptTree:
    """A /workspace as it was kept; its object is sealed under a key of its own and never written again."""

    tree_id: UUID
    workspace_id: UUID
    sandbox_id: UUID
    """Of whom it was kept; others may have begun from it."""
    place: str
    content_key: bytes = field(repr=False)
    size_bytes: int
    files: int
    sha256: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LiveJob:
    """The job that a sandbox lives by, or did last."""

    status: JobStatus
    reason: str | None
    detail: str | None
    link: str | None
    started_at: datetime | None
    finished_at: datetime | None
    limits: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LiveSandbox:
    sandbox_id: UUID
    workspace_id: UUID
    name: str
    image: str
    environment: str | None
    labels: Mapping[str, str]
    limits: Mapping[str, float]
    network: tuple[Connection, ...]
    secrets: tuple[WantedSecret, ...]
    persistence_mode: str
    """That of its workspace when it was created."""
    place: str
    content_key: bytes | None = field(repr=False)
    """Wrapped by the tenant's keyset: of its environment."""
    given: bytes | None = field(repr=False)
    """The environment, sealed."""
    ttl_seconds: int
    idle_seconds: int
    job_id: UUID | None
    tree_id: UUID | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    """When it is stopped, while it runs."""
    deleted_at: datetime | None
    version: int
    job: LiveJob | None = None
    tree: KeptTree | None = None

    @property
    def state(self) -> LiveState:
        """Told by the row and its job."""
        if self.deleted_at is not None:
            return LiveState.DELETED
        job = self.job
        if job is None:
            return LiveState.STOPPED
        if job.status is JobStatus.QUEUED:
            return LiveState.STARTING
        if job.status is JobStatus.RUNNING:
            if job.reason is not None:
                return LiveState.STOPPING
            return LiveState.STARTING if job.link is None else LiveState.RUNNING
        return LiveState.FAILED if job.status in (JobStatus.FAILED, JobStatus.DENIED) else LiveState.STOPPED

    @property
    def reason(self) -> str | None:
        """Why it stopped or failed, or is about to."""
        return self.job.reason if self.job is not None else None

    @property
    def keeps(self) -> bool:
        """Whether its files outlive a stop."""
        return self.persistence_mode == "full"


@dataclass(frozen=True, slots=True)
class Starter:
    """Who starts a sandbox, and the just-in-time grant that alone allows it."""

    principal: str
    grant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    snapshot_id: UUID
    sandbox_id: UUID
    name: str
    created_at: datetime
    created_by: str
    tree: KeptTree


@dataclass(frozen=True, slots=True)
class LivePlace:
    """Where a running sandbox answers; `address` is `unix:PATH` or `tls:HOST:PORT`."""

    sandbox_id: UUID
    job_id: UUID
    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExecWanted:
    """With a terminal all output is stdout. `output_bytes` is stdout and stderr together."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    workdir: str | None = None
    terminal: TerminalSize | None = None
    timeout_seconds: float | None = None
    output_bytes: int = 16 << 20
