"""Works off requests to forget a person, in each place of a cell: a piece of each tenant's in turn, so none waits long.

The sealer's role forgets; meanwhile a session of the tenant's keeps holds from being placed, and says whether the
tenant may be written to at all. Several servers at once share the work: who finds a request locked passes it over.
"""

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.audit.service import (
    AuditService,
    ForgettingService,
    end_forgetting,
    forget_person,
    hold_forgetting,
    list_due_forgettings,
)
from tenantry.capabilities.audit.types.forgettings import DueForgetting
from tenantry.capabilities.evidence.service import HoldService
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import PLACE_NEWS, SHARED
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_TURNS: Final = 8
"""Pieces of one tenant's that come one after the other."""

_log = structlog.get_logger(__name__)


class ForgettingRound:
    """One for each cell of a server process."""

    def __init__(self, parts: Parts, cell: Cell) -> None:
        dsn = parts.addresses.cells[cell.region].sealer
        self.rounds = Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock)
        self._cell = cell
        self._clock = parts.clock
        cell.link.subscribe(PLACE_NEWS, self.rounds.stir)

    async def close(self) -> None:
        await self.rounds.close()

    async def pass_due(self) -> None:
        """Give each tenant that has a request a turn, until none is due."""
        async for place, pool, schema in self.rounds.waiting("audit_forgettings"):
            resting: set[UUID] = set()
            while due := await self._due(pool, schema, without=resting):
                for each in due:
                    if not await self._tried(place, pool, schema, each):
                        resting.add(each.tenant_id)

    async def _due(self, pool: "Pool", schema: str, *, without: Collection[UUID]) -> list[DueForgetting]:
        async with platform_session(pool, schema=schema) as connection:
            return await list_due_forgettings(connection, now=self._clock.now(), without=without)

    async def _tried(self, place: str, pool: "Pool", schema: str, due: DueForgetting) -> bool:
        """Give a request its turn; False where it waits for the next round, and keeps no other waiting."""
        try:
            return await self._turn(schema if place == SHARED else place, pool, schema, due)
        except (TenantryError, asyncpg.PostgresError) as error:
            code = error.code if isinstance(error, TenantryError) else type(error).__name__
            _log.warning("forgetting.tenant_rests", tenant=str(due.tenant_id), code=code)
            return False

    async def _turn(self, at: str, pool: "Pool", schema: str, due: DueForgetting) -> bool:
        scope = TenantScope(tenant_id=due.tenant_id, region=self._cell.region, actor=SYSTEM)
        sealing = partial(platform_session, pool, schema=schema)
        async with self._cell.session(scope, lifecycle=True) as session:
            audit = AuditService(session=session, clock=self._clock)
            requests = ForgettingService(session=session, audit=audit, clock=self._clock)
            if (await session.place()).name != at:
                return False  # what is seen here is left of a tenant that has moved
            await requests.require_writable()
            if await HoldService(session=session, audit=audit, clock=self._clock).list_cases_still():
                async with sealing() as connection:
                    await hold_forgetting(connection, due, now=self._clock.now())
                return True
            for _ in range(_TURNS):
                async with sealing() as connection:
                    forgot = await forget_person(connection, due, now=self._clock.now())
                if not forgot.further:
                    break
            if not forgot.finished:
                return forgot.further
            await requests.tell_done(due.forgetting_id)
        async with sealing() as connection:
            await end_forgetting(connection, due, now=self._clock.now())
        return True
