"""Settings of limits: what the installation holds its tenants and workspaces to."""

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """What every group of settings is: not changed once read, and no key that means nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RateSettings(Frozen):
    """`max_requests` in each `window_ms`, with as much at once unless `burst` says less."""

    max_requests: int = Field(ge=1)
    window_ms: int = Field(ge=1)
    burst: int | None = Field(default=None, ge=1)


class WorkspaceLimitSettings(Frozen):
    """What each workspace has unless less is set; None is no limit of the installation's."""

    max_concurrent_jobs: int | None = Field(default=10, ge=0)
    max_concurrent_sandboxes: int | None = Field(default=5, ge=0)
    max_job_duration_seconds: int | None = Field(default=3600, ge=1)
    max_cpus_per_job: float | None = Field(default=4.0, gt=0, allow_inf_nan=False)
    max_memory_mib_per_job: int | None = Field(default=8192, ge=16)
    max_artifacts_mib: int | None = Field(default=1024, ge=0)
    """Of all artifacts of one job."""
    max_storage_gb: int | None = Field(default=50, ge=0)
    """Of logs, inputs, artifacts and images that are kept; a GB is 10^9 bytes."""
    daily_job_limit: int | None = Field(default=None, ge=0)


class LimitSettings(Frozen):
    """Rates of requests, what work may use, beside what plans say, of which a tenant and a workspace can only set less;
    metering.
    """

    workspace: WorkspaceLimitSettings = WorkspaceLimitSettings()

    rates: dict[str, RateSettings] = {}
    """For every tenant, by name: `{"principal.api_requests": {"max_requests": 600, "window_ms": 60000}}`."""
    open_to_reads: bool = True
    """Whether reads pass uncounted while the key-value store is away; else they are 503."""
    open_to_changes: bool = False
    """The same of everything else."""
    reconcile_seconds: float = Field(default=600.0, ge=1.0, le=86400.0)
    """How often the quota ledger of each tenant that has used something is proved against what it stands for."""
    metering_days: int = Field(default=400, ge=32, le=3660)
    """How long events of use are kept; the hours they add up to stay."""
