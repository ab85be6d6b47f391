"""Blocking calls of many: who makes theirs long waits for that, and nobody else does."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tenantry.foundation.ids import new_id
from tenantry.foundation.threads import Lines, Turns, in_own_thread, until_ended

ONE, OTHER = new_id(), new_id()


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """What calls wait for; set at last, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


async def test_the_long_calls_of_one_leave_threads_to_others(held: threading.Event) -> None:
    turns = Turns(threads=3, each=2, name="turns")
    begun = threading.Semaphore(0)

    def long() -> bool:
        begun.release()
        return held.wait(60)

    waiting = [asyncio.ensure_future(turns.run(ONE, long)) for _ in range(10)]
    assert await asyncio.to_thread(lambda: begun.acquire(timeout=10) and begun.acquire(timeout=10))
    async with asyncio.timeout(10):
        assert await turns.run(OTHER, lambda: "done") == "done"
    assert not begun.acquire(blocking=False)
    held.set()
    assert all(await asyncio.gather(*waiting))
    assert not turns._lines._lines


async def test_who_is_cancelled_gives_its_turn_back_when_its_call_has_ended(held: threading.Event) -> None:
    turns = Turns(threads=1, each=1, name="turns")
    begun = threading.Event()

    def long() -> bool:
        begun.set()
        return held.wait(60)

    running = asyncio.ensure_future(turns.run(ONE, long))
    assert await asyncio.to_thread(begun.wait, 10)
    next_one = asyncio.ensure_future(turns.run(ONE, held.is_set))
    running.cancel()
    done, _ = await asyncio.wait((running, next_one), timeout=0.1)
    assert not done
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await next_one


async def test_one_in_line_that_gives_up_leaves_the_line() -> None:
    lines = Lines(each=1)
    async with lines.turn(ONE):
        waiting = asyncio.ensure_future(lines.turn(ONE).__aenter__())
        await asyncio.wait((waiting,), timeout=0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not lines._lines


async def test_threads_of_their_own_are_as_many_as_are_wanted(held: threading.Event) -> None:
    waiting = [in_own_thread(lambda: held.wait(60)) for _ in range(40)]
    async with asyncio.timeout(10):
        made = await until_ended(in_own_thread(threading.current_thread))
    held.set()
    assert all(await asyncio.gather(*waiting))
    await asyncio.to_thread(made.join, 10)
    assert not made.is_alive()
