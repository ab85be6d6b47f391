"""Forgetting one person (GDPR Art. 17): what is sealed beside events that name a principal; they stay (ADR 0045).

The application writes a request; the sealer works it off in pieces, by a cursor over the sequence. Every piece commits
what it forgot, the days whose files say it, and its cursor at once, so whoever dies in between loses nothing and
repeats nothing. An event that commits late, from before the request, has a place behind it: for an hour those are
looked at too.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import forgetting_not_found, not_nameable, too_many_forgettings
from tenantry.capabilities.audit.service.events import AuditService
from tenantry.capabilities.audit.types import AuditFilter
from tenantry.capabilities.audit.types.forgettings import (
    MOST_OPEN,
    NAMEABLE,
    DueForgetting,
    Forgetting,
    ForgettingState,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Sealing = PoolConnectionProxy[asyncpg.Record]

_EVENTS: Final = 2000
"""Looked at in one transaction: some milliseconds."""
_DUE: Final = 100
_LATE: Final = timedelta(hours=1)
"""How long after a request events from before it are still looked for; far longer than a transaction lasts."""
_LOOK_AGAIN: Final = timedelta(seconds=60)
_SETTLE: Final = timedelta(milliseconds=200)


class ForgettingService:
    """Requests of the session's tenant."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def request(self, principal: str, *, by: str) -> Forgetting:
        """Ask to forget a principal, also one who is no more; gives the open request where there is one.

        Raises Invalid `principal_invalid`, Conflict `forgetting_limit`. A retry is safe.
        """
        _require_nameable(principal)
        if (found := await repository.find_open_forgetting(self._session, principal)) is not None:
            return found
        if await repository.count_open_forgettings(self._session) >= MOST_OPEN:
            raise too_many_forgettings(MOST_OPEN)
        made, now = new_id(), self._clock.now()
        if await repository.insert_forgetting(self._session, made, principal=principal, by=by, now=now):
            await self._record("audit.forget_requested", made, principal=principal)
            return await self.get(made)
        found = await repository.find_open_forgetting(self._session, principal)
        return found if found is not None else await self.request(principal, by=by)

    async def get(self, forgetting_id: UUID) -> Forgetting:
        found = await repository.find_forgetting(self._session, forgetting_id)
        if found is None:
            raise forgetting_not_found()
        return found

    async def list_forgettings(self, *, before: UUID | None = None, limit: int = 50) -> list[Forgetting]:
        """Newest first."""
        return await repository.list_forgettings(self._session, before=before, limit=limit)

    async def require_writable(self) -> None:
        """Raise what a write would: nothing of a tenant that is on the move, or elsewhere, is forgotten here."""
        await repository.require_writable(self._session)

    async def tell_done(self, forgetting_id: UUID) -> None:
        """Record that all was forgotten, once however often it is told."""
        done, name = await self.get(forgetting_id), format_id(Prefix.FORGETTING, forgetting_id)
        if await self._audit.list_events(AuditFilter(action="audit.person_forgotten", resource=name), limit=1):
            return
        await self._record("audit.person_forgotten", forgetting_id, principal=done.principal, count=done.forgotten)

    async def _record(self, action: str, forgetting_id: UUID, **details: str | int) -> None:
        await self._audit.record(
            action,
            resource_type="forgetting",
            resource_id=format_id(Prefix.FORGETTING, forgetting_id),
            details=details,
        )


@dataclass(frozen=True, slots=True)
class Forgot:
    """What came of a piece. `further`: there are more events; `finished`: all is forgotten, and nobody has told yet."""

    events: int
    further: bool
    finished: bool


async def list_due_forgettings(
    connection: "Sealing", *, now: datetime, without: Collection[UUID] = ()
) -> list[DueForgetting]:
    """List requests that are due, as the sealer: one of each tenant, those first that have waited longest."""
    return await repository.list_due_forgettings(connection, now=now, limit=_DUE, without=without)


async def forget_person(connection: "Sealing", due: DueForgetting, *, now: datetime, limit: int = _EVENTS) -> Forgot:
    """Forget it in the next events, as the sealer, in the connection's transaction. A retry is safe."""
    await repository.lock_events(connection, due.tenant_id)
    request = await repository.take_forgetting(connection, due, now=now)
    if request is None:
        return Forgot(0, further=False, finished=False)
    looked, found = await repository.forget_named(connection, due.tenant_id, request, now=now, limit=limit)
    if looked == limit:
        return Forgot(found, further=True, finished=False)
    if request.state is ForgettingState.DONE:
        again = now + _LOOK_AGAIN if now < request.requested_at + _LATE else None
        await repository.note_forgetting(connection, due, state=request.state, due_at=again, ended_at=None)
        return Forgot(found, further=False, finished=False)
    if await repository.has_unsealed_before(connection, due.tenant_id, request.forgetting_id):
        state = ForgettingState.OPEN
        await repository.note_forgetting(connection, due, state=state, due_at=now + _SETTLE, ended_at=None)
        return Forgot(found, further=False, finished=False)
    return Forgot(found, further=False, finished=True)


async def end_forgetting(connection: "Sealing", due: DueForgetting, *, now: datetime) -> None:
    """Note that it was told of, as the sealer; late events are looked for further on."""
    await repository.note_forgetting(
        connection, due, state=ForgettingState.DONE, due_at=now + _LOOK_AGAIN, ended_at=now
    )


async def hold_forgetting(connection: "Sealing", due: DueForgetting, *, now: datetime) -> None:
    """Let a request wait while a legal hold keeps what it would forget, as the sealer."""
    request = await repository.take_forgetting(connection, due, now=now)
    if request is None:
        return
    done = request.state is ForgettingState.DONE
    state = ForgettingState.DONE if done else ForgettingState.HELD
    await repository.note_forgetting(connection, due, state=state, due_at=now + _LOOK_AGAIN, ended_at=None)


def _require_nameable(principal: str) -> None:
    prefix, _, _ = principal.partition("_")
    for nameable in NAMEABLE:
        if prefix == nameable.value:
            try:
                parse_id(nameable, principal)
            except Invalid as error:
                raise not_nameable(error.message) from error
            return
    raise not_nameable(f"expected an id that begins with {', '.join(f'{each}_' for each in NAMEABLE)}")
