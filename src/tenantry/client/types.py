"""Shapes of answers: the members programs rely on. Answers hold more, and no member is missing by accident: what is
not known yet is null.
"""

from typing import Any, TypedDict

from tenantry.client.job_usage import JobUsage


class BootstrapKey(TypedDict):
    id: str
    secret: str
    expires_at: str


class Tenant(TypedDict, total=False):
    id: str
    slug: str
    name: str
    status: str
    region: str
    plan: str
    isolation: str
    bootstrap_key: BootstrapKey  # only in the answer to its creation


class Seat(TypedDict, total=False):
    region: str
    isolation: str


class TenantOperation(TypedDict, total=False):
    """`status`: waiting, running, succeeded, failed or cancelled; `failure`: what keeps it, or ended it.

    With an `ending` it is being put back, and will be that.
    """

    id: str
    kind: str
    status: str
    step: str
    source: Seat
    target: Seat
    requested_by: str
    confirmed_by: str | None
    cancelled_by: str | None
    failure: str | None
    ending: str | None
    due_at: str
    created_at: str
    updated_at: str


class TenantExport(TypedDict):
    """`key` opens the keys in the archive: keep it apart from that."""

    status: str
    size_bytes: int
    sha256: str
    key: str


class TenantImport(TenantOperation, total=False):
    tenant: str
    bootstrap_key: BootstrapKey


class ReloadedTenants(TypedDict, total=False):
    """`changed` and `skipped` name files, fields and lines, never values."""

    mode: str
    loaded: int
    changed: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


class Owner(TypedDict, total=False):
    """`user_id` is the one the identity provider uses, when known."""

    email: str
    name: str
    user_id: str


class Workspace(TypedDict, total=False):
    id: str
    tenant: str
    name: str
    path: str
    region: str
    status: str
    settings: dict[str, Any]


class Environment(TypedDict, total=False):
    slug: str
    kind: str
    description: str
    version: int


class Slos(TypedDict, total=False):
    """`slos` is what holds, null no limit; `overlay` what this layer says; `layers` the layer of each dotted path."""

    slos: dict[str, Any]
    overlay: dict[str, Any]
    version: int
    layers: dict[str, str] | None
    ignored: dict[str, list[str]] | None


class Labels(TypedDict, total=False):
    """As `Slos`, for the label catalogue."""

    labels: dict[str, Any]
    overlay: dict[str, Any]
    version: int
    layers: dict[str, str] | None
    ignored: dict[str, list[str]] | None


class LabelCheck(TypedDict):
    valid: bool
    faults: list[dict[str, str]]


class QuotaStatus(TypedDict):
    """`limit` is null when unlimited; `exceeded` means that nothing more fits."""

    current: float
    limit: int | None
    unlimited: bool
    exceeded: bool


class Usage(TypedDict, total=False):
    """`storage_bytes` by kind of content; `by_workspace` the 200 workspaces that keep most."""

    current_users: int
    current_projects: int
    tokens_this_month: int
    concurrent_agents: int
    storage_used_bytes: int
    storage_used_gb: float
    storage_bytes: dict[str, int]
    by_workspace: list[dict[str, Any]]
    month: str


class JobInput(TypedDict):
    """A file the job finds at `path` below /inputs, read-only."""

    path: str
    content_base64: str


class JobLimits(TypedDict, total=False):
    """All of them lower the workspace's limits, none raises them."""

    cpus: float
    memory_mib: int
    pids: int
    timeout_seconds: float
    output_bytes: int
    artifacts_mib: int


class Connection(TypedDict):
    """What a job may connect to: a name, `*.name` for all below it, or an address."""

    host: str
    port: int


class Job(TypedDict, total=False):
    id: str
    status: str
    exit_code: int | None
    reason: str | None
    detail: str | None
    phases: list[dict[str, Any]]
    queued_at: str
    started_at: str | None
    finished_at: str | None
    usage: JobUsage
    labels: dict[str, str]


class Artifact(TypedDict, total=False):
    id: str
    path: str
    size_bytes: int
    sha256: str


class GivenInput(TypedDict):
    path: str
    size_bytes: int
    sha256: str


class Image(TypedDict, total=False):
    id: str
    name: str
    digest: str
    size_bytes: int


class PullProgress(TypedDict, total=False):
    """How far a pull is: `phase` is asking, fetching, unpacking or storing; no number is ever less than before.

    `layers_done` and `bytes_done` are fetched, of totals that are 0 until the registry has told them.
    """

    reference: str
    phase: str
    layers_done: int
    layers_total: int
    layers_unpacked: int
    bytes_done: int
    bytes_total: int


class RateValue(TypedDict, total=False):
    """`max_requests` in each `window_ms`, at most `burst` at once."""

    max_requests: int
    window_ms: int
    burst: int


class Limits(TypedDict, total=False):
    """What holds in a tenant or workspace: each number by the lowest of all layers, None where there is none."""

    max_concurrent_jobs: int | None
    max_concurrent_sandboxes: int | None
    max_concurrent_agents: int | None
    daily_job_limit: int | None
    max_storage_gb: float | None
    max_tokens_per_month: int | None
    max_users: int | None
    max_workspaces: int | None
    max_job_duration_seconds: int | None
    max_cpus_per_job: float | None
    max_memory_mib_per_job: int | None
    max_artifacts_mib: int | None
    on_limit: str | None
    sources: dict[str, dict[str, Any]]
    own: dict[str, float]
    rates: dict[str, RateValue]
    version: int
    updated_at: str | None
    updated_by: str | None


class RateStanding(RateValue, total=False):
    """A rate that holds, by the lowest of its layers, and what is left of it."""

    name: str
    holder: str
    action: str
    workspace: str | None
    layer: str
    burst_layer: str
    layers: dict[str, RateValue]
    remaining: int
    reset_ms: int


class RateStandings(TypedDict):
    rates: list[RateStanding]


class Metered(TypedDict, total=False):
    """An hour (`hour`, `events`, `finished`) or an event of use; `quantity` is an exact decimal, in `unit`."""

    workspace: str
    meter: str
    quantity: str
    unit: str
    hour: str
    events: int
    finished: bool
    id: str
    occurred_at: str
    subject: str
    principal: str | None
    recorded_at: str
    attributes: dict[str, Any]


class Policy(TypedDict, total=False):
    """A version; `state` draft, shadow, enforced or retired; `source` as it was written."""

    id: str
    kind: str
    workspace: str | None
    version: int
    state: str
    digest: str
    document: dict[str, Any]
    source: str
    created_at: str
    created_by: str
    changed_at: str


class PolicyOutcome(TypedDict, total=False):
    """What all layers say; `shadow` what they would with what is in shadow, None where nothing is."""

    decision: str
    layer: str | None
    rule: str | None
    reasons: list[dict[str, Any]]
    requires_approval: bool
    shadow: dict[str, Any] | None


class Exemption(TypedDict, total=False):
    id: str
    workspace: str | None
    kind: str
    rule: str
    owner: str
    reason: str
    expires_at: str
    created_at: str
    created_by: str
    revoked_at: str | None


class NotificationChannel(TypedDict, total=False):
    """`secret` only in the answer that makes one; `hint` shows where it leads, never the address."""

    id: str
    workspace: str | None
    name: str
    kind: str
    hint: str
    topics: list[str]
    status: str
    version: int
    secret: str | None


class NotificationDelivery(TypedDict, total=False):
    """`status`: pending, sent or failed; `last_error` a code."""

    id: str
    topic: str
    channel: str | None
    recipient: str | None
    status: str
    attempts: int
    next_attempt_at: str | None
    last_error: str | None
    created_at: str
    sent_at: str | None


class AuditEvent(TypedDict, total=False):
    id: str
    sequence: int
    occurred_at: str
    tenant: str
    workspace: str | None
    actor: dict[str, Any]
    action: str
    resource: dict[str, Any]
    outcome: str
    reason: str | None
    ip: str | None
    details: dict[str, Any]
    withheld: list[str]


class WorkspaceAccess(TypedDict, total=False):
    id: str
    roles: list[str]
    permissions: list[str]


class Me(TypedDict, total=False):
    """`permissions` are those held in the whole tenant."""

    principal: dict[str, Any]
    login: dict[str, Any] | None
    tenant: dict[str, str]
    permissions: list[str]
    workspaces: list[WorkspaceAccess]
