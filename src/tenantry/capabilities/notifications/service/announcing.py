"""Turns an event of the outbox into deliveries: one for each channel that hears of it and each person concerned."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.notifications import repository
from tenantry.capabilities.notifications.ports import Describe, Surroundings
from tenantry.capabilities.notifications.service.composing import (
    happened_at,
    noticed,
    shown_ids,
    user_in,
    workspace_in,
)
from tenantry.capabilities.notifications.types import PERSON_FIELDS, Notice, ids_of
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.outbox import OutboxEvent
from tenantry.foundation.scope import SYSTEM, TenantScope

_NOWHERE: Final = frozenset({"workspace_id"})
"""Members of a payload that a notice shows by themselves."""


class Announcer:
    """Of one cell. `descriptions` by the noun of a topic; `by_email`: persons are told, too."""

    def __init__(
        self,
        *,
        cell: Cell,
        surroundings: Surroundings,
        descriptions: Mapping[str, Describe],
        by_email: bool,
        keep: timedelta,
        clock: Clock,
    ) -> None:
        self._cell = cell
        self._surroundings = surroundings
        self._descriptions = descriptions
        self._by_email = by_email
        self._keep = keep
        self._clock = clock

    async def announce(self, event: OutboxEvent) -> int:
        """Make the deliveries of an event in one transaction; those it has are left. Gives how many are new.

        Raises Unavailable for a tenant that cannot be written to now: the event is to come again. A suspended tenant's
        events are taken, and sent once it is active.
        """
        scope = TenantScope(tenant_id=event.tenant_id, region=self._cell.region, actor=SYSTEM)
        now = self._clock.now()
        async with self._cell.session(scope, lifecycle=True) as session:
            notice = await self._notice(session, event)
            kept = noticed(notice)
            noun = event.topic.partition(".")[0]
            count = await repository.insert_for_channels(
                session,
                event_id=event.event_id,
                topic=event.topic,
                subscriptions=("*", f"{noun}.*", event.topic),
                workspace_id=notice.workspace_id,
                notice=kept,
                now=now,
            )
            for user_id in await self._persons(session, event.payload):
                count += await repository.insert_one(
                    session,
                    event_id=event.event_id,
                    topic=event.topic,
                    workspace_id=notice.workspace_id,
                    recipient_id=user_id,
                    notice=kept,
                    now=now,
                )
            await repository.forget_ended(session, before=_id_at(now - self._keep))
        return count

    async def _notice(self, session: TenantSession, event: OutboxEvent) -> Notice:
        workspace_id = workspace_in(event.payload)
        name = await self._surroundings.workspace_name(session, workspace_id) if workspace_id else None
        describe = self._descriptions.get(event.topic.partition(".")[0])
        facts = await describe.describe(session, topic=event.topic, payload=event.payload) if describe else {}
        ids = {name: value for name, value in ids_of(event.payload).items() if name not in _NOWHERE}
        return Notice(
            topic=event.topic,
            occurred_at=happened_at(event.event_id),
            workspace_id=workspace_id if name is not None else None,
            workspace_name=name,
            ids=shown_ids(ids),
            facts=facts,
        )

    async def _persons(self, session: TenantSession, payload: Mapping[str, Any]) -> list[UUID]:
        """List whom the event concerns and an e-mail can reach."""
        if not self._by_email:
            return []
        named = {user_id for name in PERSON_FIELDS if (user_id := user_in(payload, name))}
        return [each for each in sorted(named) if await self._surroundings.email_of(session, each)]


def _id_at(moment: datetime) -> UUID:
    """Make the least UUIDv7 of a moment."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)
