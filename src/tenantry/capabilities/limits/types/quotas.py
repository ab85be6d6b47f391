"""Quotas: what is counted, what bounds a single job, and where a value comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from tenantry.capabilities.limits.types import Holder, Layer
from tenantry.capabilities.tenants.types import BYTES_PER_GB
from tenantry.capabilities.tenants.types.values import Value

MOST_AMOUNT: Final = 2**53 - 1
"""What JSON numbers carry exactly (RFC 8259 §6)."""

_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
_Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Quota(StrEnum):
    """What is counted, by the name under which a place sets its most. What runs is counted from its acceptance on."""

    CONCURRENT_JOBS = "max_concurrent_jobs"
    CONCURRENT_SANDBOXES = "max_concurrent_sandboxes"
    CONCURRENT_AGENTS = "max_concurrent_agents"
    DAILY_JOBS = "daily_job_limit"
    STORAGE = "max_storage_gb"
    TOKENS = "max_tokens_per_month"
    USERS = "max_users"
    WORKSPACES = "max_workspaces"

    @property
    def unit(self) -> int:
        """How many of what is counted make one of the number that is set: storage is counted in bytes."""
        return BYTES_PER_GB if self is Quota.STORAGE else 1

    @property
    def window(self) -> Literal["day", "month"] | None:
        """After what it begins anew, in the tenant's time zone; None for what goes up and down."""
        return {Quota.DAILY_JOBS: "day", Quota.TOKENS: "month"}.get(self)  # type: ignore[return-value]  # as annotated


class Ceiling(StrEnum):
    """What bounds each job by itself; nothing is counted."""

    JOB_SECONDS = "max_job_duration_seconds"
    JOB_CPUS = "max_cpus_per_job"
    JOB_MEMORY = "max_memory_mib_per_job"
    JOB_ARTIFACTS = "max_artifacts_mib"


class LimitNumbers(Value):
    """What a place sets; what it leaves out, the layers above decide."""

    max_concurrent_jobs: _Count | None = None
    max_concurrent_sandboxes: _Count | None = None
    max_concurrent_agents: _Count | None = None
    daily_job_limit: _Count | None = None
    max_storage_gb: _Count | None = None
    max_tokens_per_month: Annotated[int, Field(ge=0, le=MOST_AMOUNT)] | None = None
    max_users: _Positive | None = None
    max_workspaces: _Count | None = None
    max_job_duration_seconds: Annotated[int, Field(ge=1, le=7 * 86400)] | None = None
    max_cpus_per_job: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] | None = None
    max_memory_mib_per_job: Annotated[int, Field(ge=16, le=1 << 24)] | None = None
    max_artifacts_mib: Annotated[int, Field(ge=0, le=1 << 20)] | None = None

    @property
    def said(self) -> dict[str, float]:
        """Only what is set."""
        return self.model_dump(exclude_none=True)


class Feature(StrEnum):
    """What a plan may include, as the catalogue spells it; what is not here is a label of the plan."""

    ORCHESTRATION = "basic_orchestration"
    """Jobs and workflows."""
    SKILLS = "custom_skills"
    """Images and connectors of one's own."""
    AGENTS = "custom_agents"
    COMPLIANCE = "compliance_tools"
    SSO = "sso"
    """Identity providers of one's own."""
    AUDIT_STREAMS = "audit_logs"
    INSIGHTS = "compliance_dashboards"


EVERY_FEATURE: Final = "all"


@dataclass(frozen=True, slots=True)
class EffectiveLimit:
    """The lowest of all layers, and who gave it; `most` None is unlimited."""

    name: str
    holder: Holder
    most: float | None
    layer: Layer | None
    layers: Mapping[Layer, float]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a holder has of a quota in its present window: held for what is under way, used for good."""

    quota: Quota
    holder_id: UUID
    window_start: datetime
    held: int = 0
    used: int = 0
    updated_at: datetime | None = None

    @property
    def taken(self) -> int:
        return self.held + self.used


@dataclass(frozen=True, slots=True)
class QuotaStanding:
    effective: EffectiveLimit
    counted: Counted


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which quota of whom has no room, and how it stands."""

    quota: Quota
    holder_id: UUID
    wanted: int
    most: int
    held: int
    used: int


class ReservationState(StrEnum):
    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Reserved:
    """An item of a reservation that still holds something, or keeps `used` of what has no window."""

    reservation_id: UUID
    quota: Quota
    held: bool
    used: int


@dataclass(frozen=True, slots=True)
class Repair:
    """A counter that did not agree with its reservations, or a reservation with what it stands for."""

    quota: str
    holder_id: UUID
    was: Mapping[str, int]
    set_to: Mapping[str, int]


ALWAYS: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
"""The window of what goes up and down instead of beginning anew."""
