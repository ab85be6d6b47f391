"""Tenants, plans, placements, workspaces."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from tenantry.capabilities.tenants.types.values import DisplayName, Value, printable

PLATFORM_TENANT: Final = UUID("00000000-0000-7000-8000-000000000001")
PLATFORM_SLUG: Final = "platform"
RESERVED_SLUGS: Final = frozenset({PLATFORM_SLUG, "import"})
"""The installation's own, and what stands in an address where a tenant's would."""
REVOCATIONS: Final = "tenantry_revocations"
"""NOTIFY channel; the payload is the tenant whose keys, permissions or states changed."""

EXPORTS: Final = "exports/"
"""Begin of the keys under which a tenant's exports lie, among its objects."""

BYTES_PER_GB: Final = 10**9
"""As plans count: decimal gigabytes (IEC 80000-13)."""

SLUG_PATTERN: Final = r"^[a-z0-9-]{2,40}$"
# RFC 5321 lengths; whether an address exists only its mail server knows.
EMAIL_PATTERN: Final = r"^[^@\s\x00-\x1f]{1,64}@[A-Za-z0-9.-]{1,189}\.[A-Za-z0-9-]{2,63}$"
# Lower-case ASCII that begins and ends with a letter or digit: no two spellings of one name, no way up.
_SEGMENT: Final = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
PATH_PATTERN: Final = rf"^(personal/{_SEGMENT}|teams/{_SEGMENT}(/{_SEGMENT})?|agents/{_SEGMENT})$"
OWNER_FOLDERS: Final = {"user": "personal", "team": "teams", "ai-agent": "agents"}
"""The first segment of a workspace's path, by the type of its owner."""
ENVIRONMENT_PATTERN: Final = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"


ImageGlob = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(printable)]
_Note = Annotated[str, Field(max_length=500)]
Compliance = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], _Note | int | float | bool | list[_Note]],
    Field(max_length=100),
]
"""What a tenant must comply with, in its operator's words: nothing here is interpreted."""
Email = Annotated[str, Field(pattern=EMAIL_PATTERN)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # as ZoneInfoNotFoundError, and for names that are paths
        raise ValueError("must be a time zone of the IANA database, as Europe/Berlin") from None
    return name


TimeZone = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_known_zone)]


class TenantStatus(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"
    ERASED = "erased"
    """In the directory alone, which keeps the slug from others for ever."""


class Isolation(StrEnum):
    ROW_LEVEL = "row_level"
    SCHEMA_LEVEL = "schema_level"
    DATABASE_LEVEL = "database_level"


class WorkspaceStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ARCHIVED = "archived"


class Owner(Value):
    """The human who answers for a tenant."""

    email: Email
    name: DisplayName
    user_id: str | None = Field(default=None, max_length=200)


class TenantSettings(Value):
    """What a tenant sets for all of its workspaces."""

    default_model: str | None = Field(default=None, max_length=200)
    allowed_models: list[str] | None = Field(default=None, max_length=100)
    compliance_frameworks: list[str] = Field(default=[], max_length=50)
    persistence_mode: Literal["metadata_only", "full"] = "metadata_only"
    timezone: TimeZone = "UTC"
    """Of the IANA database: where a day, and a month, of its quotas begins."""


class WorkspaceSettings(Value):
    """What a workspace sets for its jobs, sandboxes and grants (of those, only more strictly than the installation)."""

    persistence_mode: Literal["metadata_only", "full"] = "metadata_only"
    """Whether the content of jobs is kept after them; a new workspace takes its tenant's unless told."""
    cleanup_policy: Literal["always", "on_success", "never"] = "always"
    """What becomes of a sandbox when its work has ended, unless the work says otherwise."""
    allowed_images: list[ImageGlob] = Field(default=[], max_length=200)
    """Empty: every image of the workspace; what is blocked is blocked all the same."""
    blocked_images: list[ImageGlob] = Field(default=[], max_length=200)
    max_job_timeout_seconds: int = Field(default=3600, ge=1, le=7 * 86400)
    retention_days: int = Field(default=30, ge=1, le=3650)
    min_isolation: Literal["rlimit", "cgroup", "gvisor"] | None = None
    """None takes the installation's; a workspace can only ask for more, never for less."""
    on_limit: Literal["reject", "queue"] = "queue"
    """What becomes of a job that is one too many to run at once: refused, or it waits until another ends."""
    max_grant_minutes: int | None = Field(default=None, ge=1, le=366 * 24 * 60)
    grant_quorum: int | None = Field(default=None, ge=1, le=20)


class WorkspaceOwner(Value):
    type: Literal["user", "team", "ai-agent"]
    id: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")


class OverlayKind(StrEnum):
    SLOS = "slos"
    LABELS = "labels"


@dataclass(frozen=True, slots=True)
class OverlayFault:
    """What an overlay or a set of labels breaks: the dotted path, the rule as a stable word, and for people."""

    field: str
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What a capability counts of its own rows. `workspace_id` None: of the tenant as a whole."""

    name: str
    amount: int
    workspace_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant uses now; bytes are those of content as it was given, what sealing adds not counted."""

    current_users: int
    current_projects: int
    tokens_this_month: int
    concurrent_agents: int
    storage_bytes: Mapping[str, int]
    """By kind of content."""
    by_workspace: Mapping[UUID, Mapping[str, int]]
    """Storage of each workspace that keeps any, by kind, largest first."""
    month: datetime
    """Begin of the month that counts, in UTC."""

    @property
    def storage_used_bytes(self) -> int:
        return sum(self.storage_bytes.values())

    @property
    def storage_used_gb(self) -> float:
        return self.storage_used_bytes / BYTES_PER_GB


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tenant lives; all that the directory knows."""

    tenant_id: UUID
    slug: str
    region: str
    isolation: Isolation
    placement: str
    """`tenantry` (shared), `t_…` (a schema of its own) or the name of a database of its own."""
    status: TenantStatus
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a tenant's rows are, or are to be."""

    region: str
    isolation: Isolation
    place: str


class OperationKind(StrEnum):
    MOVE = "move"
    EXPORT = "export"
    IMPORT = "import"
    ERASE = "erase"


class OperationStatus(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Operation:
    """Work on a whole tenant, by its next step; `epoch` fences who held it before, with an `ending` it is put back."""

    operation_id: UUID
    tenant_id: UUID
    kind: OperationKind
    status: OperationStatus
    step: str
    source: Seat
    target: Seat
    requested_by: str
    confirmed_by: str | None
    failure: str | None
    grace_seconds: int
    due_at: datetime
    epoch: int
    created_at: datetime
    updated_at: datetime
    step_since: datetime
    ending: OperationStatus | None = None
    cancelled_by: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is shown of a tenant that was erased: ids, counts and digests, under the installation's signature."""

    certificate_id: UUID
    subject_id: UUID
    document: dict[str, Any]
    signature: bytes | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoreTally:
    """What a store holds of a tenant; `size_bytes` None where nobody counts them."""

    count: int
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's record in its cell. Dicts are as validated at the edge."""

    tenant_id: UUID
    slug: str
    name: str
    status: TenantStatus
    status_reason: str | None
    plan: str
    region: str
    isolation: Isolation
    owner: dict[str, Any]
    settings: dict[str, Any]
    quotas: dict[str, Any]
    limits: dict[str, Any]
    billing: dict[str, Any]
    contacts: dict[str, Any]
    metadata: dict[str, Any]
    compliance: dict[str, Any]
    slo_overlay: dict[str, Any]
    label_overlay: dict[str, Any]
    clock_skew_ms: int
    version: int
    created_at: datetime
    updated_at: datetime
    suspended_at: datetime | None
    deleted_at: datetime | None
    erase_after: datetime | None


@dataclass(frozen=True, slots=True)
class NewTenant:
    """What a platform administrator says of a tenant to be made."""

    name: str
    slug: str
    plan: str
    region: str
    owner: Owner
    isolation: Isolation | None = None
    settings: TenantSettings = field(default_factory=TenantSettings)
    quotas: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    billing: dict[str, Any] | None = None
    contacts: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    compliance: dict[str, Any] | None = None
    slo_overlay: dict[str, Any] | None = None
    label_overlay: dict[str, Any] | None = None
    clock_skew_ms: int = 5000


@dataclass(frozen=True, slots=True, repr=False)
class BootstrapKey:
    """The owner's way in; `secret` is shown once."""

    id: str
    secret: str
    expires_at: datetime


class EnvironmentKind(StrEnum):
    DEV = "dev"
    TEST = "test"
    STAGING = "staging"
    PROD = "prod"


@dataclass(frozen=True, slots=True)
class Environment:
    """A tier of a workspace."""

    slug: str
    kind: EnvironmentKind
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Workspace:
    workspace_id: UUID
    name: str
    path: str
    region: str
    owner_type: str
    owner_id: str
    settings: WorkspaceSettings
    slo_overlay: dict[str, Any]
    label_overlay: dict[str, Any]
    status: WorkspaceStatus
    status_reason: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredThing:
    """One thing for an archive: `name` tells it from others of its store, `about` is what its restorer needs besides.

    `content` is read once and has exactly `size` bytes.
    """

    name: str
    size: int
    content: AsyncIterator[bytes]
    about: Mapping[str, Any] = field(default_factory=dict)
