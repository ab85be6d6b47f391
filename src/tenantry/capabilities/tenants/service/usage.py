"""What the session's tenant uses, and how that stands to its quotas.

Users, projects and storage are counted from rows at each call. Tokens and agents leave no rows that could be counted:
they are persisted counters, which whoever spends them increments in the transaction of the effect.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.tenants import repository
from tenantry.capabilities.tenants.errors import (
    tenant_not_found,
    usage_amount_invalid,
    usage_out_of_range,
    usage_unknown,
)
from tenantry.capabilities.tenants.ports import UsageSource
from tenantry.capabilities.tenants.service.plans import PlanCatalogue
from tenantry.capabilities.tenants.types import Usage
from tenantry.capabilities.tenants.types.plans import QuotaStatus
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession

TOKENS: Final = "tokens"
CONCURRENT_AGENTS: Final = "concurrent_agents"
USERS: Final = "users"
STORAGE: Final = "storage."
"""Measures named `storage.…` are bytes."""

MAX_AMOUNT: Final = 2**53 - 1
"""What JSON numbers carry exactly (RFC 8259 §6)."""

_MONTHLY: Final = frozenset({TOKENS})
_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Window of a counter that goes up and down, instead of beginning anew each month."""
_COUNTERS: Final = (TOKENS, CONCURRENT_AGENTS)
_LIMITS: Final = {
    "users": "maxUsers",
    "projects": "maxProjects",
    "tokens": "maxTokensPerMonth",
    "storage": "maxStorageGB",
    "concurrent_agents": "maxConcurrentAgents",
}


class UsageService:
    """Counts and compares; enforces nothing."""

    def __init__(
        self, *, session: TenantSession, sources: Sequence[UsageSource], plans: PlanCatalogue, clock: Clock
    ) -> None:
        self._session = session
        self._sources = sources
        self._plans = plans
        self._clock = clock

    async def measure(self) -> Usage:
        """Count what the tenant uses now."""
        month = month_of(self._clock.now())
        totals: Counter[str] = Counter()
        places: dict[UUID, Counter[str]] = {}
        for source in self._sources:
            for each in await source.measure(self._session):
                totals[each.name] += each.amount
                if each.workspace_id is not None and each.name.startswith(STORAGE):
                    places.setdefault(each.workspace_id, Counter())[each.name.removeprefix(STORAGE)] += each.amount
        counted = await repository.read_counters(
            self._session, {name: month if name in _MONTHLY else _ALWAYS for name in _COUNTERS}
        )
        largest = sorted(places.items(), key=lambda place: (-place[1].total(), place[0]))
        return Usage(
            current_users=totals[USERS],
            current_projects=await repository.count_open_workspaces(self._session),
            tokens_this_month=counted.get(TOKENS, 0),
            concurrent_agents=counted.get(CONCURRENT_AGENTS, 0),
            storage_bytes={
                name.removeprefix(STORAGE): amount for name, amount in totals.items() if name.startswith(STORAGE)
            },
            by_workspace={place: dict(kinds) for place, kinds in largest if kinds.total()},
            month=month,
        )

    async def measure_storage(self) -> Mapping[UUID, int]:
        """Count the bytes that each workspace keeps now."""
        kept: Counter[UUID] = Counter()
        for source in self._sources:
            for each in await source.measure(self._session):
                if each.workspace_id is not None and each.name.startswith(STORAGE):
                    kept[each.workspace_id] += each.amount
        return kept

    async def quotas(self) -> Mapping[str, QuotaStatus]:
        """Compare usage with the tenant's quotas, and where it names none with its plan's; named nowhere: unlimited."""
        tenant = await repository.find_tenant(self._session)
        if tenant is None:
            raise tenant_not_found()
        plan = self._plans.find(tenant.plan)
        planned: Mapping[Any, object] = plan.quotas if plan else {}
        usage = await self.measure()
        current: dict[str, float] = {
            "users": usage.current_users,
            "projects": usage.current_projects,
            "tokens": usage.tokens_this_month,
            "storage": usage.storage_used_gb,
            "concurrent_agents": usage.concurrent_agents,
        }
        return {
            name: QuotaStatus(current[name], _limit(tenant.quotas.get(key, planned.get(key))))
            for name, key in _LIMITS.items()
        }

    async def increment_usage(self, name: str, amount: int = 1) -> int:
        """Count `amount` (negative: give back) in the session's transaction; gives the new value. Atomic.

        Raises Invalid for an unknown counter or an amount that is no whole number, Conflict `usage_out_of_range` where
        the counter would leave 0 to `MAX_AMOUNT`. Repeating it counts twice.
        """
        if name not in _COUNTERS:
            raise usage_unknown(name, _COUNTERS)
        if type(amount) is not int or abs(amount) > MAX_AMOUNT:
            raise usage_amount_invalid()
        window = month_of(self._clock.now()) if name in _MONTHLY else _ALWAYS
        value = await repository.add_to_counter(
            self._session, name=name, window_start=window, amount=amount, maximum=MAX_AMOUNT
        )
        if value is None:
            raise usage_out_of_range(name)
        return value


def month_of(at: datetime) -> datetime:
    """Tell when the month began, in UTC: the same moment for a tenant anywhere."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _limit(quota: object) -> int | None:
    return quota if isinstance(quota, int) else None
