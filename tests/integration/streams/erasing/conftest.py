"""A log that is old enough for a part of it to leave, and who erases it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from tests.integration.api.conftest import ShiftedClock
from tests.integration.streams.conftest import Home, House, Json, index_all

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.service import Eraser
from tenantry.capabilities.audit.service.bundle_verifier import BundleReport, verify_bundle
from tenantry.entrypoints.erasing import make_eraser
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

DAYS = 30
TILE = 256


@dataclass
class Log:
    """A tenant's log of 600 events and more, all of them sealed, indexed and signed; and who erases it."""

    home: Home
    eraser: Eraser
    sealing: Callable[[], AbstractAsyncContextManager[Any]]

    @property
    def house(self) -> House:
        return self.home.house

    async def settle(self) -> None:
        following = self.house.following()
        await self.house.seal()
        await index_all(following)
        await self.house.sign()

    async def step(self) -> bool:
        return await self.eraser.erase(self.home.tenant_id, self.sealing)

    async def erase(self) -> None:
        """Until nothing more may leave."""
        while await self.step():
            await self.settle()

    async def head(self) -> tuple[int, int]:
        async with self.house.parts.cells.session(self.home.scope) as session:
            extent = await repository.find_log_extent(session)
        return extent.erased, extent.swept

    async def rows(self, what: str = "audit_events", where: str = "true") -> int:
        async with self.house.parts.cells.session(self.home.scope) as session:
            return int(await session.fetchval(f"select count(*) from {what} where {where}"))

    async def ids(self) -> list[UUID]:
        """Ids by their places, also of what has left."""
        async with self.house.parts.cells.session(self.home.scope) as session:
            rows = await session.fetch("select event_id from audit_sequence order by sequence")
        return [row["event_id"] for row in rows]

    async def tells(self) -> list[Json]:
        return await self.home.trail(action="audit.erased")

    async def exported(self, file: Path) -> Path:
        answer = await self.home.owner.get("/audit/export")
        assert answer.status_code == 200, answer.text
        await asyncio.to_thread(file.write_bytes, answer.content)
        return file

    async def verified(self, file: Path, **arguments: Any) -> BundleReport:
        keys = [key for notary in self.house.runtime.notaries.values() for key in notary.verifier_keys()]
        return verify_bundle(await self.exported(file), keys=keys, **arguments)


def later(days: int) -> ShiftedClock:
    clock = ShiftedClock()
    clock.ahead = timedelta(days=days)
    return clock


def ahead(house: House, days: int) -> Eraser:
    """Who erases, so many days later."""
    settings = house.parts.settings
    kept = settings.model_copy(update={"audit": settings.audit.model_copy(update={"retention_days": DAYS})})
    return make_eraser(house.parts.cells.get("us"), replace(house.parts, clock=later(days), settings=kept))


@pytest.fixture
async def log(house: House) -> AsyncIterator[Log]:
    pool = await open_pool(house.parts.addresses.cells["us"].sealer, search_path="tenantry", max_size=2)
    made = await log_of(house, await house.tenant(), partial(platform_session, pool))
    yield made
    await made.home.owner.aclose()
    await pool.close()


async def log_of(house: House, home: Home, sealing: Any, *, events: int = 600) -> Log:
    made = Log(home, ahead(house, DAYS + 2), sealing)
    await home.record(*(f"note-{number}" for number in range(events)), name="zebra")
    await made.settle()
    return made


@pytest.fixture
async def superuser(house: House) -> "AsyncIterator[Connection]":
    async with house.ground.database().connected("superuser") as connection:
        yield connection
