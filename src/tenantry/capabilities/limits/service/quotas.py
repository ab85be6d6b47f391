"""Quotas as work meets them: held with the work, all of them or none, against the lowest of all layers."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from uuid import UUID

from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.errors import amount_invalid, quota_contended, quota_exceeded
from tenantry.capabilities.limits.service.book import LimitBook, TenantLimits
from tenantry.capabilities.limits.service.effective import PlaceLimits
from tenantry.capabilities.limits.types import Holder, LimitOverride
from tenantry.capabilities.limits.types.quotas import (
    MOST_AMOUNT,
    Counted,
    EffectiveLimit,
    Quota,
    QuotaStanding,
    Refusal,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.telemetry import QUOTA_REFUSALS

Count = Callable[[TenantSession], Awaitable[int]]


class RowRoom:
    """The port `Room` of tenants and identity: how many workspaces, or users, a tenant may have."""

    def __init__(self, quotas: "QuotaService", quota: Quota, *, whole_tenant: Callable[[], TenantSession]) -> None:
        self._quotas = quotas
        self._quota = quota
        self._whole_tenant = whole_tenant

    async def take(self, count: Count, /) -> None:
        await self._quotas.take_row(self._quota, count, whole_tenant=self._whole_tenant)


class QuotaService:
    """Quotas of the session's tenant."""

    def __init__(self, *, session: TenantSession, book: LimitBook, clock: Clock) -> None:
        self._session = session
        self._book = book
        self._clock = clock

    async def known(self) -> TenantLimits:
        scope = self._session.scope
        return await self._book.of(scope.tenant_id, region=scope.region)

    async def limits_in(self, workspace_id: UUID | None) -> PlaceLimits:
        return (await self.known()).limits_in(workspace_id)

    async def limits_with(self, override: LimitOverride, *, workspace_id: UUID | None) -> PlaceLimits:
        """Tell what holds with what a place has just set: what is known may be a moment older."""
        known = await self.known()
        if workspace_id is None:
            return known.with_tenant(override.numbers)
        return known.with_workspace(override.numbers)

    async def reserve(
        self,
        reservation_id: UUID,
        amounts: Mapping[Quota, int],
        *,
        kind: str,
        workspace_id: UUID | None,
        counted_only: frozenset[Quota] = frozenset(),
        expires_at: datetime | None = None,
    ) -> None:
        """Hold all `amounts` (storage in bytes) or none, until settled, given back or expired.

        `counted_only` are charged and never refuse: something else keeps them within their limits. Call it last in the
        transaction: the counters stay locked until its end. Raises Exhausted `quota_exceeded`, Unavailable
        `quota_contended`; the caller then rolls back, as the edge does with any error.
        """
        for quota, amount in amounts.items():
            if type(amount) is not int or not 0 <= amount <= MOST_AMOUNT:
                raise amount_invalid(quota)
        known, now = await self.known(), self._clock.now()
        held = known.limits_in(workspace_id)

        def most(quota: Quota, holder: Holder) -> int | None:
            return None if quota in counted_only else held.most(quota, holder)

        refused, granted = await repository.reserve(
            self._session,
            reservation_id=reservation_id,
            kind=kind,
            workspace_id=workspace_id,
            items=[
                (
                    quota,
                    known.window_of(quota, now),
                    amount,
                    most(quota, Holder.TENANT),
                    most(quota, Holder.WORKSPACE),
                )
                for quota, amount in sorted(amounts.items())
            ],
            expires_at=expires_at,
            now=now,
        )
        if refused:
            raise self._refused(refused[0], held)
        if not granted:
            raise quota_contended()

    async def room(self, quota: Quota, *, workspace_id: UUID) -> int | None:
        """Tell how much is left of a quota for a workspace (storage in bytes), None where nothing bounds it.

        Nothing is held by it, and others may take it meanwhile: `reserve` decides.
        """
        held = await self.limits_in(workspace_id)
        left = [
            most - each.counted.taken
            for each in await self.standings(workspace_id)
            if each.counted.quota is quota and (most := held.most(quota, each.effective.holder)) is not None
        ]
        return max(0, min(left)) if left else None

    async def take_row(self, quota: Quota, count: Count, *, whole_tenant: Callable[[], TenantSession]) -> None:
        """Refuse one more row of what a quota of the tenant stands for than its most, one transaction after the other.

        Rows are counted as they are, so there is nothing that could leak: by a session that sees the whole tenant,
        which one of a workspace does not. Raises Exhausted `quota_exceeded`.
        """
        held = await self.limits_in(None)
        most = held.most(quota, Holder.TENANT)
        if most is None:
            return
        await repository.lock_place(self._session, quota, now=self._clock.now())
        if self._session.scope.workspace_id is None:
            present = await count(self._session)
        else:
            async with whole_tenant() as session:
                present = await count(session)
        if present + 1 > most:
            refusal = Refusal(quota, self._session.scope.tenant_id, 1, most, 0, present)
            raise self._refused(refusal, held)

    async def standings(self, workspace_id: UUID | None) -> list[QuotaStanding]:
        """Tell each quota of the tenant and of the workspace, with what is counted of it now."""
        known, now = await self.known(), self._clock.now()
        held = known.limits_in(workspace_id)
        tenant_id = self._session.scope.tenant_id
        holders = {Holder.TENANT: tenant_id} | ({Holder.WORKSPACE: workspace_id} if workspace_id else {})
        windows = {quota: known.window_of(quota, now) for quota in Quota}
        found = await repository.list_counters(self._session, list(holders.values()), sorted(set(windows.values())))
        by_key = {(each.holder_id, each.quota, each.window_start): each for each in found}
        sides: dict[Holder, Mapping[Quota, EffectiveLimit]] = {
            Holder.TENANT: held.tenant,
            Holder.WORKSPACE: held.workspace,
        }
        return [
            QuotaStanding(
                effective,
                by_key.get((holder_id, quota, windows[quota]), Counted(quota, holder_id, windows[quota])),
            )
            for holder, holder_id in holders.items()
            for quota, effective in sides[holder].items()
        ]

    def _refused(self, refusal: Refusal, held: PlaceLimits) -> Exception:
        own = refusal.holder_id == self._session.scope.tenant_id
        QUOTA_REFUSALS.labels(refusal.quota.value, (Holder.TENANT if own else Holder.WORKSPACE).value).inc()
        return quota_exceeded(refusal, (held.tenant if own else held.workspace)[refusal.quota])
