"""What whoever makes sandboxes has: a mark of its life, a launcher, threads, those it has started, an end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.owners import Owner
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.foundation.clock import Clock

_THREADS: Final = 8


class Supervisor(ABC):
    """Long-lived, one a process is enough; made by `open`, ended by `close`, bound to the loop it was opened on."""

    def __init__(self, *, owner: Owner, launcher: LauncherClient, clock: Clock, threads: str) -> None:
        """`threads` is what they are called."""
        self._owner = owner
        self._launcher = launcher
        self._launcher_lock = asyncio.Lock()
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix=threads)
        self._sandboxes: dict[str, Sandbox] = {}
        self._closed = False

    async def _begun(self, sandbox: Sandbox, bringing_up: Awaitable[None]) -> Sandbox:
        """Give a sandbox that runs; of one that cannot be brought up nothing stays."""
        self._sandboxes[sandbox.id] = sandbox
        try:
            await bringing_up
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def close(self) -> None:
        """Kill and clear away every sandbox, then all they shared; idempotent."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*(sandbox.close() for sandbox in list(self._sandboxes.values())), return_exceptions=True)
        await self._close_shared()
        self._owner.close()
        self._threads.shutdown(wait=False)

    @abstractmethod
    async def _close_shared(self) -> None:
        """Close what the sandboxes shared, now that there are none, the launcher too."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
