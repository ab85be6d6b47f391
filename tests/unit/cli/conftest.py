"""The command line against a real HTTP server whose routes a test fills in."""

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import typer
import typer.testing
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.ending import joined, killed_after
from typer.testing import CliRunner, Result

from tenantry.interfaces.cli.app import build_app

KEY = "tenantry_us_platform_0123456789abcdefghijABCDEFGHIJ01_abc123"
ME = {
    "principal": {"type": "api_key", "id": "key_1", "acts_for": "usr_1"},
    "tenant": {"id": "ten_1", "slug": "acme"},
    "permissions": [],
    "workspaces": [{"id": "ws_1", "roles": ["operator"], "permissions": ["job:create"]}],
}
ENTRY = "from tenantry.interfaces.cli.app import build_app; build_app()(prog_name='tenantry')"


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Api:
    """Answers below `/api/v1` by method and path; anything else is a 404 problem."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    routes: dict[tuple[str, str], Callable[[], Response]] = field(default_factory=dict)

    def on(
        self, method: str, path: str, body: Any = None, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.responds(method, path, lambda: JSONResponse(body, status, headers))

    def lists(self, path: str, *items: Any, next_cursor: str | None = None) -> None:
        self.on("GET", path, {"items": list(items), "next_cursor": next_cursor})

    def refuses(self, method: str, path: str, status: int, /, **members: Any) -> None:
        self.responds(method, path, lambda: JSONResponse(members, status, media_type="application/problem+json"))

    def streams(self, job: str, *events: tuple[str, dict[str, Any]]) -> None:
        text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
        path = f"/workspaces/ws_1/jobs/{job}/logs"
        self.responds("GET", path, lambda: Response(text, media_type="text/event-stream"))

    def responds(self, method: str, path: str, respond: Callable[[], Response]) -> None:
        self.routes[method, f"/api/v1{path}"] = respond

    def to(self, method: str, path: str) -> Asked:
        """Find the one request of this method and path."""
        [found] = [each for each in self.asked if (each.method, each.path) == (method, f"/api/v1{path}")]
        return found

    async def endpoint(self, request: Request) -> Response:
        body = await request.body()
        path = request.scope["raw_path"].decode()
        self.asked.append(Asked(request.method, path, dict(request.query_params), dict(request.headers), body))
        respond = self.routes.get((request.method, path))
        return respond() if respond else JSONResponse({"code": "not_found", "detail": f"no {path}"}, 404)


@pytest.fixture(scope="session")
def _serving() -> Iterator[Api]:
    api = Api()
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", api.endpoint, methods=methods)])
    config = uvicorn.Config(
        app, port=0, lifespan="off", ws="none", loop="asyncio", log_level="critical", timeout_graceful_shutdown=1
    )
    runner = uvicorn.Server(config)
    socket = config.bind_socket()
    # From here on connections wait in the backlog: no test has to wait for the thread.
    socket.listen()
    api.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    yield api
    runner.should_exit = True
    joined(thread)
    socket.close()


@pytest.fixture
def api(_serving: Api) -> Iterator[Api]:
    _serving.on("GET", "/me", ME)
    yield _serving
    _serving.asked.clear()
    _serving.routes.clear()


@pytest.fixture
def environment(api: Api, tmp_path: Path) -> dict[str, str | None]:
    """Logged in at the server, with a home of its own."""
    return {
        "TENANTRY_HOME": str(tmp_path / "home"),
        "TENANTRY_URL": api.url,
        "TENANTRY_KEY": KEY,
        "TENANTRY_WORKSPACE": None,
    }


class Run(Protocol):
    def __call__(self, *arguments: str, given: str | None = None) -> Result: ...


@functools.cache
def _command() -> Any:
    """The tree of all commands, made once: Typer makes it anew at each run."""
    return typer.main.get_command(build_app())


@pytest.fixture
def tenantry(environment: dict[str, str | None], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; its output is no terminal."""
    monkeypatch.setattr(typer.testing, "_get_command", lambda _app: _command())

    def run(*arguments: str, given: str | None = None) -> Result:
        result = CliRunner().invoke(build_app(), list(arguments), input=given, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def spawn(environment: dict[str, str | None]) -> Iterator[Spawn]:
    """Start a command in a process of its own; what still runs at the end is killed."""

    def start(*arguments: str, **streams: Any) -> "subprocess.Popen[bytes]":
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
        env |= {name: value for name, value in environment.items() if value is not None}
        process = subprocess.Popen([sys.executable, "-c", ENTRY, *arguments], env=env, **streams)
        return running.enter_context(killed_after(process))

    with ExitStack() as running:
        yield start
