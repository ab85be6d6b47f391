"""Adds up what was used: events to hours each few minutes, and once an hour what each tenant keeps.

Several servers share the work: an event that one is adding is passed over, and an hour is begun by whoever marks it
first. What breaks off is rolled back whole, and found again by the next round.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.limits.service import MeteringService
from tenantry.capabilities.limits.service.metering import GRACE, hour_of
from tenantry.capabilities.tenants.service import Directory, UsageService
from tenantry.capabilities.tenants.types import PLATFORM_TENANT, TenantStatus
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import USAGE_SOURCES, Parts
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import SHARED, tenant_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.capabilities.tenants.service import PlanCatalogue
    from tenantry.foundation.database.pool import Pool

_SECONDS: Final = 180.0
_PAGE: Final = 500
_METERED: Final = frozenset({TenantStatus.ACTIVE, TenantStatus.SUSPENDED})
"""Rows of one that arrives or leaves are compared as they are; and what a deleted one leaves lying is not its use."""
_WAITING: Final = "select distinct tenant_id from {schema}.metering_events where not rolled"
_FINISHED: Final = "select tenant_id from {schema}.metering_marks where rolled_up_to >= $1"

_log = structlog.get_logger(__name__)


def make_metering_round(parts: Parts, cell: Cell, *, plans: "PlanCatalogue") -> "MeteringRound":
    dsn = parts.addresses.cells[cell.region].dispatcher
    return MeteringRound(
        Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock),
        cell=cell,
        directory=parts.directory,
        plans=plans,
        keep=timedelta(days=parts.settings.limits.metering_days),
        clock=parts.clock,
    )


class MeteringRound:
    """One for each cell of a server process."""

    def __init__(
        self,
        rounds: Rounds,
        *,
        cell: Cell,
        directory: Directory,
        plans: "PlanCatalogue",
        keep: timedelta,
        clock: Clock,
    ) -> None:
        self.rounds = rounds
        self._cell = cell
        self._directory = directory
        self._plans = plans
        self._keep = keep
        self._clock = clock
        self._finished: datetime | None = None
        """The hour that each tenant has been visited for; one that is made later waits for the next."""

    async def run(self) -> None:
        await forever("metering", self.go_round, seconds=_SECONDS)

    async def go_round(self) -> None:
        """Roll up what waits in each place of the cell, and finish the last hour of each tenant where nobody has."""
        hour = hour_of(self._clock.now() - GRACE)
        waiting: set[UUID] = set()
        finished: set[UUID] = set()
        answered: set[str] = set()
        async for place, pool, schemas in self.rounds.databases():
            for schema in schemas:
                try:
                    asked = await _look(pool, schema, hour)
                except (TenantryError, asyncpg.PostgresError) as error:  # it keeps none of the others waiting
                    _log.warning("metering.place_unavailable", place=tenant_at(place), reason=type(error).__name__)
                    continue
                waiting |= asked[0]
                finished |= asked[1]
                answered.add(schema if place == SHARED else place)
        for tenant_id in waiting:
            if await self._is_metered(tenant_id):
                await self._visit(tenant_id, None)
        if self._finished == hour:
            return
        visited = [await self._visit(tenant_id, hour) for tenant_id in await self._tenants_at(answered) - finished]
        if all(visited):
            self._finished = hour

    async def _is_metered(self, tenant_id: UUID) -> bool:
        placement = await self._directory.find(tenant_id)
        return placement is not None and placement.status in _METERED

    async def _tenants_at(self, places: set[str]) -> set[UUID]:
        """List the cell's tenants that are metered, of the places that have answered."""
        found: set[UUID] = set()
        after: UUID | None = None
        while page := await self._directory.list_placements(after=after, limit=_PAGE):
            after = page[-1].tenant_id
            found |= {
                each.tenant_id
                for each in page
                if each.region == self._cell.region and each.placement in places and each.status in _METERED
            }
        return found - {PLATFORM_TENANT}

    async def _visit(self, tenant_id: UUID, hour: datetime | None) -> bool:
        """Roll up; with an `hour` finish those before it, too. False where that could not be done now."""
        try:
            while await self._roll_up(tenant_id):
                pass
            if hour is not None and await self._finish(tenant_id, hour):
                while await self._forget(tenant_id):
                    pass
        except TenantryError as error:  # on the move, or erased: what is left is found where it arrives
            _log.info("metering.postponed", tenant=tenant_id.hex, code=error.code)
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
            _log.exception("metering.fault", tenant=tenant_id.hex, kind=type(error).__name__)
        else:
            return True
        return False

    async def _roll_up(self, tenant_id: UUID) -> bool:
        async with self._session(tenant_id) as session:
            return await self._metering(session).roll_up()

    async def _finish(self, tenant_id: UUID, hour: datetime) -> bool:
        """Sample the hour's storage, and say that those before it are finished: together or not at all."""
        async with self._session(tenant_id) as session:
            metering = self._metering(session)
            if not await metering.begin(hour):
                return False
            usage = UsageService(session=session, sources=USAGE_SOURCES, plans=self._plans, clock=self._clock)
            await metering.record_storage(await usage.measure_storage(), hour=hour)
            await metering.roll_up()
        return True

    async def _forget(self, tenant_id: UUID) -> bool:
        async with self._session(tenant_id) as session:
            return await self._metering(session).forget()

    def _metering(self, session: TenantSession) -> MeteringService:
        return MeteringService(session=session, clock=self._clock, keep=self._keep)

    def _session(self, tenant_id: UUID) -> TenantSession:
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM)
        return self._cell.session(scope, lifecycle=True)


async def _look(pool: "Pool", schema: str, hour: datetime) -> tuple[set[UUID], set[UUID]]:
    """Tell which tenants of a schema have events that no hour holds, and which are finished up to this hour."""
    async with platform_session(pool) as connection:
        waiting = await connection.fetch(_WAITING.format(schema=schema))
        finished = await connection.fetch(_FINISHED.format(schema=schema), hour)
    return {row["tenant_id"] for row in waiting}, {row["tenant_id"] for row in finished}
