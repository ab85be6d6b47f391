"""The face of limits: rates that a request is held against, what tenants set for themselves, and what was used."""

from tenantry.capabilities.limits.service.effective import platform_rates
from tenantry.capabilities.limits.service.metering import MeteringService
from tenantry.capabilities.limits.service.overrides import LimitService
from tenantry.capabilities.limits.service.rates import Asker, RateKeeper

__all__ = ["Asker", "LimitService", "MeteringService", "RateKeeper", "platform_rates"]
