"""Goes round a cell and has the quota ledger of each tenant that has used something proved against what it stands for.

Several servers at once do no harm: a repair takes the locks of what it repairs, and finds it right by then.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from tenantry.capabilities.limits.ports import Subject
from tenantry.capabilities.limits.service import Reconciler
from tenantry.capabilities.sandboxes.service import ImageTakings, JobTakings, TreeTakings
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import tenant_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from uuid import UUID

    from tenantry.foundation.database.pool import Pool

_SUBJECTS: Final[tuple[Subject, ...]] = (JobTakings(), ImageTakings(), TreeTakings())
_BUSY: Final = "select distinct tenant_id from {schema}.quota_counters where updated_at >= $1"
_OVERLAP: Final = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


def make_reconcile_round(parts: Parts, cell: Cell) -> "ReconcileRound":
    dsn = parts.addresses.cells[cell.region].dispatcher
    rounds = Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock)
    return ReconcileRound(rounds, cell=cell, seconds=parts.settings.limits.reconcile_seconds, clock=parts.clock)


class ReconcileRound:
    """One for each cell of a server process."""

    def __init__(self, rounds: Rounds, *, cell: Cell, seconds: float, clock: Clock) -> None:
        self.rounds = rounds
        self._cell = cell
        self._seconds = seconds
        self._clock = clock
        self._since: dict[tuple[str, str], datetime] = {}

    async def run(self) -> None:
        await forever("reconcile", self.go_round, seconds=self._seconds)

    async def go_round(self) -> int:
        """Reconcile whoever has used something since the last round, at first everybody; tells how many repairs."""
        repaired = 0
        async for place, pool, schemas in self.rounds.databases():
            for schema in schemas:
                at, begun = (place, schema), self._clock.now()
                try:
                    busy = await self._busy(pool, at)
                except (TenantryError, asyncpg.PostgresError) as error:  # it keeps none of the others waiting
                    _log.warning("reconcile.place_unavailable", place=tenant_at(place), reason=type(error).__name__)
                    continue
                for tenant_id in busy:
                    repaired += await self._reconcile(tenant_id)
                self._since[at] = begun - _OVERLAP
        return repaired

    async def _busy(self, pool: "Pool", at: tuple[str, str]) -> "list[UUID]":
        since = self._since.get(at, datetime.fromtimestamp(0, tz=self._clock.now().tzinfo))
        async with platform_session(pool) as connection:
            return [row["tenant_id"] for row in await connection.fetch(_BUSY.format(schema=at[1]), since)]

    async def _reconcile(self, tenant_id: "UUID") -> int:
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM)
        try:
            async with self._cell.session(scope, lifecycle=True) as session:
                return len(await Reconciler(session=session, subjects=_SUBJECTS, clock=self._clock).run())
        except TenantryError as error:  # on the move, or erased
            _log.info("reconcile.postponed", tenant=tenant_id.hex, code=error.code)
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
            _log.error("reconcile.fault", tenant=tenant_id.hex, kind=type(error).__name__)
        return 0
