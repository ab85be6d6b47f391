"""Places for the next sandboxes: a fresh cgroup and a forked process that has joined it, made before they are wanted.

Moving a process between cgroups makes the kernel wait for a grace period of RCU, 10 ms as likely as not. A seat has had
that behind it. It is for one sandbox and removed with it, so nothing passes from one to the next.
"""

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tenantry.engines.jail.cgroups import Cgroup, Hierarchy
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.types import Limits


@dataclass(frozen=True, slots=True)
class Seat:
    name: str
    cgroup: Cgroup


class Seats:
    def __init__(
        self, *, hierarchy: Hierarchy, instance: str, launcher: LauncherClient, threads: ThreadPoolExecutor, spare: int
    ) -> None:
        self._hierarchy = hierarchy
        self._instance = instance
        self._launcher = launcher
        self._threads = threads
        self._spare = spare
        self._count = 0
        self._ready: deque[Seat] = deque()
        self._preparing: set[asyncio.Task[None]] = set()

    async def take(self, limits: Limits) -> Seat:
        """Take a seat and bound it; raises JailUnavailable `cgroup_refused` when the kernel will not."""
        loop = asyncio.get_running_loop()
        seat = None
        try:
            seat = self._ready.popleft() if self._ready else await self._make()
            await loop.run_in_executor(self._threads, seat.cgroup.bound, limits)
        except OSError as error:
            if seat:
                await self._discard(seat)
            raise JailUnavailable(
                "cgroup_refused",
                f"the kernel refused a cgroup or a limit of it: {error}",
                remedy="ask for less than the supervisor's own group has, or delegate the controllers to it",
            ) from error
        self._refill()
        return seat

    async def move_to(self, launcher: LauncherClient) -> None:
        """Forget the seats of a launcher that died."""
        self._launcher = launcher
        while self._ready:
            await self._discard(self._ready.popleft())

    async def close(self) -> None:
        """Remove the spare ones, after the launcher that holds their processes has ended."""
        self._spare = 0
        if self._preparing:
            await asyncio.wait(self._preparing)
        while self._ready:
            await self._discard(self._ready.popleft())

    async def _make(self) -> Seat:
        self._count += 1
        name = f"{self._instance}-{self._count}"
        seat = Seat(name, Cgroup(self._hierarchy, name))
        await asyncio.get_running_loop().run_in_executor(self._threads, seat.cgroup.create)
        return seat

    def _refill(self) -> None:
        if len(self._ready) + len(self._preparing) < self._spare:
            task = asyncio.create_task(self._prepare())
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)

    async def _prepare(self) -> None:
        with contextlib.suppress(OSError):  # whoever comes next tries again, and is told
            seat = await self._make()
            self._launcher.prepare(seat.name, join=seat.cgroup.join_files)
            self._ready.append(seat)

    async def _discard(self, seat: Seat) -> None:
        def remove() -> None:
            seat.cgroup.kill()
            seat.cgroup.remove()

        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().run_in_executor(self._threads, remove)
