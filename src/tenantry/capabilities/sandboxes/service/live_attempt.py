"""One life of a sandbox: an attempt whose program only waits, that others speak with, and whose files are kept.

It ends by its time, by idleness, by a stop, by what closes its tenant or workspace, and with its worker. Whatever ends
it but a lost lease, what lies in /workspace then is kept, where content is kept at all.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import datetime
from math import inf
from typing import Final

import structlog

from tenantry.capabilities.limits.service import give_back
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.attempt import Attempt
from tenantry.capabilities.sandboxes.service.bridging import reading
from tenantry.capabilities.sandboxes.service.ending import LEASE_LOST, WORKER_STOPPED
from tenantry.capabilities.sandboxes.service.job_limits import most_kept_bytes
from tenantry.capabilities.sandboxes.service.live_room import LiveEntry, LiveRoom
from tenantry.capabilities.sandboxes.service.workshop import Workshop
from tenantry.capabilities.sandboxes.types import Job, JobEnd, JobStatus
from tenantry.capabilities.sandboxes.types.living import SANDBOX, KeptTree, LiveSandbox
from tenantry.engines.fairqueue.types import Claim
from tenantry.engines.jail.backend import Running
from tenantry.engines.jail.trees import Fill
from tenantry.engines.jail.types import Ending, Outcome
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Conflict, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import TenantScope

EXPIRED: Final = "expired"
IDLE: Final = "idle"
NOT_KEPT: Final = "not_kept"
_LOOK_SECONDS: Final = 30.0
"""A look at the row without news mends what was lost."""
_TRIES: Final = 3
_RETRY_SECONDS: Final = 0.5

_log = structlog.get_logger(__name__)


class LiveAttempt(Attempt):
    """Made for one claim of a sandbox."""

    def __init__(self, workshop: Workshop, claim: Claim, scope: TenantScope, *, room: LiveRoom) -> None:
        super().__init__(workshop, claim, scope)
        self._room = room
        self._entry: LiveEntry | None = None
        self._kept: KeptTree | None = None
        self._expires_at: datetime | None = None
        self._idle_seconds = 0
        self._looked = asyncio.Event()

    async def narrow(self) -> None:
        """Look at what it may still connect to, and at how long it may live and be idle."""
        await super().narrow()
        await self._look()

    async def _look(self) -> None:
        if self._entry is None:
            return
        async with self._session() as session:
            found = await repository.find_sandbox(session, self._entry.sandbox_id, workspace_id=None)
        if found is not None and found.job_id == self._entry.job_id:
            self._expires_at, self._idle_seconds = found.expires_at, found.idle_seconds
            self._looked.set()

    async def _workspace(self, job: Job) -> Fill | None:
        sandbox = await self._patiently(lambda: self._find(job))
        if sandbox is None:
            raise Conflict("sandbox_deleted", "it was deleted before it began", layer="sandboxes")
        return self._fill_from(sandbox.tree) if sandbox.tree is not None else None

    async def _find(self, job: Job) -> LiveSandbox | None:
        if job.sandbox_id is None:
            return None
        async with self._session() as session:
            return await repository.find_sandbox(session, job.sandbox_id, workspace_id=job.workspace_id)

    def _fill_from(self, tree: KeptTree) -> Fill:
        loop, content, tenant_id = asyncio.get_running_loop(), self._room.content, self._scope.tenant_id

        async def opened() -> AsyncIterator[bytes]:
            return await content.open_tree(tree, tenant_id=tenant_id)

        return Fill.from_archive(lambda: reading(opened, loop))

    async def _while_it_runs(self, sandbox: Running, job: Job) -> Outcome:
        """Let it be spoken with until it is dead."""
        if job.sandbox_id is None:
            return await sandbox.wait()
        entry = self._entry = LiveEntry(
            tenant_id=self._scope.tenant_id,
            workspace_id=job.workspace_id,
            sandbox_id=job.sandbox_id,
            job_id=job.job_id,
            place=job.place,
            keeps=job.tree_id is not None,
            most_kept_bytes=most_kept_bytes(job.limits),
            sandbox=sandbox,
            mask=self._mask,
            clock=self._workshop.clock,
        )
        self._room.enter(entry)
        living = asyncio.create_task(self._live_on(entry, job), name="living")
        try:
            return await sandbox.wait()
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await self._room.leave(entry)

    async def _live_on(self, entry: LiveEntry, job: Job) -> None:
        """Say where it answers; then wait for the end of its time, or of what happens in it."""
        try:
            opened = await self._patiently(lambda: self._open(entry, job))
            if opened is None:
                self.kill("deleted")
                return
            entry.touch()
            self._expires_at, self._idle_seconds = opened.expires_at, opened.idle_seconds
            while (reason := self._over(entry)) is None:
                await self._wait(entry)
            self.kill(reason)
        except Exception as error:  # noqa: BLE001 - one that nobody watches must not live on
            _log.exception("sandbox.unwatched", job=format_id(Prefix.JOB, job.job_id), kind=type(error).__name__)
            self.kill("internal")

    async def _open(self, entry: LiveEntry, job: Job) -> LiveSandbox | None:
        async with self._session() as session:
            return await repository.open_link(
                session,
                entry.sandbox_id,
                job.job_id,
                attempt=self._ticket.attempt,
                link=self._room.address,
                now=self._workshop.clock.now(),
            )

    def _left(self, entry: LiveEntry) -> tuple[float, float]:
        """Seconds of its time that are left, and of its idleness."""
        now = self._workshop.clock.now()
        life = (self._expires_at - now).total_seconds() if self._expires_at else inf
        return life, self._idle_seconds - entry.idle_for() if self._idle_seconds else inf

    def _over(self, entry: LiveEntry) -> str | None:
        life, idle = self._left(entry)
        if life <= 0:
            return EXPIRED
        return IDLE if idle <= 0 else None

    async def _wait(self, entry: LiveEntry) -> None:
        """Wait until something may be over, and look once more before it is: news of more time may have been lost."""
        seconds = min(*self._left(entry), _LOOK_SECONDS)
        self._looked.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._looked.wait()
        except TimeoutError:
            with contextlib.suppress(TenantryError):
                await self._look()

    def _retold(self, end: JobEnd) -> JobEnd:
        """Tell of one whose worker stops that it is stopped, and can be started again: nothing has failed."""
        if end.reason == WORKER_STOPPED:
            return JobEnd(JobStatus.CANCELLED, WORKER_STOPPED, "its worker was stopped: start it again")
        return end

    async def _keep(self, job: Job, end: JobEnd) -> JobEnd:
        if job.tree_id is None or self._entry is None or end.reason == Ending.NOT_STARTED.value:
            return end
        for again in range(_TRIES):
            try:
                self._kept = await self._room.keep(self._entry, job.tree_id)
            except (TenantryError, OSError) as error:
                if isinstance(error, Unavailable) and again + 1 < _TRIES and self._why_killed() != LEASE_LOST:
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                why = error.message if isinstance(error, TenantryError) else error.strerror
                _log.error("sandbox.not_kept", job=format_id(Prefix.JOB, job.job_id), why=why)
                detail = f"its files could not be kept, those of the stop before are still there: {why}"
                return dataclasses.replace(end, status=JobStatus.FAILED, reason=NOT_KEPT, detail=detail)
            self._tree_bytes = self._kept.size_bytes
            break
        return end

    async def _report_kept(self, session: TenantSession, job: Job) -> None:
        """Put the tree in the place of the one before; of a sandbox that was deleted meanwhile nothing stays."""
        kept = self._kept
        if kept is None or job.sandbox_id is None:
            return
        now = self._workshop.clock.now()
        current = await repository.find_sandbox(session, job.sandbox_id, workspace_id=None, lock=True)
        if current is None:
            await give_back(session, kept.tree_id, (Quota.STORAGE,), clock=self._workshop.clock)
            await repository.list_for_purge(session, SANDBOX, job.sandbox_id, due_at=now)
            return
        await repository.insert_tree(session, kept)
        await repository.put_tree(session, job.sandbox_id, kept.tree_id)
        if current.tree_id is not None:
            await repository.drop_tree(session, current.tree_id, now=now)

    async def _discard(self, job: Job) -> None:
        if self._kept is None or job.sandbox_id is None:
            return
        with contextlib.suppress(TenantryError):
            await self._room.content.delete_tree(
                tenant_id=self._scope.tenant_id,
                place=job.place,
                sandbox_id=job.sandbox_id,
                tree_id=self._kept.tree_id,
            )

    def _used_slot_seconds(self, end: JobEnd) -> float:
        """Charge what it worked: waiting is free."""
        return float(end.usage.get("cpu_seconds", 0.0))
