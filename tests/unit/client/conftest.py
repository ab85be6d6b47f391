"""A real HTTP server on loopback whose answers a test sets out beforehand."""

import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.ending import joined

if TYPE_CHECKING:
    from tenantry.client import AsyncClient, Client

KEY = "tenantry_us_platform_0123456789abcdefghijABCDEFGHIJ01_abc123"
VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[], Response]


@dataclass
class Server:
    """Answers in the order set out, then `{}`; `received` is what came."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    script: deque[Answer] = field(default_factory=deque)

    def answers(self, status: int = 200, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = {} if body is None else body
        self.script.append(lambda: JSONResponse(content, status, headers))

    def refuses(self, status: int, /, **members: Any) -> None:
        self.script.append(lambda: JSONResponse(members, status, media_type="application/problem+json"))

    def sends(self, content: bytes, *, media_type: str, status: int = 200) -> None:
        self.script.append(lambda: Response(content, status, media_type=media_type))

    def breaks_off(self) -> None:
        """The connection ends in the middle of the answer: whether the request took effect stays unknown."""
        headers = {"content-length": "100"}
        self.script.append(lambda: StreamingResponse(_pieces([b'{"id":'], breaks=True), headers=headers))

    def streams(self, *pieces: bytes, breaks: bool = False) -> None:
        self.script.append(
            lambda: StreamingResponse(_pieces(list(pieces), breaks=breaks), media_type="text/event-stream")
        )

    async def endpoint(self, request: Request) -> Response:
        received = Received(
            method=request.method,
            path=request.scope["raw_path"].decode(),
            query=request.query_params.multi_items(),
            headers=dict(request.headers),
            body=await request.body(),
        )
        self.received.append(received)
        return self.script.popleft()() if self.script else JSONResponse({})


class BrokenOff(Exception):
    """Makes the server drop the connection."""


async def _pieces(pieces: list[bytes], *, breaks: bool) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if breaks:
        raise BrokenOff


def _dropping(app: Starlette) -> Callable[..., Awaitable[None]]:
    """Keep the intended breaks out of the log; uvicorn drops a connection whose answer is not complete."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(BrokenOff):
            await app(scope, receive, send)

    return run


@pytest.fixture(scope="session")
def _running() -> Iterator[Server]:
    server = Server()
    app = Starlette(routes=[Route("/{path:path}", server.endpoint, methods=VERBS)])
    config = uvicorn.Config(
        _dropping(app),
        port=0,
        lifespan="off",
        ws="none",
        loop="asyncio",
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    runner = uvicorn.Server(config)
    socket = config.bind_socket()
    # From here on connections wait in the backlog: no test has to wait for the thread.
    socket.listen()
    server.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    yield server
    runner.should_exit = True
    joined(thread)
    socket.close()


@pytest.fixture
def server(_running: Server) -> Iterator[Server]:
    yield _running
    left = len(_running.script)
    _running.script.clear()
    _running.received.clear()
    _running.slept.clear()
    assert left == 0, "the test set out more answers than it asked for"


@pytest.fixture
def client(server: Server) -> "Iterator[Client]":
    from tenantry.client import Client

    with Client(url=server.url, key=KEY, sleep=server.slept.append) as client:
        yield client


@pytest.fixture
async def async_client(server: Server) -> "AsyncIterator[AsyncClient]":
    from tenantry.client import AsyncClient

    async def sleep(seconds: float) -> None:
        server.slept.append(seconds)

    async with AsyncClient(url=server.url, key=KEY, sleep=sleep) as client:
        yield client
