"""Rates as requests meet them: one call for all that a request is held against, nothing asked of the database twice."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tenantry.capabilities.limits.errors import rates_unavailable
from tenantry.capabilities.limits.service.book import LimitBook
from tenantry.capabilities.limits.types import (
    Action,
    EffectiveRate,
    Holder,
    Layer,
    Rate,
    RateStanding,
    RateVerdict,
)
from tenantry.foundation.caches.ports import RateLimit, RateLimiter
from tenantry.foundation.clock import Clock
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.telemetry import RATES_UNCOUNTED

_CACHED: Final = 50_000
_TOLD_SECONDS: Final = 60.0
_CHANGES: Final = Rate(600, 60_000, 600)
_LIMIT_CHANGES: Final = EffectiveRate(
    Holder.TENANT, Action.LIMIT_CHANGES, _CHANGES, Layer.PLATFORM, Layer.PLATFORM, {Layer.PLATFORM: _CHANGES}
)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and where."""

    tenant_id: UUID
    region: str
    principal: str
    workspace_id: UUID | None = None


class RateKeeper:
    """One for each server process.

    `open_to_reads` and `open_to_changes` say what passes uncounted while the store is away.
    """

    def __init__(
        self,
        *,
        book: LimitBook,
        limiters: Mapping[str, RateLimiter],
        open_to_reads: bool,
        open_to_changes: bool,
        clock: Clock,
    ) -> None:
        self._book = book
        self._limiters = limiters
        self._open_to_reads = open_to_reads
        self._open_to_changes = open_to_changes
        self._clock = clock
        self._told: OrderedDict[tuple[UUID, str, str], float] = OrderedDict()

    async def admit(self, asker: Asker, *, reads: bool, action: Action | None = None) -> RateVerdict | None:
        """Charge one request, which is an API request and perhaps of an action besides; None when nothing limits it.

        Raises Unavailable `rates_unavailable` when the store is away and requests of this class are not let through.
        """
        if action is Action.LIMIT_CHANGES:
            applying: tuple[EffectiveRate, ...] = (_LIMIT_CHANGES,)
        else:
            known = (await self._book.of(asker.tenant_id, region=asker.region)).rates_in(asker.workspace_id)
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
        known = (await self._book.of(asker.tenant_id, region=asker.region)).rates_in(asker.workspace_id)
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


def _limit(each: EffectiveRate, asker: Asker) -> RateLimit:
    """Name the counter. The window is in the name, since what was counted in another says nothing in this one."""
    rate = each.rate
    whose = asker.principal if each.holder is Holder.PRINCIPAL else each.holder.value
    place = f".{each.within.hex}" if each.within else ""
    name = f"{whose}{place}.{each.action}.{rate.window_ms}"
    return RateLimit(asker.tenant_id, name, rate.max_requests, rate.window_ms, rate.burst)
