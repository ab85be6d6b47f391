"""Assembles what requests are held against."""

from collections.abc import Mapping

from tenantry.capabilities.limits.service import RateKeeper, platform_rates
from tenantry.capabilities.tenants.service import PlanCatalogue
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.settings import LimitSettings


def make_rates(
    settings: LimitSettings, *, cells: Cells, caches: Mapping[str, Caches], plans: PlanCatalogue, clock: Clock
) -> RateKeeper:
    """Make it; raises Invalid `rates_invalid` for a rate of the installation that cannot be counted."""
    return RateKeeper(
        cells=cells,
        limiters={region: each.limiter for region, each in caches.items()},
        plans=plans,
        platform=platform_rates(settings.rates),
        open_to_reads=settings.open_to_reads,
        open_to_changes=settings.open_to_changes,
        clock=clock,
    )
