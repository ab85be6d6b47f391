"""Legal holds: placed for a case, kept after their release; what one keeps is neither collected nor forgotten."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.evidence import repository
from tenantry.capabilities.evidence.errors import hold_not_found, hold_released, legal_hold, too_many_holds
from tenantry.capabilities.evidence.types import Hold, Selector
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id

_SLACK: Final = timedelta(minutes=1)
"""How long before its evidence began what is told of work may have got its id."""
MOST_HOLDS: Final = 100
"""Active ones of one workspace."""


class HoldService:
    """Holds in workspaces of the session's tenant."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def place(self, *, workspace_id: UUID, case_id: str, reason: str, selector: Selector, by: str) -> Hold:
        """Place a hold; from its commit on nothing it selects is collected. Raises Conflict `hold_limit`."""
        if await repository.lock_holds(self._session, workspace_id=workspace_id) >= MOST_HOLDS:
            raise too_many_holds(MOST_HOLDS)
        hold = Hold(new_id(), workspace_id, case_id, reason, selector, self._clock.now(), by)
        await repository.insert_hold(self._session, hold)
        await self._record("evidence.hold_placed", hold, {"selector": sorted(_said(selector))})
        return hold

    async def get(self, hold_id: UUID, *, workspace_id: UUID) -> Hold:
        return await self._find(hold_id, workspace_id)

    async def list_holds(
        self, *, workspace_id: UUID, before: UUID | None = None, limit: int = 50, active: bool | None = None
    ) -> list[Hold]:
        """Newest first, also those that were released, unless `active` says which."""
        return await repository.list_holds(
            self._session, workspace_id=workspace_id, before=before, limit=limit, active=active
        )

    async def release(self, hold_id: UUID, *, workspace_id: UUID, by: str, reason: str | None = None) -> Hold:
        """Release it for good; raises NotFound, Conflict `hold_released`."""
        hold = await self._find(hold_id, workspace_id, lock=True)
        if hold.released_at is not None:
            raise hold_released()
        await repository.release_hold(self._session, hold_id, by=by, reason=reason, now=self._clock.now())
        await self._record("evidence.hold_released", hold, {})
        return await self._find(hold_id, workspace_id)

    async def require_none(self, *, then: str = "delete it") -> None:
        """Raise Conflict `legal_hold` that names the cases, while the tenant has an active one."""
        if cases := await repository.list_cases(self._session):
            raise legal_hold(cases, then=then)

    async def list_cases_still(self) -> list[str]:
        """Name the cases of all active holds of the tenant; until the transaction ends nobody places one."""
        await repository.hold_still(self._session, workspace_id=None)
        return await repository.list_cases(self._session)

    async def _find(self, hold_id: UUID, workspace_id: UUID, *, lock: bool = False) -> Hold:
        hold = await repository.find_hold(self._session, hold_id, lock=lock)
        if hold is None or hold.workspace_id != workspace_id:
            raise hold_not_found()
        return hold

    async def _record(self, action: str, hold: Hold, details: dict[str, Any]) -> None:
        await self._audit.record(
            action,
            resource_type="hold",
            resource_id=format_id(Prefix.HOLD, hold.hold_id),
            details={"case": hold.case_id, **details},
        )


class LegalHolds:
    """The `Keeping` port of tenants: what the sweep of content must leave."""

    async def keeps(self, session: TenantSession, *, kind: str, item_id: UUID) -> bool:
        """Say whether a hold keeps what this work has left; until the transaction ends nobody places one that would."""
        workspace_id = await repository.find_workspace_of(session, kind=kind, subject_id=item_id)
        if workspace_id is None:
            return False
        await repository.hold_still(session, workspace_id=workspace_id)
        return await repository.is_held(session, kind=kind, subject_id=item_id)


class LogReserve:
    """The `Reserve` port of audit: what evidence and holds need of the log."""

    async def needed_from(self, session: TenantSession, *, before: datetime) -> datetime | None:
        """Give the moment from which on events are needed; None while a hold keeps all that the tenant has.

        Evidence that is still to be locked names the events of its work, from its beginning on. Locked, it has all that
        it needs; and what could not be locked until `before`, whose end that long ago it was, never will be.
        """
        await repository.hold_still(session, workspace_id=None)
        if await repository.list_cases(session):
            return None
        oldest = await repository.find_oldest_open(session, ended_since=before)
        return min(before, oldest - _SLACK) if oldest else before


def _said(selector: Selector) -> list[str]:
    return [name for name in Selector.__dataclass_fields__ if getattr(selector, name) is not None]
