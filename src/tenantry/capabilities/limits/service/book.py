"""What is known of the limits of tenants: read once for a whole tenant, kept until news of it come."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.service.effective import (
    PlaceLimits,
    effective_limits,
    effective_rates,
    rates_of,
)
from tenantry.capabilities.limits.types import NOTHING, Action, EffectiveRate, Layer, Rate, Rates
from tenantry.capabilities.limits.types.quotas import ALWAYS, Quota
from tenantry.capabilities.tenants.service import KnownTenants, PlanCatalogue, TenantService
from tenantry.capabilities.tenants.types import Tenant, TenantSettings
from tenantry.capabilities.tenants.types.plans import Plan
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.scope import SYSTEM, TenantScope

_PLACES: Final = 1000
_QPS_WINDOW_MS: Final = 1000
MAX_QPS: Final = "max_qps"
"""Among the limits that the operator sets of a tenant: whole requests a second."""
_OF_PLAN: Final = {
    "maxUsers": Quota.USERS,
    "maxProjects": Quota.WORKSPACES,
    "maxTokensPerMonth": Quota.TOKENS,
    "maxStorageGB": Quota.STORAGE,
    "maxConcurrentAgents": Quota.CONCURRENT_AGENTS,
}
_OF_OPERATOR: Final = (Quota.USERS, Quota.STORAGE)
"""Those that the operator's limits of a tenant may name besides, as declared tenants do."""

Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HeldRates:
    """What rates hold in one place, all of them and by action."""

    rates: tuple[EffectiveRate, ...]
    by_action: Mapping[Action, tuple[EffectiveRate, ...]]


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """All layers of one tenant; of workspaces only what they set, since others may not exist at all."""

    rates: Mapping[Layer, Rates]
    numbers: Mapping[Layer, Numbers]
    operators: Numbers
    """What the operator set of this tenant: part of its layer."""
    workspace_rates: Mapping[UUID, Rates]
    workspace_numbers: Mapping[UUID, Numbers]
    timezone: ZoneInfo
    plan: str
    features: frozenset[str]
    weight: float
    shared: set[UUID] = field(default_factory=set)
    """Workspaces whose share of the queue is as these limits say: this process has set it."""
    _rates: dict[UUID | None, HeldRates] = field(default_factory=dict)
    _limits: dict[UUID | None, PlaceLimits] = field(default_factory=dict)

    def rates_in(self, workspace_id: UUID | None) -> HeldRates:
        if (held := self._rates.get(workspace_id)) is None:
            if len(self._rates) >= _PLACES:
                self._rates.clear()
            own = self.workspace_rates.get(workspace_id) if workspace_id else None
            layers = self.rates if own is None else {**self.rates, Layer.WORKSPACE: own}
            rates = effective_rates(layers, workspace_id=workspace_id)
            by_action = {action: tuple(each for each in rates if each.action is action) for action in Action}
            held = self._rates[workspace_id] = HeldRates(rates, by_action)
        return held

    def limits_in(self, workspace_id: UUID | None) -> PlaceLimits:
        """Tell quotas and ceilings of a workspace, or with None of the tenant as a whole."""
        if (held := self._limits.get(workspace_id)) is None:
            if len(self._limits) >= _PLACES:
                self._limits.clear()
            own = self.workspace_numbers.get(workspace_id, {}) if workspace_id else None
            held = self._limits[workspace_id] = effective_limits(self.numbers, own)
        return held

    def with_tenant(self, own: Numbers) -> PlaceLimits:
        """Tell those of the tenant as a whole with other numbers of its own."""
        return effective_limits({**self.numbers, Layer.TENANT: _lowest(own, self.operators)}, None)

    def with_workspace(self, own: Numbers) -> PlaceLimits:
        """Tell those of a workspace that sets `own`."""
        return effective_limits(self.numbers, own)

    def window_of(self, quota: Quota, now: datetime) -> datetime:
        """Tell when the present window of a quota began, where the tenant lives."""
        return window_start(quota, now, self.timezone)


class LimitBook:
    """One for each process that holds anything against limits; `rates` and `numbers` are the installation's own."""

    def __init__(self, *, cells: Cells, plans: PlanCatalogue, rates: Rates, numbers: Numbers, clock: Clock) -> None:
        self._cells = cells
        self._plans = plans
        self._rates = rates
        self._numbers = numbers
        self._clock = clock
        self._known = KnownTenants(cells=cells, clock=clock, read=self._read)

    async def of(self, tenant_id: UUID, *, region: str) -> TenantLimits:
        """Tell them, asking the database, in a transaction of its own, only when they are not known."""
        return await self._known.of(tenant_id, region=region)

    def forget(self, payload: str) -> None:
        """Drop what is known of a tenant, named by the hexadecimal of its id as the news name it."""
        self._known.forget(payload)

    async def _read(self, tenant_id: UUID, region: str) -> TenantLimits:
        scope = TenantScope(tenant_id=tenant_id, region=region, actor=SYSTEM)
        async with self._cells.session(scope, lifecycle=True, beside=True) as session:
            audit = AuditService(session=session, clock=self._clock)
            tenant = await TenantService(session=session, audit=audit, clock=self._clock).get()
            overrides = await repository.list_overrides(session)
        plan = self._plans.find(tenant.plan)
        own = overrides.pop(None, NOTHING)
        places = {place: each for place, each in overrides.items() if place}
        return TenantLimits(
            rates={
                Layer.PLATFORM: self._rates,
                Layer.PLAN: rates_of(plan.rate_limits) if plan else {},
                Layer.TENANT: _narrowed(rates_of(own.rates), tenant),
            },
            numbers={
                Layer.PLATFORM: self._numbers,
                Layer.PLAN: _planned(tenant, plan),
                Layer.TENANT: _lowest(own.numbers, _told_by_operator(tenant)),
            },
            operators=_told_by_operator(tenant),
            workspace_rates={place: rates_of(each.rates) for place, each in places.items()},
            workspace_numbers={place: each.numbers for place, each in places.items()},
            timezone=ZoneInfo(TenantSettings.model_validate(tenant.settings).timezone),
            plan=tenant.plan,
            features=frozenset(plan.features) if plan else frozenset(),
            weight=plan.weight if plan else 1.0,
        )


def window_start(quota: Quota, now: datetime, timezone: ZoneInfo) -> datetime:
    """Tell when a quota last began anew: at midnight, or the first of the month, of a time zone."""
    if quota.window is None:
        return ALWAYS
    local = now.astimezone(timezone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (local.replace(day=1) if quota.window == "month" else local).astimezone(now.tzinfo)


def _narrowed(rates: Rates, tenant: Tenant) -> Rates:
    """Join what the operator set of the tenant, its `max_qps`, to what it sets itself."""
    most = tenant.limits.get(MAX_QPS)
    if type(most) is not int or most < 1:
        return rates
    name = Action.API_REQUESTS.value
    own = rates.get(name)
    second = Rate(most, _QPS_WINDOW_MS, most)
    if own is None:
        return {**rates, name: second}
    slowest = min((own, second), key=lambda rate: rate.pace)
    return {**rates, name: Rate(slowest.max_requests, slowest.window_ms, min(own.burst, second.burst))}


def _planned(tenant: Tenant, plan: Plan | None) -> Numbers:
    """Tell what the plan allows; the operator may have named other figures for this one tenant."""
    planned: Mapping[str, Any] = dict(plan.quotas.items()) if plan else {}
    figures = {**planned, **tenant.quotas}
    return {quota.value: figures[name] for name, quota in _OF_PLAN.items() if type(figures.get(name)) is int}


def _told_by_operator(tenant: Tenant) -> Numbers:
    return {
        quota.value: most
        for quota in _OF_OPERATOR
        if isinstance(most := tenant.limits.get(quota.value), int | float) and not isinstance(most, bool) and most >= 0
    }


def _lowest(one: Numbers, other: Numbers) -> Numbers:
    return {name: min(layer[name] for layer in (one, other) if name in layer) for name in one.keys() | other.keys()}
