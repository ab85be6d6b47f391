"""Reservations: held before use, settled with what was used, given back when that goes. Needs no limits, so that a
worker can settle what a server has held.

All of it happens in the session's transaction, which is that of the work itself: what is rolled back was never held,
and what ends has been settled.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

from tenantry.capabilities.limits import repository
from tenantry.capabilities.limits.types.quotas import Quota, ReservationState
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession

_LIVE = (ReservationState.HELD, ReservationState.SETTLED)


async def settle(session: TenantSession, reservation_id: UUID, used: Mapping[Quota, int], *, clock: Clock) -> bool:
    """Settle a held reservation with what was used; what `used` does not name was not. False when there is none held.

    Safe to repeat. What was used beyond what was held counts all the same: it is what happened.
    """
    moved = await repository.move_reservation(
        session,
        reservation_id,
        used=used,
        states=(ReservationState.HELD,),
        whole=True,
        emptied=ReservationState.RELEASED,
        now=clock.now(),
    )
    return moved > 0


async def give_back(session: TenantSession, reservation_id: UUID, quotas: Iterable[Quota], *, clock: Clock) -> None:
    """Give back what a reservation holds or keeps of some quotas, because it is gone. Safe to repeat."""
    await keep_only(session, reservation_id, dict.fromkeys(quotas, 0), clock=clock)


async def keep_only(session: TenantSession, reservation_id: UUID, used: Mapping[Quota, int], *, clock: Clock) -> None:
    """Set what a reservation keeps of the named quotas, whether it was held or settled. Safe to repeat."""
    await repository.move_reservation(
        session,
        reservation_id,
        used=used,
        states=_LIVE,
        whole=False,
        emptied=ReservationState.RELEASED,
        now=clock.now(),
    )
