"""The scope of a request is there wherever its work is done: streams, tasks, threads, errors; and nowhere else."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.conftest import Tenant
from tests.integration.api.conftest import Beside

from tenantry.foundation.errors import Conflict
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import current_scope, require_scope
from tenantry.interfaces.api.guard import guard
from tenantry.interfaces.api.routing import Mark, RouteSpec

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.one_strategy]

INTERLEAVED = 10_000
AT_ONCE = 48
Endpoint = Callable[[Request], Awaitable[Response]]


def _own() -> str:
    """The tenant that code deep below sees."""
    return format_id(Prefix.TENANT, require_scope().tenant_id)


def _seen() -> str:
    scope = current_scope()
    return format_id(Prefix.TENANT, scope.tenant_id) if scope else "none"


def _app(beside: Beside, **endpoints: Endpoint) -> Starlette:
    """Routes of our own behind the product's guard."""
    runtime = next(route.runtime for route in beside.app.routes if hasattr(route, "runtime"))
    return Starlette(
        routes=[
            Route(
                f"/api/v1/{name}",
                guard(RouteSpec("GET", f"/{name}", endpoint, Mark.AUTHENTICATED), endpoint, runtime),
            )
            for name, endpoint in endpoints.items()
        ]
    )


def _client(app: Any, tenant: Tenant) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {tenant.bootstrap_key}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost/api/v1", headers=headers)


async def _parts() -> AsyncIterator[str]:
    yield _own()
    await asyncio.sleep(0)
    yield await asyncio.to_thread(_own)
    yield await asyncio.create_task(_later())


async def _later() -> str:
    await asyncio.sleep(0)
    return _own()


async def streamed(_: Request) -> Response:
    return StreamingResponse(_parts())


async def streamed_from_a_thread(_: Request) -> Response:
    def parts() -> Iterator[str]:
        for _ in range(3):
            yield _own()

    return StreamingResponse(parts())


@pytest.mark.parametrize("endpoint", [streamed, streamed_from_a_thread])
async def test_every_part_of_a_stream_sees_its_request(endpoint: Endpoint, beside: Beside, acme: Tenant) -> None:
    async with _client(_app(beside, stream=endpoint), acme) as client:
        answer = await client.get("/stream")
    assert answer.text == acme.id * 3
    assert current_scope() is None


async def test_a_stream_that_is_left_or_breaks_cleans_up_as_its_request(beside: Beside, acme: Tenant) -> None:
    seen: list[str] = []
    cleaned = asyncio.Event()

    async def parts(fails: bool) -> AsyncIterator[str]:
        try:
            yield "first"
            if fails:
                raise ZeroDivisionError
            await asyncio.Event().wait()
        finally:
            seen.append(_seen())
            cleaned.set()

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(parts(request.query_params["fails"] == "1"))

    app = _app(beside, stream=endpoint)
    with pytest.raises(ZeroDivisionError):
        async with _client(app, acme) as client:
            await client.get("/stream", params={"fails": "1"})
    assert seen == [acme.id]
    cleaned.clear()
    began = asyncio.Event()

    async def leave() -> dict[str, Any]:
        await began.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            began.set()

    await app(_asgi("/api/v1/stream", acme, query=b"fails=0"), leave, send)  # type: ignore[arg-type]
    await asyncio.wait_for(cleaned.wait(), 10)
    assert seen == [acme.id, acme.id]
    assert current_scope() is None


async def test_a_stream_leaves_no_scope_with_who_takes_its_parts(beside: Beside, acme: Tenant) -> None:
    between: list[str] = []

    async def send(_: dict[str, Any]) -> None:
        between.append(_seen())

    await _app(beside, stream=streamed)(_asgi("/api/v1/stream", acme), _nothing, send)  # type: ignore[arg-type]
    assert len(between) >= 4
    assert set(between) == {"none"}


async def _nothing() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def _asgi(path: str, tenant: Tenant, *, query: bytes = b"") -> dict[str, Any]:
    authorization = (b"authorization", f"Bearer {tenant.bootstrap_key}".encode())
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "scheme": "http",
        "headers": [authorization, (b"host", b"localhost")],
        "client": ("127.0.0.1", 50_000),
        "server": ("localhost", 80),
    }


class _Mixed:
    """Endpoints that do their work in every way there is."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self.outlived: list[asyncio.Task[tuple[str, str]]] = []

    async def plain(self, _: Request) -> Response:
        before = _own()
        for _turn in range(3):
            await asyncio.sleep(0)
        return PlainTextResponse(before if _own() == before else "changed")

    async def thread(self, _: Request) -> Response:
        loop = asyncio.get_running_loop()
        bare = await loop.run_in_executor(self._pool, _seen)
        handed = await loop.run_in_executor(self._pool, copy_context().run, _own)
        return PlainTextResponse(handed if bare == "none" and await asyncio.to_thread(_own) == handed else f"{bare}")

    async def fails(self, _: Request) -> Response:
        await asyncio.sleep(0)
        raise Conflict("test_conflict", _own()) from None

    async def breaks(self, _: Request) -> Response:
        """The caller has gone away."""
        await asyncio.sleep(0)
        raise asyncio.CancelledError(_own())

    async def outlives(self, _: Request) -> Response:
        expected = _own()

        async def late() -> tuple[str, str]:
            for _ in range(20):
                await asyncio.sleep(0)
            return expected, _own()

        self.outlived.append(asyncio.create_task(late()))
        return PlainTextResponse(expected)


@pytest.mark.timeout(180)
async def test_ten_thousand_interleaved_requests_see_their_own_tenant_only(
    beside: Beside, acme: Tenant, globex: Tenant
) -> None:
    with ThreadPoolExecutor(4) as pool:
        mixed = _Mixed(pool)
        ways = {
            "plain": mixed.plain,
            "thread": mixed.thread,
            "fails": mixed.fails,
            "breaks": mixed.breaks,
            "outlives": mixed.outlives,
            "streamed": streamed,
        }
        app = _app(beside, **ways)
        # Threads cost the most and are a tenth of all.
        names = random.Random(7).choices([*ways], [4, 0.5, 2, 0.3, 2, 0.7], k=INTERLEAVED)  # noqa: S311 - fixed order
        work = iter([(name, (acme, globex)[number % 2]) for number, name in enumerate(names)])
        wrong: list[str] = []
        asked: list[str] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(_ask_on(app, work, asked, wrong))
        assert not wrong, wrong[:5]
        assert sorted(asked) == sorted(names)
        for expected, found in await asyncio.gather(*mixed.outlived):
            assert expected == found
    assert len(mixed.outlived) > 1000
    assert current_scope() is None


async def _ask_on(app: Any, work: Iterator[tuple[str, Tenant]], asked: list[str], wrong: list[str]) -> None:
    for name, tenant in work:
        asked.append(name)
        told: list[bytes] = []

        async def send(message: dict[str, Any], told: list[bytes] = told) -> None:
            told.append(message.get("body", b""))

        try:
            await app(_asgi(f"/api/v1/{name}", tenant), _nothing, send)
        except asyncio.CancelledError as cancelled:
            told.append(str(cancelled).encode())
        text = b"".join(told).decode()
        good = (tenant.id * 3 if name == "streamed" else tenant.id) in text
        if not good or current_scope() is not None:
            wrong.append(f"{name}: {text[:200]}")
