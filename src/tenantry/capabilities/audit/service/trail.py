"""The bounded group commit of events that have no transaction of their own."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import TrailFull
from tenantry.capabilities.audit.service.events import make_event
from tenantry.capabilities.audit.types import Outcome
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.telemetry import AUDIT_WAITING

_BATCH: Final = 1000
_RETRY_SECONDS: Final = 0.5
_REST_RATIO: Final = 4
"""Rest to work of a tenant whose events cannot be written: the most of what is flushed at once that it takes."""

_log = structlog.get_logger(__name__)


class AuditTrail:
    """The bounded group commit of one cell, for events that have no transaction of their own: reads and refusals.

    A crash loses at most `flush_seconds` of them. Each tenant's events are flushed in a transaction bound to that
    tenant, by a task of its own, so one that cannot be written, or hangs, holds up nobody else: at most `at_once` are
    flushed at a time, and who has failed is left alone for a while, the longer the longer it took. They wait until they
    are known to be kept, and count towards `capacity` that long.
    """

    def __init__(
        self,
        *,
        region: str,
        open_session: Callable[[TenantScope], TenantSession],
        find_region: Callable[[UUID], Awaitable[str | None]],
        clock: Clock,
        flush_seconds: float,
        capacity: int,
        sample_reads: float = 1.0,
        at_once: int = 4,
    ) -> None:
        """`open_session` opens one that does not wait for a lock for long. `at_once`: fewer than it has connections."""
        self._region = region
        self._open_session = open_session
        self._find_region = find_region
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._capacity = capacity
        self._sample_reads = sample_reads
        self._waiting: dict[UUID, list[repository.ReadyEvent]] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(at_once)
        self._writing: dict[UUID, asyncio.Task[bool]] = {}
        self._resting: set[UUID] = set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def read(
        self,
        scope: TenantScope,
        *,
        action: str,
        resource_type: str,
        resource_id: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Take note of an allowed read, or of its sample where the installation says so."""
        if self._sample_reads < 1.0 and random.random() >= self._sample_reads:  # noqa: S311 - a sample, not a secret
            return
        self.note(scope, action=action, resource_type=resource_type, resource_id=resource_id, details=details)

    def note(
        self,
        scope: TenantScope,
        *,
        action: str,
        resource_type: str,
        resource_id: str,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Take an event for the next flush.

        Raises TrailFull (503) when too many of this tenant wait, ValueError for an event without a canonical form,
        which would block all behind it.
        """
        if len(self._waiting.get(scope.tenant_id, ())) >= self._capacity:
            raise TrailFull
        event = make_event(
            scope,
            clock=self._clock,
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            outcome=outcome,
            reason=reason,
            details=details,
        )
        self._waiting.setdefault(scope.tenant_id, []).append(repository.made_ready(event))
        self._count += 1
        self._wake.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"audit-trail-{self._region}")

    async def stop(self) -> None:
        """Flush what waits, then end. A flush under way is not broken off: its commit could not be told then."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self.flush()

    async def flush(self) -> bool:
        """Write all that waits now; tells whether all of it was written."""
        return all(await asyncio.gather(*(self._flush_tenant(tenant_id) for tenant_id in list(self._waiting))))

    async def _flush_tenant(self, tenant_id: UUID) -> bool:
        while (begun := self._writing.get(tenant_id)) is not None:  # before the last of what waits now, perhaps
            await asyncio.wait((begun,))
        # Not broken off with whoever waits for it: its commit could not be told then.
        return tenant_id not in self._waiting or await asyncio.shield(self._begin(tenant_id))

    def _begin(self, tenant_id: UUID) -> asyncio.Task[bool]:
        self._writing[tenant_id] = task = asyncio.create_task(self._turn(tenant_id), name="audit-trail-flush")
        return task

    async def _turn(self, tenant_id: UUID) -> bool:
        """Write what waits of a tenant; where that fails, it rests before it is tried again without being asked."""
        loop = asyncio.get_running_loop()
        try:
            async with self._room:
                began = loop.time()
                written = await self._write(tenant_id)
        finally:
            del self._writing[tenant_id]
        AUDIT_WAITING.labels(self._region).set(self._count)
        if not written:
            self._resting.add(tenant_id)
            loop.call_later(max(_RETRY_SECONDS, _REST_RATIO * (loop.time() - began)), self._rested, tenant_id)
        elif tenant_id in self._waiting:  # more has come meanwhile
            self._wake.set()
        return written

    def _rested(self, tenant_id: UUID) -> None:
        self._resting.discard(tenant_id)
        self._wake.set()

    async def _write(self, tenant_id: UUID) -> bool:
        scope = TenantScope(tenant_id=tenant_id, region=self._region, actor=SYSTEM)
        waiting = self._waiting[tenant_id]
        left = len(waiting)  # what comes meanwhile waits for the next flush, else a busy tenant has one commit an event
        while left:
            batch = waiting[: min(left, _BATCH)]
            try:
                async with self._open_session(scope) as session:
                    await repository.insert_events(session, batch)
            except TenantryError as error:
                if error.code == "tenant_unknown":
                    region = await self._region_of(scope)
                    if region is None:  # erased: there is no trail any more that this could be told to
                        _log.warning("audit.tenant_gone", events=left, tenant=str(tenant_id))
                        del waiting[:left]
                        self._count -= left
                        break
                    if region != scope.region:
                        scope = replace(scope, region=region)
                        continue
                _log.warning("audit.flush_failed", code=error.code, events=len(waiting), tenant=str(tenant_id))
                return False
            except Exception as error:  # noqa: BLE001 - one tenant's fault must not end the trail of all
                _log.error("audit.flush_fault", kind=type(error).__name__, events=len(waiting), tenant=str(tenant_id))
                return False
            del waiting[: len(batch)]
            self._count -= len(batch)
            left -= len(batch)
        if not waiting:
            del self._waiting[tenant_id]
        return True

    async def _region_of(self, scope: TenantScope) -> str | None:
        """Tell where a tenant is that has left this cell with events still to be written; None for one that is gone."""
        try:
            return await self._find_region(scope.tenant_id)
        except TenantryError:
            return scope.region

    async def _run(self) -> None:
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._flush_seconds)
            for tenant_id in self._waiting.keys() - self._writing.keys() - self._resting:
                self._begin(tenant_id)
