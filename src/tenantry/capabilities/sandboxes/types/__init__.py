"""Jobs, images, artifacts and log lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.secrets.types import SecretReference
from tenantry.engines.rules.types import Connection, Phase

JOB_NEWS: Final = "tenantry_jobs"
"""NOTIFY channel of a cell; the payload is the job whose state or log has grown."""
QUEUE_NEWS: Final = "tenantry_queue"
"""NOTIFY channel of a cell for its workers: something was enqueued in the lane that the payload names, or in any; or is
to be killed or narrowed where it says so.
"""
JOBS: Final = "job"
SANDBOXES: Final = "sandbox"
"""Lanes: labels that tell who may claim an entry."""
LANES: Final = frozenset({JOBS, SANDBOXES})
CANCELLATION: Final = "cancellation"
NARROWING: Final = "narrowing"
CONTENT_KEYS: Final = "tenantry_content_keys"
"""NOTIFY channel on which processes ask each other for keys that nobody stores; see `service/transient`."""
CONTENT: Final = "job"
"""What the purge list calls the content of a job."""
HOST_IMAGE: Final = "host"


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    DENIED = "denied"

    @property
    def ended(self) -> bool:
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What a job may use; the defaults are a small job's.

    `output_bytes` is stdout and stderr together, `artifacts_mib` all that it leaves.
    """

    cpus: float = 1.0
    memory_mib: int = 512
    pids: int = 128
    timeout_seconds: float = 600.0
    output_bytes: int = 1 << 20
    artifacts_mib: int = 256


MOST_PIDS: Final = 4096
MOST_OUTPUT_BYTES: Final = 64 << 20
JOB: Final = "job"
IMAGE: Final = "image"
TREE: Final = "tree"
"""What reservations are held for."""


@dataclass(frozen=True, slots=True)
class JobInput:
    path: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Injected:
    """Where the gateway puts it: into requests in TLS to `host`, for a placeholder or as the whole of `header`."""

    host: str
    header: str | None = None


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A secret by its name, the newest version unless one is named, and where it goes: a variable or a file.

    With `inject` the variable holds a placeholder, and the sandbox never has the value.
    """

    name: str
    version: int | None = None
    env: str | None = None
    file: str | None = None
    """Below /run/secrets."""
    phase: Phase = Phase.RUN
    inject: Injected | None = None


@dataclass(frozen=True, slots=True)
class JobSecret:
    """A secret that a job is given: what it was when the job was accepted, and where it goes. Never its value."""

    secret: SecretReference
    env: str | None = None
    file: str | None = None
    phase: Phase = Phase.RUN
    inject: Injected | None = None


@dataclass(frozen=True, slots=True)
class NewPhase:
    """One program of a job, in a sandbox of its own; /workspace goes on to the next one."""

    phase: Phase
    command: tuple[str, ...]
    image: str | None = None
    """None: the job's."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float | None = None
    """At most; all of them together have what the job has."""
    writable: bool = True
    """Whether it may change /workspace."""
    inputs: bool = False
    """Whether it is given /inputs."""


@dataclass(frozen=True, slots=True)
class JobPhase:
    """The same, of a job that was accepted: without its variables, which are sealed."""

    phase: Phase
    command: tuple[str, ...]
    image: str
    image_digest: str | None = None
    timeout_seconds: float | None = None
    writable: bool = True
    inputs: bool = True


@dataclass(frozen=True, slots=True)
class Keeper:
    """A job that only keeps a sandbox: which, and under which id its /workspace is kept at the end, if it is."""

    sandbox_id: UUID
    tree_id: UUID | None


@dataclass(frozen=True, slots=True)
class NewJob:
    command: tuple[str, ...]
    image: str = HOST_IMAGE
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    inputs: tuple[JobInput, ...] = field(default=(), repr=False)
    artifacts: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    """By the names of JobLimits; what is not named takes the default."""
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    grant_id: UUID | None = None
    """The just-in-time grant that alone allows it."""
    secrets: tuple[WantedSecret, ...] = ()
    network: tuple[Connection, ...] = ()
    """What it asks to reach."""
    phases: tuple[NewPhase, ...] = ()
    """Its programs, in their order, where it has more than the one above: that is then the one of `run`."""
    keeper: Keeper | None = None
    """The sandbox that is to live by it: then there is no command."""

    @property
    def programs(self) -> tuple[NewPhase, ...]:
        return self.phases or (NewPhase(Phase.RUN, self.command, env=self.env, inputs=True),)


@dataclass(frozen=True, slots=True)
class Job:
    """`inputs` lists path, size and digest of what was given; the content is apart."""

    job_id: UUID
    workspace_id: UUID
    principal_id: str
    status: JobStatus
    reason: str | None
    detail: str | None
    exit_code: int | None
    command: tuple[str, ...]
    image: str
    image_digest: str | None
    labels: Mapping[str, str]
    limits: JobLimits
    artifact_globs: tuple[str, ...]
    persistence_mode: str
    """That of its workspace when it was created; a later change of the workspace's does not reach it."""
    place: str
    """Of its workspace when it was created; below it lie the job's objects."""
    content_key: bytes | None = field(repr=False)
    """Wrapped by the tenant's keyset: of what it is given, until it has ended; in mode `full` of everything."""
    transient_key: bytes | None = field(repr=False)
    """Wrapped by a key that only the memory of `transient_holder` has: of what it leaves in mode `metadata_only`, and
    once it has ended of its inputs."""
    transient_holder: UUID | None
    inputs: tuple[Mapping[str, Any], ...]
    attempt: int
    log_bytes: int
    log_sha256: bytes | None
    usage: Mapping[str, Any]
    receipt: Mapping[str, Any] | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    content_until: datetime | None
    content_purged_at: datetime | None
    environment: str | None = None
    """Slug of the environment it is for, one of its workspace's when it was created."""
    grant_id: UUID | None = None
    """The just-in-time grant that alone allows it: it ends with that."""
    network: tuple[Connection, ...] = ()
    """What it asked to reach and policies allowed; nothing else is to be had."""
    secrets: tuple[JobSecret, ...] = ()
    phases: tuple[JobPhase, ...] = ()
    """Its programs, in their order, where it was asked for by phases; else the one above is all."""
    sandbox_id: UUID | None = None
    """The sandbox that lives by it."""
    tree_id: UUID | None = None
    """Under which its /workspace is to be kept at its end; None where nothing is kept."""
    link: str | None = None
    """Where its worker answers for what runs in it, while it runs."""

    @property
    def programs(self) -> tuple[JobPhase, ...]:
        return self.phases or (JobPhase(Phase.RUN, self.command, self.image, self.image_digest),)

    @property
    def lane(self) -> str:
        return JOBS if self.sandbox_id is None else SANDBOXES

    @property
    def content_kept(self) -> bool:
        """Whether some key of its content is still there."""
        return self.content_key is not None or self.transient_key is not None


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job whose attempt has begun, with what only its worker is told."""

    job: Job
    sealed_given: bytes | None = field(repr=False)
    sealed_inputs: bytes | None = field(repr=False)
    min_isolation: str | None
    """What its workspace asks for; None leaves it to the installation."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of output as it came; `seq` counts from 1 within the job."""

    seq: int
    stream: str
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class SealedLine:
    """A piece of output as it is stored."""

    seq: int
    stream: str
    at: datetime
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Artifact:
    artifact_id: UUID
    job_id: UUID
    path: str
    size_bytes: int
    sha256: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimedArtifact:
    """An artifact as an archive tells it; `due` when its content is to go now anyway."""

    place: str
    job_id: UUID
    artifact_id: UUID
    size_bytes: int
    due: bool


@dataclass(frozen=True, slots=True)
class Image:
    image_id: UUID
    name: str
    digest: str
    size_bytes: int
    source: str
    created_at: datetime
    created_by: str


class PullPhase(StrEnum):
    ASKING = "asking"
    FETCHING = "fetching"
    UNPACKING = "unpacking"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is. Phases come in their order, perhaps not all; no number is ever less than before.

    `layers_done` and `bytes_done` are fetched, of totals that are 0 until the registry has told them.
    """

    reference: str
    phase: PullPhase = PullPhase.ASKING
    layers_done: int = 0
    layers_total: int = 0
    layers_unpacked: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended. `reason` is a stable word, `detail` is for people.

    The receipt of a job of several phases has one for each that began, by its name, under `phases`.
    """

    status: JobStatus
    reason: str
    detail: str = ""
    exit_code: int | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None
    log_bytes: int = 0
    log_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Taking:
    """What a job takes: everything it holds while open, then its content until that is purged."""

    job_id: UUID
    open: bool
    begun: bool
    kept_bytes: int
    daily: bool = True
    """Whether it counts to the jobs of its day."""


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """A queue entry in a database that one tenant has for itself; see `service/queue_relay`."""

    tenant_id: UUID
    workspace_id: UUID
    principal_id: UUID
    job_id: UUID
    estimate_seconds: float
    slots: int
    labels: tuple[str, ...]
    cancel_requested: bool
    used_slot_seconds: float | None
    attempt: int


@dataclass(frozen=True, slots=True)
class RemoteShare:
    """What such a database says of a weight and cap in the queue; `workspace_id` None: of the whole tenant."""

    tenant_id: UUID
    workspace_id: UUID | None
    weight: float
    most_running: int | None
