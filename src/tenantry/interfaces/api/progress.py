"""Work that tells how far it is, as server-sent events, to whoever asks for them.

What is refused before the work has told anything is refused as ever. After that the answer has begun, and what it would
have been comes as its last event: the same content, the same problem document. The work ends with the connection, or
when its caller may not have it any more.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, Final

from starlette.responses import Response

from tenantry.interfaces.api.problems import problem_of_any
from tenantry.interfaces.api.receipts import receipts_of
from tenantry.interfaces.api.streams import EVENT_STREAM, KEEPALIVE_LOOKS, Held, admitted, event
from tenantry.interfaces.api.unit import Unit

_PAUSE_SECONDS: Final = 0.25
"""Between two events of one phase; what was told meanwhile is left out, but for the last of it."""

State = Mapping[str, object]


async def in_events(unit: Unit, work: Coroutine[Any, Any, Response]) -> Response:
    """Do the work; where the caller accepts events, answer with them once it has told something."""
    if EVENT_STREAM not in unit.request.headers.get("accept", ""):
        return await work
    news = News()
    unit.tell = news.tell
    working = asyncio.ensure_future(work)
    working.add_done_callback(news.end)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_ended, working)
        if not await news.begun():
            return working.result()
        return Held(_events(unit, working, news), held=stack.pop_all(), media_type=EVENT_STREAM)


class News:
    """What the work has told and nobody has taken: of each phase the latest."""

    def __init__(self, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._pause = pause_seconds
        self._held: deque[State] = deque()
        self._told = ""
        self._due = 0.0
        self._over = False
        self._some = asyncio.Event()
        self._urgent = asyncio.Event()

    def tell(self, state: State) -> None:
        if self._held and self._held[-1]["phase"] == state["phase"]:
            self._held.pop()
        elif state["phase"] != self._told:
            self._urgent.set()
        self._held.append(state)
        self._some.set()

    def end(self, _: object) -> None:
        self._over = True
        self._some.set()
        self._urgent.set()

    async def begun(self) -> bool:
        """Wait for something to be told, or for the end: then False."""
        await self._some.wait()
        return bool(self._held)

    async def take(self) -> State | None:
        """Give what comes next, a new phase at once; None at the end."""
        await self._some.wait()
        if not self._held:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._due):
                await self._urgent.wait()
        state = self._held.popleft()
        self._told = str(state["phase"])
        self._due = asyncio.get_running_loop().time() + self._pause
        if not self._over and not self._held:
            self._some.clear()
            self._urgent.clear()
        return state


async def _events(unit: Unit, working: "asyncio.Future[Response]", news: News) -> AsyncIterator[str]:
    quiet = 0
    try:
        async with aclosing(admitted(unit, news.take)) as states:
            async for state in states:
                quiet = quiet + 1 if state is None else 0
                if state is not None:
                    yield event("progress", state)
                elif quiet % KEEPALIVE_LOOKS == 0:
                    yield ": still here\n\n"
        name, answer = "done", await working
    except Exception as error:  # noqa: BLE001 - told as the guard would have told it
        await _ended(working)
        request = unit.request
        ip, route = request.client.host if request.client else None, request.url.path
        name, answer = "error", problem_of_any(error, route=route, ip=ip, trace_id=unit.scope.trace_id)
    told: dict[str, Any] = json.loads(bytes(answer.body))
    if "retry-after" in answer.headers:
        told["retry_after_seconds"] = float(answer.headers["retry-after"])
    for receipt in receipts_of(unit.recorded, unit.runtime):
        yield event("receipt", {"note": receipt})
    yield event(name, told)


async def _ended(working: "asyncio.Future[Response]") -> None:
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
