"""What time brings by itself: ends and notices of grants, expiry and escalation of approvals.

The schedule is the rows' own `due_at`: durable, and moved in the transaction that moves the end (ADR 0022). Every
server goes round, at the next date, at news of an earlier one, and each minute at the latest; after a downtime it finds
what has become due meanwhile. Several at once share the work: who finds a row locked, or done, passes it over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from tenantry.capabilities.access.service import GRANT_KIND, GRANTS_DUE, GrantLife, GrantSubject
from tenantry.capabilities.approvals.service import APPROVALS_DUE, ApprovalComments, ApprovalRules, ApprovalService
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.service import Directory, WorkspaceService
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
from tenantry.foundation.settings import Settings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_MOST_SECONDS: Final = 60.0
_LEAST_SECONDS: Final = 0.1
"""Between two rounds, however many news there are."""
_RETRY: Final = timedelta(seconds=5)
_BATCH: Final = 200
_DUE: Final = """select '{table}' as about, tenant_id, {id} as id, due_at from {schema}.{table}
                 where due_at is not null and tenant_id <> all($1::uuid[]) order by due_at limit {batch}"""

_log = structlog.get_logger(__name__)

PassDue = Callable[[TenantSession, UUID], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Item:
    about: str
    tenant_id: UUID
    id: UUID
    due_at: datetime


def make_due_round(parts: Parts, cell: Cell) -> "DueRound":
    dsn = parts.addresses.cells[cell.region].dispatcher
    return DueRound(
        Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock, look_seconds=0.0),
        cell=cell,
        directory=parts.directory,
        settings=parts.settings,
        comments=ApprovalComments(keyring=parts.keyrings[cell.region]),
        clock=parts.clock,
    )


class DueRound:
    """One for each cell of a server process; `wake` it at news that may bring an earlier date."""

    def __init__(
        self,
        rounds: Rounds,
        *,
        cell: Cell,
        directory: Directory,
        settings: Settings,
        comments: ApprovalComments,
        clock: Clock,
    ) -> None:
        self.rounds = rounds
        self._cell = cell
        self._directory = directory
        self._settings = settings
        self._comments = comments
        self._clock = clock
        self._wake = asyncio.Event()
        self._seconds = _MOST_SECONDS
        self._next: dict[str, datetime] = {}
        self._pass: Mapping[str, PassDue] = {APPROVALS_DUE[0]: self._pass_approval, GRANTS_DUE[0]: self._pass_grant}

    def wake(self, _payload: str = "") -> None:
        self._wake.set()

    async def run(self) -> None:
        await forever("due", self._go_round, seconds=lambda: self._seconds, wake=self._wake)

    async def _go_round(self) -> None:
        self._seconds = _MOST_SECONDS
        self._seconds = min(await self.go_round(), _MOST_SECONDS)
        await asyncio.sleep(_LEAST_SECONDS)

    async def go_round(self) -> float:
        """Let happen what is due in each place of the cell; tell how many seconds later to look again."""
        now = self._clock.now()
        for place in [place for place, due_at in self._next.items() if due_at <= now]:
            del self._next[place]
            if place != SHARED:  # one that a tenant has for itself is else visited from time to time only
                self.rounds.stir(place)
        async for place, pool, schemas in self.rounds.databases():
            self._next.pop(place, None)
            found: list[datetime] = []
            for schema in schemas:
                try:
                    due_at = await self._pass_place(pool, schema)
                except (TenantryError, asyncpg.PostgresError) as error:  # it keeps none of the others waiting
                    _log.warning("due.place_unavailable", place=tenant_at(place), reason=type(error).__name__)
                    due_at = self._clock.now() + _RETRY
                found += [] if due_at is None else [due_at]
            if found:
                self._next[place] = min(found)
        ahead = [(due_at - self._clock.now()).total_seconds() for due_at in self._next.values()]
        return max(0.0, min(ahead, default=_MOST_SECONDS))

    async def _pass_place(self, pool: "Pool", schema: str) -> datetime | None:
        """Pass what is due in one schema; tell the next date there."""
        asked = " union all ".join(
            f"({_DUE.format(table=table, id=name, schema=schema, batch=_BATCH)})"
            for table, name in (APPROVALS_DUE, GRANTS_DUE)
        )
        waiting = set[UUID]()
        while True:
            async with platform_session(pool) as connection:
                items = [_Item(**row) for row in await connection.fetch(asked, list(waiting))]
            now = self._clock.now()
            late = [item for item in items if item.due_at <= now]
            held_up = await self._pass_items(late)
            waiting |= held_up
            if len(late) < _BATCH:
                # What could not be passed is tried again soon, and does not keep the loop busy.
                retry = [now + _RETRY] if waiting else []
                return min([*retry, *(item.due_at for item in items if item.due_at > now)], default=None)
            if not held_up:  # nobody is in the way of what is left: it has the next round
                return now

    async def _pass_items(self, items: Sequence[_Item]) -> set[UUID]:
        """Let these happen; tells the tenants of which some could not."""
        refused, faulty = set[UUID](), set[UUID]()
        for item in items:
            if item.tenant_id in refused:
                continue
            scope = TenantScope(tenant_id=item.tenant_id, region=self._cell.region, actor=SYSTEM)
            try:
                async with self._cell.session(scope, lifecycle=True) as session:
                    await self._pass[item.about](session, item.id)
            except TenantryError as error:  # on the move, or erased: what is left is due where it arrives
                _log.info("due.postponed", about=item.about, tenant=item.tenant_id.hex, code=error.code)
                refused.add(item.tenant_id)
            except Exception as error:  # noqa: BLE001 - one tenant's trouble must not keep the others waiting
                _log.error("due.fault", about=item.about, tenant=item.tenant_id.hex, kind=type(error).__name__)
                faulty.add(item.tenant_id)
        return refused | faulty

    async def _pass_approval(self, session: TenantSession, approval_id: UUID) -> None:
        audit = AuditService(session=session, clock=self._clock)
        service = ApprovalService(
            session=session,
            audit=audit,
            workspaces=WorkspaceService(session=session, directory=self._directory, audit=audit, clock=self._clock),
            comments=self._comments,
            subjects={GRANT_KIND: GrantSubject(settings=self._settings.access, clock=self._clock)},
            rules=ApprovalRules.of(self._settings),
            clock=self._clock,
        )
        await service.pass_due(approval_id)

    async def _pass_grant(self, session: TenantSession, grant_id: UUID) -> None:
        await GrantLife(session=session, settings=self._settings.access, clock=self._clock).pass_due(grant_id)
