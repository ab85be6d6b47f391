"""Forgets what events say about persons, in each place of a cell: whom a request names, and everybody after a time.

The sealer's role forgets; meanwhile a session of the tenant's keeps holds from being placed, and says whether the
tenant may be written to at all. Requests come a piece of each tenant's in turn, so none waits long. Several servers at
once share the work: who finds a request locked passes it over.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.audit.service import (
    AuditService,
    ForgettingService,
    end_forgetting,
    forget,
    forget_person,
    forgettable,
    hold_forgetting,
    list_due_forgettings,
    oldest_kept,
)
from tenantry.capabilities.audit.types.forgettings import DueForgetting
from tenantry.capabilities.evidence.service import HoldService
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import PLACE_NEWS, SHARED, tenant_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.ids import Prefix, format_id
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
            with self.rounds.attempt(place, schema):
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
            _log_rest(due.tenant_id, error)
            return False

    async def _turn(self, at: str, pool: "Pool", schema: str, due: DueForgetting) -> bool:
        sealing = partial(platform_session, pool, schema=schema)
        async with _turn(self._cell, due.tenant_id, at=at, clock=self._clock) as turn:
            if turn is None:
                return False
            if turn.held:
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
            await turn.requests.tell_done(due.forgetting_id)
        async with sealing() as connection:
            await end_forgetting(connection, due, now=self._clock.now())
        return True


async def forget_old(rounds: Rounds, cell: Cell, *, days: int, clock: Clock) -> None:
    """Forget what is about persons and older than so many days, and tell each trail of it.

    What a hold keeps, or a move copies, is forgotten in a later round.
    """
    before = oldest_kept(clock.now(), days=days)
    async for place, pool, schemas in rounds.databases():
        for schema in schemas:
            try:
                at = schema if place == SHARED else place
                await _forget_old_at(at, pool, schema, cell, before=before, clock=clock)
            except (TenantryError, asyncpg.PostgresError) as error:
                _log.warning("forgetting.place_unavailable", place=tenant_at(place), reason=type(error).__name__)


async def _forget_old_at(at: str, pool: "Pool", schema: str, cell: Cell, *, before: datetime, clock: Clock) -> None:
    after: UUID | None = None
    while True:
        async with platform_session(pool, schema=schema) as connection:
            tenants = await forgettable(connection, before=before, after=after)
        if not tenants:
            return
        for after in tenants:
            further = True
            while further:
                try:
                    async with _turn(cell, after, at=at, clock=clock) as turn:
                        further = turn is not None and await _forget_some(turn, pool, schema, before=before)
                except (TenantryError, asyncpg.PostgresError) as error:
                    _log_rest(after, error)
                    break


async def _forget_some(turn: "_Turn", pool: "Pool", schema: str, *, before: datetime) -> bool:
    """Forget in some more events of a tenant, and tell its trail in how many; True: there may be more."""
    if turn.held:
        return False
    tenant_id, now = turn.session.scope.tenant_id, turn.clock.now()
    total = 0
    for _ in range(_TURNS):
        async with platform_session(pool, schema=schema) as connection:
            found, further = await forget(connection, tenant_id=tenant_id, before=before, now=now)
        total += found
        if not further:
            break
    if total:
        await turn.audit.record(
            "audit.personal_forgotten",
            resource_type="tenant",
            resource_id=format_id(Prefix.TENANT, tenant_id),
            details={"before": before.isoformat(timespec="seconds"), "count": total},
        )
    return further


class _Turn(NamedTuple):
    """A tenant's, as long as it is forgotten in. `held`: a legal hold keeps all that it has."""

    session: TenantSession
    clock: Clock
    held: bool

    @property
    def audit(self) -> AuditService:
        return AuditService(session=self.session, clock=self.clock)

    @property
    def requests(self) -> ForgettingService:
        return ForgettingService(session=self.session, audit=self.audit, clock=self.clock)


@asynccontextmanager
async def _turn(cell: Cell, tenant_id: UUID, *, at: str, clock: Clock) -> AsyncIterator[_Turn | None]:
    """Open a session of a tenant during which nobody places a hold; None where it is elsewhere by now.

    Raises what a write would: nothing of a tenant that is on the move is forgotten.
    """
    scope = TenantScope(tenant_id=tenant_id, region=cell.region, actor=SYSTEM)
    async with cell.session(scope, lifecycle=True) as session:
        if (await session.place()).name != at:
            yield None  # what is seen here is left of a tenant that has moved
            return
        turn = _Turn(session, clock, held=False)
        await turn.requests.require_writable()
        holds = HoldService(session=session, audit=turn.audit, clock=clock)
        yield turn._replace(held=bool(await holds.list_cases_still()))


def _log_rest(tenant_id: UUID, error: Exception) -> None:
    code = error.code if isinstance(error, TenantryError) else type(error).__name__
    _log.warning("forgetting.tenant_rests", tenant=str(tenant_id), code=code)
