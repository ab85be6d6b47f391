"""Rooms that wait for the next sandbox, whatever a room is: made ahead, each for one sandbox only."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, Protocol, TypeVar

ShapeT = TypeVar("ShapeT", bound=Hashable)


class Waiting(Protocol):
    """A room; `shape` is what it was asked for by."""

    @property
    def shape(self) -> Any: ...

    @property
    def alive(self) -> bool: ...


RoomT = TypeVar("RoomT", bound=Waiting)


class WaitingRooms(ABC, Generic[ShapeT, RoomT]):
    """`spare` rooms wait in the shape that was asked for twice in a row."""

    def __init__(self, *, spare: int) -> None:
        self._spare = spare
        self._last: ShapeT | None = None
        self._ready: deque[RoomT] = deque()
        self._preparing: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def give_up(self, room: RoomT) -> None:
        """Take a room away, with whatever is left in it; raises JailUnavailable when the engine does not."""

    @abstractmethod
    async def _make(self, shape: ShapeT) -> RoomT:
        """Make a room, or leave nothing of it; raises JailUnavailable."""

    async def take(self, shape: ShapeT) -> RoomT:
        """Take a room, one that waits or a new one; raises JailUnavailable when the engine makes none."""
        repeated, self._last = self._last == shape, shape
        room = None
        for _ in range(len(self._ready)):
            waiting = self._ready.popleft()
            if room is None and waiting.shape == shape and waiting.alive:
                room = waiting
            elif waiting.shape == shape and waiting.alive:
                self._ready.append(waiting)
            else:
                self._in_background(self.give_up(waiting))
        if repeated and len(self._ready) + len(self._preparing) < self._spare:
            self._in_background(self._prepare(shape))
        return room or await self._made(shape)

    async def close(self) -> None:
        """Give up those that wait."""
        self._spare = 0
        while self._preparing:
            await asyncio.wait(self._preparing)
        await asyncio.gather(*(self.give_up(room) for room in self._ready), return_exceptions=True)
        self._ready.clear()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._preparing.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._preparing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever comes next tries again, and is told

    async def _made(self, shape: ShapeT) -> RoomT:
        """Make one to its end even if nobody waits for it any more: half of a container nobody could find."""
        making = asyncio.create_task(self._make(shape))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._in_background(self._give_up_made(making))
            raise

    async def _give_up_made(self, making: "asyncio.Task[RoomT]") -> None:
        await self.give_up(await making)

    async def _prepare(self, shape: ShapeT) -> None:
        self._ready.append(await self._make(shape))
