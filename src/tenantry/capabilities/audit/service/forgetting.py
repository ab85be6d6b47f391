"""Forgetting what events say about persons, after a time; the events stay, and every proof of them (ADR 0044)."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.foundation.ids import first_id_at

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

_TENANTS: Final = 100
_EVENTS: Final = 5000


async def forgettable(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, before: datetime, after: UUID | None
) -> list[UUID]:
    """List tenants whose trail has something to be forgotten, perhaps, as the sealer: a hundred at most, behind one."""
    return await repository.find_forgettable(connection, before=first_id_at(before), after=after, limit=_TENANTS)


async def forget(
    connection: "PoolConnectionProxy[asyncpg.Record]", *, tenant_id: UUID, before: datetime, now: datetime
) -> tuple[int, bool]:
    """Forget it in 5000 events at most, as the sealer. A retry is safe.

    Tells in how many there was any, and whether there may be more. Files of days that say it are due at `now`.
    """
    await repository.lock_events(connection, tenant_id)
    looked, found = await repository.forget_personal(
        connection, tenant_id, before=first_id_at(before), now=now, limit=_EVENTS
    )
    return found, looked == _EVENTS
