"""Row 15: 200 at once on the last units of a quota, and what is left of a storm in which many of them die."""

import asyncio
import contextlib
import random
import time
from uuid import UUID

from bench.installation import REGION, Installation
from bench.report import Bar, Result, Series
from tenantry.capabilities.limits.service import LimitBook, QuotaService, settle
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.tenants.service import load_plans
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.settings import load_settings

_RESERVERS, _LAST, _CONNECTIONS = 200, 7, 20
_QUOTAS = {Quota.CONCURRENT_JOBS: 1, Quota.DAILY_JOBS: 1}


class _Ledger:
    def __init__(self, cells: Cells, tenant_id: UUID, workspace_id: UUID) -> None:
        self._clock = SystemClock()
        self._cells, self._tenant_id, self._workspace_id = cells, tenant_id, workspace_id
        numbers = {Quota.CONCURRENT_JOBS.value: _LAST}
        self._book = LimitBook(cells=cells, plans=load_plans(), rates={}, numbers=numbers, clock=self._clock)

    def session(self) -> TenantSession:
        scope = TenantScope(tenant_id=self._tenant_id, region=REGION, actor=SYSTEM, workspace_id=self._workspace_id)
        return self._cells.session(scope)

    async def reserve(self, session: TenantSession, reservation_id: UUID) -> None:
        quotas = QuotaService(session=session, book=self._book, clock=self._clock)
        await quotas.reserve(reservation_id, _QUOTAS, kind="bench", workspace_id=self._workspace_id)

    async def settle(self, session: TenantSession, reservation_id: UUID) -> None:
        await settle(session, reservation_id, {}, clock=self._clock)

    async def held(self) -> int:
        """Units of the workspace that are held now."""
        async with self.session() as session:
            quotas = QuotaService(session=session, book=self._book, clock=self._clock)
            standings = await quotas.standings(self._workspace_id)
        return max(each.counted.taken for each in standings if each.counted.quota is Quota.CONCURRENT_JOBS)


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    result = Result("15", f"{_RESERVERS} concurrent reservers on the last {_LAST} units — against the limit")
    settings = load_settings(home=installation.home)
    database = settings.database.model_copy(update={"pool_size": _CONNECTIONS})
    async with open_parts(settings.model_copy(update={"database": database}), regions=(REGION,)) as parts:
        for cell in parts.cells:
            await cell.link.start()
        ledger = _Ledger(
            parts.cells,
            parse_id(Prefix.TENANT, installation.tenant),
            parse_id(Prefix.WORKSPACE, installation.workspace),
        )
        taking, most = Series("reserve, committed"), 0
        for _ in range(2 if quick else 10):
            most = max(most, await _race(ledger, taking))
        worst, residue = await _storm(ledger, rounds=1 if quick else 3)
    result.series.append(taking)
    result.bars += [
        Bar("overshoot of a race", most - _LAST, 0, unit=" units"),
        Bar("overshoot amid a crash storm", max(0, worst - _LAST), 0, unit=" units"),
        Bar("residue after the storm", residue, 0, unit=" units"),
    ]
    result.remarks.append(
        "each reserves in a transaction of its own; in the storm three in ten are cut off before its end"
    )
    return [result]


async def _race(ledger: _Ledger, taking: Series) -> int:
    """Let all reserve at once; tells how many got a unit."""

    async def one() -> UUID | None:
        reservation_id, begun = new_id(), time.perf_counter()
        while True:
            try:
                async with ledger.session() as session:
                    await ledger.reserve(session, reservation_id)
            except Unavailable:
                continue
            except TenantryError:
                return None
            taking.samples.append((time.perf_counter() - begun) * 1e3)
            return reservation_id

    got = [each for each in await asyncio.gather(*(one() for _ in range(_RESERVERS))) if each]
    for reservation_id in got:
        async with ledger.session() as session:
            await ledger.settle(session, reservation_id)
    return len(got)


async def _storm(ledger: _Ledger, *, rounds: int) -> tuple[int, int]:
    """Reserve, settle, and be cut off in both; tells the most that was ever held, and what is left."""
    chance = random.Random(15)  # noqa: S311 - which of them die, the same each time
    worst = 0

    async def one(fate: float) -> None:
        reservation_id = new_id()
        with contextlib.suppress(TenantryError):
            async with ledger.session() as session:
                await ledger.reserve(session, reservation_id)
                if fate < 0.3:
                    (await session.connection()).terminate()
        while True:
            with contextlib.suppress(TenantryError):
                async with ledger.session() as session:
                    await ledger.settle(session, reservation_id)
                    if fate > 0.9:
                        fate = 0.5
                        (await session.connection()).terminate()
                        continue
                return

    for _ in range(rounds):
        storm = asyncio.gather(*(one(chance.random()) for _ in range(_RESERVERS)))
        while not storm.done():
            with contextlib.suppress(Unavailable):
                worst = max(worst, await ledger.held())
            await asyncio.sleep(0.005)
        await storm
    return worst, await ledger.held()
