"""Blocking calls of one operation, in the default executor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")


async def in_thread(call: Callable[_Given, _Got], *arguments: _Given.args, **fields: _Given.kwargs) -> _Got:
    """Run a blocking call; a cancelled waiter still waits until it has ended.

    Otherwise the caller would close a file or abort an upload that the thread is still writing to, and the number of
    the closed file might by then be another tenant's.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call, *arguments, **fields))
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
async def entered_in_thread(manager: AbstractContextManager[_Got]) -> AsyncIterator[_Got]:
    """Enter and leave what blocks, each in a thread; that one ends is waited for also by a cancelled waiter."""
    stack = contextlib.ExitStack()
    try:
        yield await in_thread(stack.enter_context, manager)
    finally:
        await in_thread(stack.close)


async def pieces(content: AsyncIterator[bytes] | bytes, *, size: int) -> AsyncIterator[bytes]:
    """Regroup content into pieces of exactly `size` bytes, the last one shorter (or empty, when it is the only one)."""
    if isinstance(content, bytes):
        for start in range(0, max(1, len(content)), size):
            yield content[start : start + size]
        return
    held = bytearray()
    async for chunk in content:
        held += chunk
        while len(held) > size:
            yield bytes(held[:size])
            del held[:size]
    yield bytes(held)
