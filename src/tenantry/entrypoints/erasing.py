"""Goes round a cell and erases the beginning of each log that is older than the installation keeps events (ADR 0046).

Once an hour, and every two seconds while a log waits for the checkpoint of what was told, or has more to let go.
Several servers at once take turns, by the tenant's own rows.
"""

from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.audit.service import Eraser, list_erasable, oldest_kept
from tenantry.capabilities.evidence.service import LogReserve
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import tenant_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import TenantryError

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_SECONDS: Final = 3600.0
_SOON: Final = 2.0

_log = structlog.get_logger(__name__)


def erasing_loops(cell: Cell, parts: Parts, *, stack: AsyncExitStack) -> list[Coroutine[object, object, None]]:
    """Make the loop of a cell; where the installation keeps events for ever it ends what was signed away before."""
    dsn = parts.addresses.cells[cell.region].sealer
    rounds = Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock, lock_seconds=None)
    stack.push_async_callback(rounds.close)
    erasing = ErasingRound(rounds, make_eraser(cell, parts), days=parts.settings.audit.retention_days)
    return [forever("erase", erasing.run, seconds=lambda: _SOON if erasing.waiting else _SECONDS)]


def make_eraser(cell: Cell, parts: Parts) -> Eraser:
    def keys() -> list[VerifierKey]:
        return [key for notary in parts.notaries.values() for key in notary.verifier_keys()]

    return Eraser(
        cell=cell,
        objects=parts.objects[cell.region],
        notary=parts.notaries[cell.region],
        keys=keys,
        reserve=LogReserve(),
        days=parts.settings.audit.retention_days,
        clock=parts.clock,
    )


class ErasingRound:
    """One for each cell of a server process. `waiting`: there is something to be done soon."""

    def __init__(self, rounds: Rounds, eraser: Eraser, *, days: int) -> None:
        self._rounds = rounds
        self._eraser = eraser
        self._days = days
        self.waiting = False

    async def run(self) -> None:
        """Bring each log one step further from which something may leave; one that cannot be keeps none waiting."""
        waiting = False
        async for place, pool, schemas in self._rounds.databases():
            for schema in schemas:
                try:
                    more = await self._place(pool, schema)
                except (TenantryError, asyncpg.PostgresError) as error:
                    _log.warning("erasing.place_unavailable", place=tenant_at(place), reason=type(error).__name__)
                    continue
                if more:
                    self._rounds.stir(place)
                waiting = waiting or more
        self.waiting = waiting

    async def _place(self, pool: "Pool", schema: str) -> bool:
        after: UUID | None = None
        waiting = False
        sealing = partial(platform_session, pool, schema=schema)
        while True:
            before = oldest_kept(self._eraser.clock.now(), days=self._days) if self._days else None
            async with sealing() as connection:
                tenants = await list_erasable(connection, before=before, after=after)
            if not tenants:
                return waiting
            for after in tenants:
                try:
                    waiting = await self._eraser.erase(after, sealing) or waiting
                except TenantryError as error:  # on the move, or erased whole: due where it arrives
                    _log.info("erasing.postponed", tenant=str(after), code=error.code)
                except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
                    _log.error("erasing.fault", tenant=str(after), kind=type(error).__name__)
