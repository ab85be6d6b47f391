"""Features: what the plan of a tenant includes."""

from uuid import UUID

from tenantry.capabilities.limits.errors import feature_missing
from tenantry.capabilities.limits.service.book import LimitBook
from tenantry.capabilities.limits.types.quotas import EVERY_FEATURE, Feature
from tenantry.capabilities.tenants.service import PlanCatalogue


class FeatureGate:
    """One for each server process."""

    def __init__(self, *, book: LimitBook, plans: PlanCatalogue) -> None:
        self._book = book
        self._plans = plans

    async def require(self, feature: Feature, tenant_id: UUID, *, region: str) -> None:
        """Raise Denied `feature_missing`, which names the plans that include it."""
        known = await self._book.of(tenant_id, region=region)
        if not known.features & {feature.value, EVERY_FEATURE}:
            offered = [
                slug for slug, plan in self._plans.items() if {feature.value, EVERY_FEATURE} & set(plan.features)
            ]
            raise feature_missing(feature.value, known.plan, offered)
