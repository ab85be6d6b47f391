"""A loop ends when it is cancelled, whatever else happens in that instant."""

import asyncio

import pytest

from tenantry.entrypoints.loops import forever


async def _nothing() -> None:
    pass


@pytest.mark.timeout(20)
async def test_a_loop_that_is_woken_and_cancelled_at_once_ends() -> None:
    """The cancellation came with what was waited for, and was lost: the process then never stopped."""
    wake = asyncio.Event()
    loop = asyncio.create_task(forever("test", _nothing, seconds=60.0, wake=wake))
    for _ in range(5):
        await asyncio.sleep(0)
    wake.set()
    await asyncio.sleep(0)
    loop.cancel()
    done, _ = await asyncio.wait([loop], timeout=5)
    ended = bool(done)
    while not loop.done():  # one that has lost it is told again
        loop.cancel()
        await asyncio.sleep(0)
    assert ended
