"""Wakes whoever waits for a job: `?wait=`, log streams. News are hints; the database says what is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from tenantry.capabilities.sandboxes.types import JOB_NEWS
from tenantry.foundation.database.cells import Cells


class JobNews:
    """One for each process, fed by the links of its cells."""

    def __init__(self, cells: Cells) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        for cell in cells:
            cell.link.subscribe(JOB_NEWS, self._tell)
            cell.link.on_reconnect(self._tell_all)

    @asynccontextmanager
    async def following(self, job_id: UUID) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set at each piece of news; clear it, read the database, then wait for it."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id.hex, set()).add(event)
        try:
            yield event
        finally:
            events = self._waiting[job_id.hex]
            events.discard(event)
            if not events:
                del self._waiting[job_id.hex]

    def _tell(self, payload: str) -> None:
        for event in self._waiting.get(payload, ()):
            event.set()

    def _tell_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
