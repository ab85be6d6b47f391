"""Blocking calls of one operation, in the default executor."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import ParamSpec, TypeVar

from tenantry.foundation.threads import until_ended

_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")


async def in_thread(call: Callable[_Given, _Got], *arguments: _Given.args, **fields: _Given.kwargs) -> _Got:
    """Run a blocking call; a cancelled waiter still waits until it has ended.

    Otherwise the caller would close a file or abort an upload that the thread is still writing to, and the number of
    the closed file might by then be another tenant's.
    """
    return await until_ended(asyncio.ensure_future(asyncio.to_thread(call, *arguments, **fields)))


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
