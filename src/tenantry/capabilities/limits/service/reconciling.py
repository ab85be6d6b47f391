"""Proves the ledger against what it stands for, and sets right what does not agree, with an audit event.

Three questions: does each reservation still stand for something under way or kept; has the time of one run out; is
each counter the sum of its reservations.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.ports import Subject
from tenantry.capabilities.limits.service.ledger import settle
from tenantry.capabilities.limits.types.quotas import Quota, Repair, ReservationState, Reserved
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.telemetry import QUOTA_REPAIRS

_BATCH: Final = 500
_WINDOWS: Final = timedelta(days=62)
"""Windows that began longer ago are not looked at any more."""
_KEPT: Final = timedelta(days=70)
"""How long reservations stay that hold nothing: longer than any window that is looked at."""
_MOST_TOLD: Final = 20


class Reconciler:
    """Reconciles the session's tenant; run it often, several at once do no harm."""

    def __init__(self, *, session: TenantSession, subjects: Sequence[Subject], clock: Clock) -> None:
        self._session = session
        self._subjects = subjects
        self._clock = clock

    async def run(self) -> list[Repair]:
        """Set right what is wrong, in the session's transaction; tells what it was."""
        await self._expire()
        repairs = [repair for subject in self._subjects for repair in await self._examine(subject)]
        repairs += await self._recount()
        now = self._clock.now()
        await repository.delete_reservations(self._session, before=now - _KEPT)
        if repairs:
            QUOTA_REPAIRS.inc(len(repairs))
            await AuditService(session=self._session, clock=self._clock).record(
                "quota.repaired",
                resource_type="tenant",
                resource_id=format_id(Prefix.TENANT, self._session.scope.tenant_id),
                details={"count": len(repairs), "repairs": [_told(each) for each in repairs[:_MOST_TOLD]]},
            )
        return repairs

    async def _expire(self) -> None:
        """Give back what was held for a time that is over: its holder has died, or has forgotten it."""
        now = self._clock.now()
        for reservation_id in await repository.list_expired(self._session, now=now, limit=_BATCH):
            await repository.move_reservation(
                self._session,
                reservation_id,
                used={},
                states=(ReservationState.HELD,),
                whole=True,
                emptied=ReservationState.EXPIRED,
                now=now,
            )

    async def _examine(self, subject: Subject) -> list[Repair]:
        repairs: list[Repair] = []
        after: UUID | None = None
        while items := await repository.list_reserved(self._session, kind=subject.kind, after=after, limit=_BATCH):
            by_id: dict[UUID, list[Reserved]] = defaultdict(list)
            for item in items:
                by_id[item.reservation_id].append(item)
            takes = await subject.takes(self._session, list(by_id))
            for reservation_id, reserved in by_id.items():
                taken = takes.get(reservation_id, {})
                if taken is not None and await self._settle(reservation_id, reserved, taken):
                    was = {item.quota.value: item.used for item in reserved}
                    told = {quota.value: amount for quota, amount in taken.items()}
                    repairs.append(Repair("reservation", reservation_id, was, told))
            after = items[-1].reservation_id
        return repairs

    async def _settle(self, reservation_id: UUID, reserved: list[Reserved], taken: Mapping[Quota, int]) -> bool:
        """Set what a reservation keeps to what its subject takes; False when that was so by now."""
        changed = False
        if any(item.held for item in reserved):
            changed = await settle(self._session, reservation_id, taken, clock=self._clock)
        wrong = {
            item.quota: taken.get(item.quota, 0)
            for item in reserved
            if not item.held and item.used != taken.get(item.quota, 0)
        }
        if wrong:
            changed |= (
                await repository.move_reservation(
                    self._session,
                    reservation_id,
                    used=wrong,
                    states=(ReservationState.SETTLED,),
                    whole=False,
                    emptied=ReservationState.RELEASED,
                    now=self._clock.now(),
                )
                > 0
            )
        return changed

    async def _recount(self) -> list[Repair]:
        now = self._clock.now()
        repairs = []
        for wrong in await repository.list_wrong_counters(self._session, since=now - _WINDOWS):
            if found := await repository.set_counter(self._session, wrong, now=now):
                was, is_now = found
                repairs.append(
                    Repair(
                        was.quota.value,
                        was.holder_id,
                        {"held": was.held, "used": was.used},
                        {"held": is_now.held, "used": is_now.used},
                    )
                )
        return repairs


def _told(repair: Repair) -> dict[str, object]:
    return {
        "what": repair.quota,
        "id": repair.holder_id.hex,
        "was": dict(repair.was),
        "set_to": dict(repair.set_to),
    }
