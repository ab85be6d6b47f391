"""Blocking calls that one tenant could make long: in threads that nobody else waits for (ADR 0048).

What is short and waits for no peer may go to the default executor (`asyncio.to_thread`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

_Got = TypeVar("_Got")


def in_own_thread(call: Callable[[], _Got]) -> asyncio.Future[_Got]:
    """Run a call in a thread made for it, which ends with it; how many there are at a time is the caller's to bound."""
    threads = ThreadPoolExecutor(1, thread_name_prefix="own")
    try:
        return asyncio.get_running_loop().run_in_executor(threads, call)
    finally:
        threads.shutdown(wait=False)


async def until_ended(running: asyncio.Future[_Got]) -> _Got:
    """Wait for a call in a thread; a cancelled waiter still waits until it has ended."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.shield(running)
        if not running.cancelled():
            running.exception()
        raise


@contextlib.asynccontextmanager
async def entered_in_thread(manager: contextlib.AbstractContextManager[_Got]) -> AsyncIterator[_Got]:
    """Enter and leave what blocks, each in a thread of its own, whose end a cancelled waiter waits for, too."""
    stack = contextlib.ExitStack()
    try:
        yield await until_ended(in_own_thread(partial(stack.enter_context, manager)))
    finally:
        await until_ended(in_own_thread(stack.close))


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore
    there: int = 0


class Lines:
    """A line for each of many: a few of it go at a time, more of the same wait, and of others nobody waits for them."""

    def __init__(self, *, each: int) -> None:
        self._each = each
        self._lines: dict[UUID, _Line] = {}

    @contextlib.asynccontextmanager
    async def turn(self, who: UUID) -> AsyncIterator[None]:
        line = self._lines.setdefault(who, _Line(asyncio.Semaphore(self._each)))
        line.there += 1
        try:
            async with line.places:
                yield
        finally:
            line.there -= 1
            if not line.there:
                del self._lines[who]


class Turns:
    """Threads for blocking calls of many, of whom each has a few at a time."""

    def __init__(self, *, threads: int, each: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lines = Lines(each=each)

    async def run(self, who: UUID, call: Callable[[], _Got]) -> _Got:
        """Run a call when it is its turn; a cancelled waiter waits until what has begun has ended."""
        async with self._lines.turn(who):
            return await until_ended(asyncio.get_running_loop().run_in_executor(self._threads, call))
