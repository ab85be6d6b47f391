"""The face of limits: rates that a request is held against, quotas that work is, what is set, and what was used."""

from tenantry.capabilities.limits.service.book import LimitBook
from tenantry.capabilities.limits.service.effective import PlaceLimits, platform_rates
from tenantry.capabilities.limits.service.features import FeatureGate
from tenantry.capabilities.limits.service.ledger import give_back, keep_only, settle
from tenantry.capabilities.limits.service.metering import MeteringService
from tenantry.capabilities.limits.service.overrides import LimitService
from tenantry.capabilities.limits.service.quotas import QuotaService, RowRoom
from tenantry.capabilities.limits.service.rates import Asker, RateKeeper
from tenantry.capabilities.limits.service.reconciling import Reconciler

__all__ = [
    "Asker",
    "FeatureGate",
    "LimitBook",
    "LimitService",
    "MeteringService",
    "PlaceLimits",
    "QuotaService",
    "RateKeeper",
    "Reconciler",
    "RowRoom",
    "give_back",
    "keep_only",
    "platform_rates",
    "settle",
]
