"""Goes round a cell and locks evidence of what has ended, examines what is locked, and collects what is over.

The schedule is the rows' own `due_at`, as in `due`. Several servers at once share the work: who finds a row locked
passes it over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.evidence.service import (
    EvidenceCollector,
    EvidenceExaminer,
    EvidenceLocker,
    EvidenceSigner,
)
from tenantry.capabilities.sandboxes.service import JobEvidence
from tenantry.engines.envelope.keyring import Keyring
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import SHARED, tenant_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_LOCK_SECONDS: Final = 1.0
_COLLECT_SECONDS: Final = 300.0
_RETRY: Final = timedelta(seconds=5)
_FAULTY: Final = timedelta(hours=1)
_BATCH: Final = 200
_AT_ONCE: Final = 50
"""Pieces of one workspace that are one transaction."""
_DUE: Final = """select tenant_id, workspace_id, evidence_id, due_at from {schema}.evidence
                 where due_at is not null and tenant_id <> all($1::uuid[]) order by due_at limit {batch}"""
_OLD: Final = """select distinct tenant_id, workspace_id from {schema}.evidence
                 where state <> 'wip' and ended_at <= $1"""

_log = structlog.get_logger(__name__)

_Place = tuple[UUID, UUID]
_Work = Callable[[TenantSession], Awaitable[object]]


def make_lockers(parts: Parts) -> dict[str, EvidenceLocker]:
    """Make what locks evidence of each region, of every kind of work there is."""
    settings, clock = parts.settings, parts.clock
    kinds = {kind.kind: kind for kind in (JobEvidence(),)}
    return {
        region: EvidenceLocker(
            signer=EvidenceSigner(notary),
            kinds=kinds,
            check_every=timedelta(hours=settings.evidence.check_hours),
            clock=clock,
        )
        for region, notary in parts.notaries.items()
    }


def make_evidence_round(parts: Parts, cell: Cell, *, lockers: Mapping[str, EvidenceLocker]) -> "EvidenceRound":
    dsn = parts.addresses.cells[cell.region].dispatcher
    locking, collecting = (
        Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock) for _ in range(2)
    )
    return EvidenceRound(
        locking,
        collecting,
        cell=cell,
        lockers=lockers,
        keyring=parts.keyrings[cell.region],
        floor_days=parts.settings.evidence.floor_days,
        clock=parts.clock,
    )


class EvidenceRound:
    """One for each cell of a server process."""

    def __init__(
        self,
        locking: Rounds,
        collecting: Rounds,
        *,
        cell: Cell,
        lockers: Mapping[str, EvidenceLocker],
        keyring: Keyring,
        floor_days: int,
        clock: Clock,
    ) -> None:
        self.locking = locking
        self.collecting = collecting
        self._cell = cell
        self._lockers = lockers
        self._keyring = keyring
        self._floor_days = floor_days
        self._clock = clock
        self._next: dict[str, datetime] = {}

    async def run(self) -> None:
        await asyncio.gather(
            forever("evidence", self.pass_due, seconds=_LOCK_SECONDS),
            forever("evidence-collection", self.collect, seconds=_COLLECT_SECONDS),
        )

    async def close(self) -> None:
        await self.locking.close()
        await self.collecting.close()

    async def pass_due(self) -> int:
        """Lock, or examine, what is due in each place of the cell; tells of how many."""
        now, passed = self._clock.now(), 0
        for place in [place for place, due_at in self._next.items() if due_at <= now]:
            del self._next[place]
            if place != SHARED:  # one that a tenant has for itself is else visited from time to time only
                self.locking.stir(place)
        async for place, pool, schemas in self.locking.databases():
            ahead: list[datetime] = []
            for schema in schemas:
                try:
                    number, due_at = await self._pass_place(pool, schema)
                except (TenantryError, asyncpg.PostgresError) as error:  # it keeps none of the others waiting
                    _log.warning("evidence.place_unavailable", place=tenant_at(place), reason=type(error).__name__)
                    number, due_at = 0, now + _RETRY
                passed += number
                ahead += [] if due_at is None else [due_at]
            if ahead:
                self._next[place] = min(ahead)
        return passed

    async def collect(self) -> int:
        """Collect what is over in each workspace that may have any; tells how many were deleted."""
        before, deleted = self._clock.now() - timedelta(days=max(1, self._floor_days)), 0
        async for place, pool, schemas in self.collecting.databases():
            for schema in schemas:
                try:
                    places = await self._old(pool, schema, before)
                except (TenantryError, asyncpg.PostgresError) as error:
                    _log.warning("evidence.place_unavailable", place=tenant_at(place), reason=type(error).__name__)
                    continue
                for tenant_id, workspace_id in places:
                    deleted += await self._collect(tenant_id, workspace_id)
        return deleted

    async def _pass_place(self, pool: "Pool", schema: str) -> tuple[int, datetime | None]:
        """Give each tenant of one schema that has anything due a turn; tells of how many, and the next date there.

        A turn is a batch at most, and one a round: whoever has more, or cannot be served now, waits for the next.
        """
        served, passed = set[UUID](), 0
        while True:
            async with platform_session(pool) as connection:
                rows = await connection.fetch(_DUE.format(schema=schema, batch=_BATCH), list(served))
            now = self._clock.now()
            late = [row for row in rows if row["due_at"] <= now]
            turns: dict[UUID, dict[UUID, list[UUID]]] = {}
            for row in late:
                spaces = turns.setdefault(row["tenant_id"], {})
                spaces.setdefault(row["workspace_id"], []).append(row["evidence_id"])
            for tenant_id, spaces in turns.items():
                await self._turn(tenant_id, spaces)
            served |= turns.keys()
            passed += len(late)
            if len(late) < _BATCH:
                ahead = [row["due_at"] for row in rows if row["due_at"] > now]
                # What was passed over, or is not ready, is looked at again soon.
                soon = [now + timedelta(seconds=_LOCK_SECONDS)] if passed else []
                return passed, min([*ahead, *soon], default=None)

    async def _turn(self, tenant_id: UUID, spaces: Mapping[UUID, list[UUID]]) -> None:
        """Pass what is due in the workspaces of a tenant, until it is refused."""
        try:
            for workspace_id, ids in spaces.items():
                for first in range(0, len(ids), _AT_ONCE):
                    if not await self._pass(tenant_id, workspace_id, ids[first : first + _AT_ONCE]):
                        return
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
            _log.error("evidence.tenant_waits", tenant=tenant_id.hex, kind=type(error).__name__)

    async def _pass(self, tenant_id: UUID, workspace_id: UUID, ids: list[UUID]) -> bool:
        """Pass these together; where one of them cannot be, each by itself, and that one much later.

        False where the tenant is refused: what it has is due where it arrives, or later.
        """
        try:
            return await self._pass_together(tenant_id, workspace_id, ids)
        except Exception as error:  # noqa: BLE001 - what cannot be read, of whomever, must not keep the others
            if len(ids) > 1:
                for each in ids:
                    if not await self._pass(tenant_id, workspace_id, [each]):
                        return False
                return True
            _log.error("evidence.fault", tenant=tenant_id.hex, evidence=ids[0].hex, kind=type(error).__name__)
            later, locker = self._clock.now() + _FAULTY, self._lockers[self._cell.region]
            return await self._within(
                tenant_id, workspace_id, lambda session: locker.postpone(session, ids, until=later)
            )

    async def _pass_together(self, tenant_id: UUID, workspace_id: UUID, ids: list[UUID]) -> bool:
        locker = self._lockers[self._cell.region]
        keys: list[VerifierKey] = [key for each in self._lockers.values() for key in each.signer.verifier_keys()]

        async def work(session: TenantSession) -> None:
            keyset = await self._keyring.keyset(tenant_id)
            examiner = EvidenceExaminer(session=session, locker=locker, keys=keys)
            await examiner.examine_and_note(ids, keyset=keyset)
            await locker.lock(session, ids, keyset=keyset)

        return await self._within(tenant_id, workspace_id, work)

    async def _collect(self, tenant_id: UUID, workspace_id: UUID) -> int:
        deleted = 0

        async def work(session: TenantSession) -> None:
            nonlocal deleted
            audit = AuditService(session=session, clock=self._clock)
            collector = EvidenceCollector(session=session, audit=audit, floor_days=self._floor_days, clock=self._clock)
            deleted = (await collector.collect(workspace_id=workspace_id, dry_run=False)).deleted

        try:
            await self._within(tenant_id, workspace_id, work)
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
            _log.error("evidence.tenant_waits", tenant=tenant_id.hex, kind=type(error).__name__)
        return deleted

    async def _within(self, tenant_id: UUID, workspace_id: UUID, work: _Work) -> bool:
        """Work in a session of the tenant's; False where it is refused."""
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM, workspace_id=workspace_id)
        try:
            async with self._cell.session(scope, lifecycle=True) as session:
                await work(session)
        except TenantryError as error:  # on the move, or erased: what is left is due where it arrives
            _log.info("evidence.postponed", tenant=tenant_id.hex, code=error.code)
            return False
        return True

    async def _old(self, pool: "Pool", schema: str, before: datetime) -> list[_Place]:
        async with platform_session(pool) as connection:
            rows = await connection.fetch(_OLD.format(schema=schema), before)
        return [(row["tenant_id"], row["workspace_id"]) for row in rows]
