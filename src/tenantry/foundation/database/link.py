"""The LISTEN link of a process to one cell: wakes waiters, drops caches, and says whether caches may be believed.

A cache of keys, permissions or states counts only while the link has answered a ping in the last 500 ms: a process cut
off from news asks the database each time instead (fail closed). After a reconnect everything cached is dropped, as
news may have been missed.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from tenantry.foundation.clock import Clock
from tenantry.foundation.database.pool import database_errors

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

FRESH_SECONDS: Final = 0.5
_PING_SECONDS: Final = 0.15
_RETRY_SECONDS: Final = 0.25
_START_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Link:
    """One connection that listens. `subscribe` before `start`; callbacks run on the loop and must not block."""

    def __init__(self, dsn: str, *, clock: Clock) -> None:
        self._dsn = dsn
        self._clock = clock
        self._channels: dict[str, list[Callable[[str], None]]] = {}
        self._on_lost: list[Callable[[], None]] = []
        self._answered_at = float("-inf")
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self.clock_offset = 0.0

    @property
    def fresh(self) -> bool:
        """Whether what was cached may still be believed."""
        return self._clock.monotonic() - self._answered_at < FRESH_SECONDS

    def subscribe(self, channel: str, callback: Callable[[str], None]) -> None:
        """Call `callback(payload)` for each NOTIFY on `channel`."""
        self._channels.setdefault(channel, []).append(callback)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call when news may have been missed: drop caches, sweep."""
        self._on_lost.append(callback)

    async def start(self) -> None:
        """Connect and begin; returns once the first ping is answered. Raises Unavailable when none is."""
        self._task = asyncio.create_task(self._run(), name="database-link")
        with database_errors():
            async with asyncio.timeout(_START_SECONDS):
                await self._up.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - to be cut off from news for good is worse than any of them
                _log.warning("database.link_lost", reason=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5)
        self._connection = connection
        try:
            for channel, callbacks in self._channels.items():
                await connection.add_listener(channel, _fan_out(callbacks))
            for callback in self._on_lost:
                callback()
            while True:
                sent = self._clock.monotonic()
                database_time = await connection.fetchval("select clock_timestamp()", timeout=FRESH_SECONDS * 4)
                self.clock_offset = (database_time - self._clock.now()).total_seconds()
                self._answered_at = sent
                self._up.set()
                await asyncio.sleep(_PING_SECONDS)
        finally:
            self._answered_at = float("-inf")
            connection.terminate()


def _fan_out(callbacks: list[Callable[[str], None]]) -> Callable[..., None]:
    def deliver(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        for callback in callbacks:
            try:
                callback(payload)
            except Exception as error:  # noqa: BLE001 - whoever may write may send: noise must keep news from nobody
                _log.warning("database.news_refused", reason=type(error).__name__)

    return deliver
