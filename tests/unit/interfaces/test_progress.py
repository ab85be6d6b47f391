"""What work tells of itself: every phase, the latest numbers of each, and an end that is always heard."""

import asyncio
from typing import Any

from tenantry.interfaces.api.progress import News


def state(phase: str, number: int) -> dict[str, Any]:
    return {"phase": phase, "bytes_done": number}


async def rest(news: News) -> list[Any]:
    found = []
    while (told := await news.take()) is not None:
        found.append(told)
    return found


async def test_of_what_was_told_meanwhile_the_last_of_each_phase_is_given() -> None:
    news = News()
    for number in range(1000):
        news.tell(state("fetching", number))
    news.tell(state("unpacking", 1))
    news.tell(state("unpacking", 2))
    news.end(None)
    assert await rest(news) == [state("fetching", 999), state("unpacking", 2)]
    assert await news.take() is None


async def test_numbers_of_a_phase_wait_for_their_time() -> None:
    news, loop = News(pause_seconds=0.2), asyncio.get_running_loop()
    began = loop.time()
    for number in range(3):
        news.tell(state("fetching", number))
        assert await news.take() == state("fetching", number)
    assert loop.time() - began >= 0.4


async def test_a_new_phase_and_the_end_wait_for_nothing() -> None:
    news = News(pause_seconds=3600)
    news.tell(state("fetching", 1))
    assert await news.take() == state("fetching", 1)
    news.tell(state("fetching", 2))
    taking = asyncio.ensure_future(news.take())
    await asyncio.sleep(0)
    assert not taking.done()
    news.tell(state("unpacking", 1))
    assert await taking == state("fetching", 2)
    assert await news.take() == state("unpacking", 1)
    news.tell(state("unpacking", 2))
    news.end(None)
    assert await rest(news) == [state("unpacking", 2)]


async def test_the_end_is_heard_by_who_waits_for_more() -> None:
    news = News()
    assert not (beginning := asyncio.ensure_future(news.begun())).done()
    news.tell(state("asking", 0))
    assert await beginning
    assert await news.take() == state("asking", 0)
    taking = asyncio.ensure_future(news.take())
    await asyncio.sleep(0)
    news.end(None)
    assert await taking is None


async def test_work_that_has_told_nothing_has_not_begun() -> None:
    news = News()
    news.end(None)
    assert not await news.begun()
