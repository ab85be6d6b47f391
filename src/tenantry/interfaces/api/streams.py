"""What goes on after a request was let in, as long as its caller may have it: looked at twice a second, in memory."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tenantry.capabilities.access.types import Permission
from tenantry.foundation.errors import Fault, Invalid, TenantryError
from tenantry.interfaces.api.guard import readmit
from tenantry.interfaces.api.unit import Unit

T = TypeVar("T")

LOOK_SECONDS: Final = 0.5
"""How often its credential is looked at: what was revoked ends a stream within a second."""

KEEPALIVE_LOOKS: Final = 30
"""Looks without news after which a stream says that it is still there: 15 s."""
EVENT_STREAM: Final = "text/event-stream"


def needed(unit: Unit) -> Permission:
    """Tell the permission by which a request was let in."""
    if unit.judgement.permission is None:
        raise Fault("permission_unknown", "this route asks for no permission", layer="api")
    return unit.judgement.permission


async def stay(unit: Unit) -> None:
    """Wait until a caller may not have any more what it was let in for, and raise why."""
    permission = needed(unit)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await readmit(unit, permission)


async def hung_up(request: Request) -> None:
    """Wait until the caller of a request has gone, whose body has been read; raises Invalid `caller_gone`."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise _gone()


async def uploaded(request: Request, most: int, *, idle_seconds: float) -> AsyncIterator[bytes]:
    """Give a body as it comes, in however long; raises Invalid `body_too_large`, `caller_gone`, and `body_slow` when
    nothing of it comes for `idle_seconds`.
    """
    size, parts = 0, request.stream()
    try:
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    part = await anext(parts, None)
            except TimeoutError:
                why = f"body: nothing of it has come for {idle_seconds:g} s: send it again"
                raise Invalid("body_slow", why, layer="api", limit=idle_seconds) from None
            if part is None:
                return
            size += len(part)
            if size > most:
                raise Invalid("body_too_large", f"body: larger than {most} bytes", layer="api", limit=most)
            if part:
                yield part
    except ClientDisconnect:
        raise _gone() from None


def _gone() -> Invalid:
    return Invalid("caller_gone", "whoever asked has gone before the answer", layer="api")


async def first_of(work: Awaitable[T], *guards: Coroutine[Any, Any, None]) -> T:
    """Do some work under guards that end it: what one of them raises counts more than what the work gives.

    A guard that only ends, ends the work as well: then raises Invalid `caller_gone`.
    """
    working = asyncio.ensure_future(work)
    watching = [asyncio.ensure_future(each) for each in guards]
    try:
        await asyncio.wait((working, *watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, *watching):
            task.cancel()
        await asyncio.gather(working, *watching, return_exceptions=True)
    for task in watching:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    if working.cancelled():
        raise _gone()
    return working.result()


async def either(*ways: Coroutine[Any, Any, None]) -> None:
    """Do what goes several ways at once until one of them has ended; raises what that one raises."""
    tasks = [asyncio.ensure_future(each) for each in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def admitted(unit: Unit, take: Callable[[], Awaitable[T | None]]) -> AsyncGenerator[T | None]:
    """Yield what comes, as long as the caller may have it; None when nothing has come for a moment.

    Ends when `take` gives None; raises what `take` and the guard raise. `take` is not cut off but by the end of all.
    """
    permission, loop = needed(unit), asyncio.get_running_loop()
    looked = loop.time()
    taking: asyncio.Future[T | None] | None = None
    try:
        while True:
            taking = taking or asyncio.ensure_future(take())
            done, _ = await asyncio.wait((taking,), timeout=LOOK_SECONDS)
            if loop.time() - looked >= LOOK_SECONDS:
                await readmit(unit, permission)
                looked = loop.time()
            if not done:
                yield None
                continue
            piece, taking = taking.result(), None
            if piece is None:
                return
            yield piece
    finally:
        if taking is not None:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)


class Held(StreamingResponse):
    """A stream that holds something, which is given back however it ends, and also where it never begins."""

    def __init__(self, content: AsyncIterable[Any], *, held: AsyncExitStack, **options: Any) -> None:
        super().__init__(content, **options)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


def event(name: str, data: Mapping[str, Any]) -> str:
    """Write one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def refusal(error: TenantryError) -> dict[str, str]:
    """Tell a refusal where it is too late for a problem document."""
    return {"code": error.code, "detail": error.message}
