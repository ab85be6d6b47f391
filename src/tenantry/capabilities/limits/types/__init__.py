"""Rates, the layers they come from, and how they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Self
from uuid import UUID

from tenantry.capabilities.tenants.types.plans import RateLimitSpec


class Action(StrEnum):
    """What is counted. Each request is one of `api_requests`; some are of another kind besides."""

    API_REQUESTS = "api_requests"
    JOB_SUBMISSIONS = "job_submissions"
    AGENT_SPAWNS = "agent_spawns"
    LIMIT_CHANGES = "limit_changes"
    """Counted apart from all others, at a rate that nobody sets: whoever has narrowed too far can widen again."""


class Holder(StrEnum):
    """Whose rate it is; counted for each workspace and each principal apart."""

    TENANT = "tenant"
    WORKSPACE = "workspace"
    PRINCIPAL = "principal"


class Layer(StrEnum):
    """Who says so, from the widest to the narrowest."""

    PLATFORM = "platform"
    PLAN = "plan"
    TENANT = "tenant"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Rate:
    """`max_requests` in each `window_ms`, with at most `burst` at once."""

    max_requests: int
    window_ms: int
    burst: int

    @classmethod
    def of(cls, spec: RateLimitSpec) -> Self:
        return cls(spec.max_requests, spec.window_ms, spec.max_requests if spec.burst is None else spec.burst)

    @property
    def pace(self) -> Fraction:
        """Requests in a millisecond."""
        return Fraction(self.max_requests, self.window_ms)


Rates = Mapping[str, Rate]
"""By name: an action is the tenant's, `workspace.` and `principal.` before it is each one's."""


@dataclass(frozen=True, slots=True)
class EffectiveRate:
    """The lowest pace and the lowest burst of all layers, and who gave which. `within`: counted in it alone."""

    holder: Holder
    action: Action
    rate: Rate
    layer: Layer
    burst_layer: Layer
    layers: Mapping[Layer, Rate]
    within: UUID | None = None

    @property
    def name(self) -> str:
        return self.action.value if self.holder is Holder.TENANT else f"{self.holder.value}.{self.action.value}"


@dataclass(frozen=True, slots=True)
class RateStanding:
    """How a rate stands: so many would pass now, after `reset_ms` it is wholly untouched."""

    effective: EffectiveRate
    remaining: int
    reset_ms: int


@dataclass(frozen=True, slots=True)
class RateVerdict:
    """Truth value: admitted or not. `decisive` is the rate that refused, or that is nearest to doing so."""

    allowed: bool
    decisive: EffectiveRate
    remaining: int
    retry_after_ms: int

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class LimitOverride:
    """What a tenant, or one of its workspaces, sets for itself."""

    rates: Mapping[str, RateLimitSpec]
    version: int
    updated_at: datetime | None
    updated_by: str | None


NOTHING = LimitOverride(rates={}, version=0, updated_at=None, updated_by=None)
