"""Rates as requests meet them: one call for all that a request is held against, nothing asked of the database twice."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.errors import rates_unavailable
from tenantry.capabilities.limits.service.effective import effective_rates, rates_of
from tenantry.capabilities.limits.types import (
    NOTHING,
    Action,
    EffectiveRate,
    Holder,
    Layer,
    Rate,
    Rates,
    RateStanding,
    RateVerdict,
)
from tenantry.capabilities.tenants.service import PlanCatalogue, TenantService
from tenantry.capabilities.tenants.types import REVOCATIONS, Tenant
from tenantry.foundation.caches.ports import RateLimit, RateLimiter
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.telemetry import RATES_UNCOUNTED

_CACHED: Final = 50_000
_PLACES: Final = 1000
_TOLD_SECONDS: Final = 60.0
_BELIEVED_SECONDS: Final = 1.0
"""How long what is known of a tenant counts whose news this process does not hear."""
_QPS_WINDOW_MS: Final = 1000
MAX_QPS: Final = "max_qps"
"""Among the limits that the operator sets of a tenant: whole requests a second."""


_CHANGES: Final = Rate(600, 60_000, 600)
_LIMIT_CHANGES: Final = EffectiveRate(
    Holder.TENANT, Action.LIMIT_CHANGES, _CHANGES, Layer.PLATFORM, Layer.PLATFORM, {Layer.PLATFORM: _CHANGES}
)


@dataclass(frozen=True, slots=True)
class _Held:
    """What holds in one place, all of it and by action."""

    rates: tuple[EffectiveRate, ...]
    by_action: Mapping[Action, tuple[EffectiveRate, ...]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a tenant and since when; of workspaces only what they set, since others may not exist at all."""

    layers: Mapping[Layer, Rates]
    workspaces: Mapping[UUID, Rates]
    at: float
    held: dict[UUID | None, _Held] = field(default_factory=dict)

    def in_place(self, workspace_id: UUID | None) -> _Held:
        if (held := self.held.get(workspace_id)) is None:
            if len(self.held) >= _PLACES:
                self.held.clear()
            own = self.workspaces.get(workspace_id) if workspace_id else None
            layers = self.layers if own is None else {**self.layers, Layer.WORKSPACE: own}
            rates = effective_rates(layers, workspace_id=workspace_id)
            by_action = {action: tuple(each for each in rates if each.action is action) for action in Action}
            held = self.held[workspace_id] = _Held(rates, by_action)
        return held


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and where."""

    tenant_id: UUID
    region: str
    principal: str
    workspace_id: UUID | None = None


class RateKeeper:
    """One for each server process.

    `platform` are the rates that the installation sets for every tenant; `open_to_reads` and `open_to_changes` say
    what passes uncounted while the store is away.
    """

    def __init__(
        self,
        *,
        cells: Cells,
        limiters: Mapping[str, RateLimiter],
        plans: PlanCatalogue,
        platform: Rates,
        open_to_reads: bool,
        open_to_changes: bool,
        clock: Clock,
    ) -> None:
        self._cells = cells
        self._limiters = limiters
        self._plans = plans
        self._platform = platform
        self._open_to_reads = open_to_reads
        self._open_to_changes = open_to_changes
        self._clock = clock
        self._known: OrderedDict[UUID, _Known] = OrderedDict()
        self._told: OrderedDict[tuple[UUID, str, str], float] = OrderedDict()
        # Counts news heard: what was read while they arrived is not cached.
        self._generation = 0
        for cell in cells:
            cell.link.subscribe(REVOCATIONS, self.forget)
            cell.link.on_reconnect(self._forget_all)

    async def admit(self, asker: Asker, *, reads: bool, action: Action | None = None) -> RateVerdict | None:
        """Charge one request, which is an API request and perhaps of an action besides; None when nothing limits it.

        Raises Unavailable `rates_unavailable` when the store is away and requests of this class are not let through.
        """
        if action is Action.LIMIT_CHANGES:
            applying: tuple[EffectiveRate, ...] = (_LIMIT_CHANGES,)
        else:
            known = (await self._of(asker)).in_place(asker.workspace_id)
            applying = known.by_action.get(Action.API_REQUESTS, ())
            if action is not None:
                applying += known.by_action.get(action, ())
        if not applying:
            return None
        try:
            verdict = await self._limiters[asker.region].admit([_limit(each, asker) for each in applying])
        except Unavailable as error:
            if not (self._open_to_reads if reads else self._open_to_changes):
                raise rates_unavailable() from error
            RATES_UNCOUNTED.inc()
            return None
        return RateVerdict(verdict.allowed, applying[verdict.limiting], verdict.remaining, verdict.retry_after_ms)

    async def standings(self, asker: Asker) -> list[RateStanding]:
        """Tell how each rate stands that holds there, of principals that of the one who asks; charges nothing."""
        known = (await self._of(asker)).in_place(asker.workspace_id)
        if not known.rates:
            return []
        looked = await self._limiters[asker.region].look([_limit(each, asker) for each in known.rates])
        return [
            RateStanding(each, found.remaining, found.reset_ms) for each, found in zip(known.rates, looked, strict=True)
        ]

    def is_news(self, asker: Asker, verdict: RateVerdict) -> bool:
        """Say whether a refusal is to be recorded: the first of a principal over a rate, then one a minute."""
        what = (asker.tenant_id, asker.principal, verdict.decisive.name)
        now = self._clock.monotonic()
        if now - self._told.get(what, -_TOLD_SECONDS) < _TOLD_SECONDS:
            return False
        self._told[what] = now
        self._told.move_to_end(what)
        if len(self._told) > _CACHED:
            self._told.popitem(last=False)
        return True

    async def _of(self, asker: Asker) -> _Known:
        known = self._known.get(asker.tenant_id)
        if known is not None and self._believed(known, asker):
            return known
        generation = self._generation
        known = await self._read(asker)
        if generation == self._generation:
            self._known[asker.tenant_id] = known
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return known

    def _believed(self, known: _Known, asker: Asker) -> bool:
        if self._cells.get(asker.region).fresh_for(asker.tenant_id):
            return True
        return self._clock.monotonic() - known.at < _BELIEVED_SECONDS

    async def _read(self, asker: Asker) -> _Known:
        at = self._clock.monotonic()
        scope = TenantScope(tenant_id=asker.tenant_id, region=asker.region, actor=SYSTEM)
        async with self._cells.session(scope, lifecycle=True) as session:
            audit = AuditService(session=session, clock=self._clock)
            tenant = await TenantService(session=session, audit=audit, clock=self._clock).get()
            overrides = await repository.list_overrides(session)
        plan = self._plans.find(tenant.plan)
        own = overrides.pop(None, NOTHING)
        layers = {
            Layer.PLATFORM: self._platform,
            Layer.PLAN: rates_of(plan.rate_limits) if plan else {},
            Layer.TENANT: _narrowed(rates_of(own.rates), tenant),
        }
        return _Known(layers, {place: rates_of(each.rates) for place, each in overrides.items() if place}, at)

    def forget(self, payload: str) -> None:
        """Drop what is known of a tenant, named by the hexadecimal of its id as the news name it."""
        self._generation += 1
        self._known.pop(UUID(hex=payload), None)

    def _forget_all(self) -> None:
        self._generation += 1
        self._known.clear()


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


def _limit(each: EffectiveRate, asker: Asker) -> RateLimit:
    """Name the counter. The window is in the name, since what was counted in another says nothing in this one."""
    rate = each.rate
    whose = asker.principal if each.holder is Holder.PRINCIPAL else each.holder.value
    place = f".{each.within.hex}" if each.within else ""
    name = f"{whose}{place}.{each.action}.{rate.window_ms}"
    return RateLimit(asker.tenant_id, name, rate.max_requests, rate.window_ms, rate.burst)
