"""The face of limits: rates that a request is held against, and what tenants set for themselves."""

from tenantry.capabilities.limits.service.effective import platform_rates
from tenantry.capabilities.limits.service.overrides import LimitService
from tenantry.capabilities.limits.service.rates import Asker, RateKeeper

__all__ = ["Asker", "LimitService", "RateKeeper", "platform_rates"]
