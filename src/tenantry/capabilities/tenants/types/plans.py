"""Plans: what they allow, and how usage stands to it."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tenantry.capabilities.tenants.types.values import DisplayName, Value

RATE_NAME: Final = r"^((workspace|principal)\.)?(api_requests|job_submissions|agent_spawns)$"
"""An action of the whole tenant, or of each workspace or principal."""
RateName = Annotated[str, Field(pattern=RATE_NAME)]
_LONGEST_WINDOW_MS: Final = 31 * 86_400_000


class RateLimitSpec(Value):
    """`max_requests` in each `window_ms`, with as much at once unless `burst` says less."""

    max_requests: int = Field(ge=1)
    window_ms: int = Field(ge=1, le=_LONGEST_WINDOW_MS)
    burst: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _countable(self) -> Self:
        """Refuse what the counters could not hold: they count whole microseconds."""
        if self.max_requests > self.window_ms * 1000:
            raise ValueError("at most one request in a microsecond can be counted")
        if self.burst is not None and self.burst > self.max_requests:
            raise ValueError("burst is at most the number of requests")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, int]:
        """Leave out a burst that nobody named."""
        return {name: value for name, value in dump(self).items() if value is not None}


class PlanRateLimit(RateLimitSpec):
    """The same in the spelling of plans."""

    max_requests: int = Field(alias="maxRequests", ge=1)
    window_ms: int = Field(alias="windowMs", ge=1, le=_LONGEST_WINDOW_MS)


Quota = Annotated[int, Field(ge=0)] | Literal["unlimited"]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Annotated[int, Field(ge=0)] | Literal["custom"]


class Plan(Value):
    """One entry of the plan catalogue, in the catalogue's own spelling."""

    name: DisplayName
    price: Price
    quotas: dict[Literal["maxUsers", "maxProjects", "maxTokensPerMonth", "maxStorageGB", "maxConcurrentAgents"], Quota]
    features: list[str]
    weight: float = Field(default=1.0, gt=0, le=1_000_000, allow_inf_nan=False)
    """Share of the workers' time, against other tenants that wait at the same moment."""
    rate_limits: dict[RateName, PlanRateLimit]
    isolation: Literal["row_level", "schema_level", "database_level"] = "row_level"
    slos: dict[str, Any] = Field(default={})
    """Laid over the catalogue of SLOs, below what the tenant says; checked when the catalogues meet."""
    labels: dict[str, Any] = Field(default={})


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """`limit` None: unlimited. `exceeded` once nothing more fits: current >= limit."""

    current: float
    limit: int | None

    @property
    def unlimited(self) -> bool:
        return self.limit is None

    @property
    def exceeded(self) -> bool:
        return self.limit is not None and self.current >= self.limit
