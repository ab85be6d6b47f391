"""Hands news of a cell's outboxes to whoever is subscribed, at least once."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.access.types.grants import (
    GRANT_ENDED,
)
from tenantry.capabilities.tenants.ports import Stopper
from tenantry.capabilities.tenants.service import TENANT_CHANGED, TENANT_SUSPENDED, WORKSPACE_SUSPENDED, Offboarding
from tenantry.entrypoints.granted import GrantFollower
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.foundation import outbox
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.outbox import OutboxEvent
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_TOPICS: Final = (TENANT_SUSPENDED, WORKSPACE_SUSPENDED, TENANT_CHANGED, GRANT_ENDED)
_LOOK_SECONDS: Final = 5.0
"""A look without news mends what was lost."""

_log = structlog.get_logger(__name__)


class Relay:
    """One for each cell of a server process; `wake` it at a commit that left news."""

    def __init__(
        self,
        rounds: Rounds,
        *,
        cell: Cell,
        stoppers: Mapping[str, Stopper],
        offboarding: Offboarding,
        grants: GrantFollower,
    ) -> None:
        self._rounds = rounds
        self._cell = cell
        self._stoppers = stoppers
        self._offboarding = offboarding
        self._grants = grants
        self._wake = asyncio.Event()

    def wake(self, _payload: str = "") -> None:
        self._wake.set()

    async def run(self) -> None:
        await forever("relay", self.look, seconds=_LOOK_SECONDS, wake=self._wake)

    async def look(self) -> None:
        """Deliver all that is new; what cannot be delivered now is tried again at the next look."""
        async for place, pool, schema in self._rounds.waiting("outbox"):
            with self._rounds.attempt(place, schema):
                await self._deliver(pool, schema)

    async def _deliver(self, pool: "Pool", schema: str) -> None:
        """Deliver the news of one place, each tenant's in their order, until it cannot be told just now."""
        waiting = set[UUID]()
        while True:
            async with platform_session(pool, schema=schema) as connection:
                events = await outbox.take(connection, topics=_TOPICS, without=waiting)
                for event in events:
                    if event.tenant_id in waiting:
                        continue
                    try:
                        await self._follow(event)
                    except Exception as error:  # noqa: BLE001 - one tenant's trouble must not silence the others
                        code = error.code if isinstance(error, TenantryError) else type(error).__name__
                        _log.warning("relay.tenant_waits", tenant=str(event.tenant_id), topic=event.topic, code=code)
                        waiting.add(event.tenant_id)
                        continue
                    await outbox.settle(connection, event)
            if not events:
                return

    async def _follow(self, event: OutboxEvent) -> None:
        if event.topic == TENANT_CHANGED:
            await self._offboarding.follow(event.tenant_id, region=self._cell.region)
        elif event.topic == GRANT_ENDED:
            await self._grants.follow(event.tenant_id, event.payload)
        else:
            await self._stop_what_runs(event)

    async def _stop_what_runs(self, event: OutboxEvent) -> None:
        """Stop everything of a closed tenant or workspace."""
        scope = TenantScope(tenant_id=event.tenant_id, region=self._cell.region, actor=SYSTEM)
        workspace = event.payload.get("workspace_id")
        workspace_id = UUID(hex=workspace) if workspace else None
        reason = "workspace_suspended" if workspace_id else "tenant_suspended"
        for stopper in self._stoppers.values():
            async with self._cell.session(scope, lifecycle=True) as session:
                await stopper.stop_all(session, workspace_id=workspace_id, reason=reason)
