"""Assembles what requests and work are held against."""

from collections.abc import Mapping

from tenantry.capabilities.limits.service import LimitBook, RateKeeper, platform_rates
from tenantry.capabilities.policies.service import PolicyBook, load_platform_policies
from tenantry.capabilities.tenants.service import PlanCatalogue
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.limit_settings import LimitSettings
from tenantry.foundation.settings import Settings


def make_book(settings: LimitSettings, *, cells: Cells, plans: PlanCatalogue, clock: Clock) -> LimitBook:
    """Make it; raises Invalid `rates_invalid` for a rate of the installation that cannot be counted."""
    return LimitBook(
        cells=cells,
        plans=plans,
        rates=platform_rates(settings.rates),
        numbers=settings.workspace.model_dump(exclude_none=True),
        clock=clock,
    )


def make_policies(settings: Settings, *, cells: Cells, clock: Clock) -> PolicyBook:
    """Make it; raises Invalid `policies_invalid` with file, line and rule for what the installation's own files say."""
    named = settings.policies_dir
    directory = (named or settings.home / "policies").expanduser().absolute()
    platform = load_platform_policies(directory, required=named is not None)
    return PolicyBook(cells=cells, platform=platform, clock=clock)


def make_rates(settings: LimitSettings, *, book: LimitBook, caches: Mapping[str, Caches], clock: Clock) -> RateKeeper:
    return RateKeeper(
        book=book,
        limiters={region: each.limiter for region, each in caches.items()},
        open_to_reads=settings.open_to_reads,
        open_to_changes=settings.open_to_changes,
        clock=clock,
    )
