"""WebSockets behind the guard, by a route of this suite's own: what is refused is refused before the upgrade."""

import asyncio
import contextlib
import json
import socket as sockets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import Request
from tests.conftest import Tenant
from tests.integration.api.conftest import Beside, problem, serving_beside
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tenantry.capabilities.access.types import Permission
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.interfaces.api import app
from tenantry.interfaces.api.protocol import MESSAGE_BYTES, SOCKET_OPTIONS, BoundedProtocol, SocketProtocol
from tenantry.interfaces.api.routes import ALL_ROUTES
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.sockets import Socket, Upgrade
from tenantry.interfaces.api.unit import unit_of

MOST = 3
routes = RouteRegistry()


@routes.socket("/workspaces/{ws}/echo", needs=Permission.SANDBOX_EXEC)
async def echo(request: Request, ws: str, shout: bool = False) -> Upgrade:
    async def serve(socket: Socket) -> None:
        while (message := await socket.receive()) is not None:
            await socket.send(message.upper() if shout else message)

    return Upgrade(unit_of(request), serve)


@dataclass
class Echoing:
    """A server with one more route."""

    port: int
    beside: Beside

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def path(self, workspace: str, query: str = "") -> str:
        return f"/workspaces/{workspace}/echo{query}"

    def open(self, path: str, key: str = "", **headers: str) -> connect:
        shown = {"Authorization": f"Bearer {key}"} if key else {}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url.replace('http', 'ws', 1)}{path}"
        return connect(url, additional_headers={**shown, **names}, proxy=None, max_size=None)

    async def refused(self, path: str, key: str = "", **headers: str) -> httpx.Response:
        with pytest.raises(InvalidStatus) as caught:
            async with self.open(path, key, **headers):
                pass
        answer = caught.value.response
        return httpx.Response(answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body))


@contextlib.asynccontextmanager
async def serving(beside: Beside) -> AsyncIterator[Echoing]:
    """Serve over a socket, as the server process does."""
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            beside.app, http=BoundedProtocol, ws=SocketProtocol, lifespan="off", log_config=None, **SOCKET_OPTIONS
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve([listener]))
        try:
            yield Echoing(listener.getsockname()[1], beside)
        finally:
            server.should_exit = True
            await running


@pytest.fixture(scope="module")
async def echoing(installation: Any) -> AsyncIterator[Echoing]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "ALL_ROUTES", (*ALL_ROUTES, *routes))
        server = installation.settings.server.model_copy(
            update={"max_streams_per_tenant": MOST, "stream_idle_seconds": 2}
        )
        settings = installation.settings.model_copy(update={"server": server})
        async with serving_beside(settings) as beside, serving(beside) as opened:
            yield opened


@pytest.fixture(scope="module")
def key(acme: Tenant, dev: str) -> str:
    return acme.key(dev, "operator")


async def said(connection: ClientConnection) -> tuple[list[Any], int | None, str]:
    """Tell all that still comes, and how it ended."""
    found = []
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            while True:
                found.append(await connection.recv())
    return found, connection.close_code, connection.close_reason or ""


async def test_what_the_guard_lets_in_goes_both_ways(echoing: Echoing, dev: str, key: str) -> None:
    async with echoing.open(echoing.path(dev, "?shout=true"), key) as connection:
        assert connection.response is not None
        assert connection.response.headers["X-Trace-Id"]
        await connection.send("hello")
        await connection.send(b"bytes \x00\xff")
        assert [await connection.recv(), await connection.recv()] == ["HELLO", b"BYTES \x00\xff"]


async def test_refusals_come_before_the_upgrade_and_read_as_any_other(
    echoing: Echoing, acme: Tenant, globex: Tenant, dev: str, key: str
) -> None:
    never, foreign = format_id(Prefix.WORKSPACE, new_id()), globex.workspace("theirs")
    viewer = acme.key(dev, "viewer")
    cases: list[tuple[str, str, dict[str, str], int, str]] = [
        (echoing.path(dev), "", {}, 401, "credential_missing"),
        (echoing.path(dev), f"{key[:-1]}x", {}, 401, "credential_malformed"),
        (echoing.path(dev), viewer, {}, 403, "permission_missing"),
        (echoing.path(never), key, {}, 404, "not_found"),
        (echoing.path(foreign), key, {}, 404, "not_found"),
        (echoing.path("malformed"), key, {}, 422, "id_malformed"),
        (echoing.path(dev), key, {"X_Tenant_Id": globex.slug}, 403, "tenant_mismatch"),
        (echoing.path(dev), key, {"X_Workspace_Id": foreign}, 400, "header_ambiguous"),
        (echoing.path(dev, "?shout=perhaps"), key, {}, 422, "invalid_request"),
        (echoing.path(dev, f"?key={key}"), "", {}, 400, "credential_in_query"),
        ("/workspaces", key, {}, 404, "not_found"),
        ("/nowhere", "", {}, 404, "not_found"),
    ]
    for path, shown, headers, status, code in cases:
        problem(await echoing.refused(path, shown, **headers), status, code)


async def test_another_tenants_and_one_that_never_was_read_the_same(echoing: Echoing, globex: Tenant, key: str) -> None:
    never, foreign = format_id(Prefix.WORKSPACE, new_id()), globex.workspace("theirs too")
    first, second = [(await echoing.refused(echoing.path(ws), key)).json() for ws in (never, foreign)]
    assert first | {"trace_id": ""} == second | {"trace_id": ""}


async def test_a_request_that_asks_for_no_upgrade_is_told_to(echoing: Echoing, dev: str, key: str) -> None:
    async with httpx.AsyncClient(base_url=echoing.url) as client:
        answer = await client.get(echoing.path(dev), headers={"Authorization": f"Bearer {key}"})
        problem(answer, 426, "upgrade_required")
        assert answer.headers["upgrade"] == "websocket"
        problem(await client.get(echoing.path(dev)), 401, "credential_missing")


async def test_a_revoked_key_ends_it_within_a_second(echoing: Echoing, acme: Tenant, dev: str) -> None:
    made = acme.owner.post(f"/workspaces/{dev}/keys", json={"name": "short", "roles": ["operator"]}).json()
    async with echoing.open(echoing.path(dev), made["secret"]) as connection:
        await connection.send("still")
        assert await connection.recv() == "still"
        acme.owner.delete(f"/workspaces/{dev}/keys/{made['id']}")
        began = time.monotonic()
        last, code, reason = await said(connection)
        assert time.monotonic() - began < 1.5
    assert (code, reason) == (1008, "credential_refused")
    assert json.loads(last[-1])["refused"]["code"] == "credential_refused"


async def test_a_suspended_tenant_ends_it_within_a_second(echoing: Echoing, make_tenant: Any) -> None:
    tenant: Tenant = make_tenant()
    workspace = tenant.workspace("dev")
    async with echoing.open(echoing.path(workspace), tenant.key(workspace, "operator")) as connection:
        await connection.send("still")
        assert await connection.recv() == "still"
        platform = tenant.installation.platform
        assert platform.post(f"/tenants/{tenant.id}/suspend", json={"reason": "unpaid"}).status_code == 200
        began = time.monotonic()
        _, code, _ = await said(connection)
        assert time.monotonic() - began < 1.5
    assert code == 1008


async def test_a_permission_that_was_taken_away_ends_it(echoing: Echoing, acme: Tenant, dev: str) -> None:
    account = acme.owner.post(f"/workspaces/{dev}/service-accounts", json={"name": "typist"}).json()["id"]
    body = {"principal": account, "role": "operator"}
    binding = acme.owner.post(f"/workspaces/{dev}/bindings", json=body).json()["id"]
    async with echoing.open(echoing.path(dev), acme.key(dev, service_account=account)) as connection:
        acme.owner.delete(f"/workspaces/{dev}/bindings/{binding}")
        _, code, reason = await said(connection)
    assert (code, reason) == (1008, "permission_missing")


async def test_a_tenant_holds_so_many_and_gets_them_back(echoing: Echoing, dev: str, key: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST):
            await stack.enter_async_context(echoing.open(echoing.path(dev), key))
        refused = problem(await echoing.refused(echoing.path(dev), key), 429, "streams_exhausted")
        assert (refused["limit"], refused["current"]) == (MOST, MOST)
    for _ in range(MOST + 1):  # a refused handshake holds none either
        await echoing.refused(echoing.path(dev, "?shout=perhaps"), key)
    async with echoing.open(echoing.path(dev), key) as connection:
        await connection.send("again")
        assert await connection.recv() == "again"


async def test_a_message_is_bounded(echoing: Echoing, dev: str, key: str) -> None:
    async with echoing.open(echoing.path(dev), key) as connection:
        await connection.send(b"x" * MESSAGE_BYTES)
        assert len(await connection.recv()) == MESSAGE_BYTES
        with contextlib.suppress(ConnectionClosed):
            await connection.send(b"x" * (MESSAGE_BYTES + 1))
        assert (await said(connection))[1] == 1009


async def test_one_over_which_nothing_comes_is_ended(echoing: Echoing, dev: str, key: str) -> None:
    async with echoing.open(echoing.path(dev), key) as connection:
        _, code, reason = await said(connection)
    assert (code, reason) == (1008, "stream_idle")


async def test_a_handshake_behind_an_unanswered_request_is_not_taken(echoing: Echoing, dev: str, key: str) -> None:
    """The answer of the first would else be written into the socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", echoing.port)
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    path = f"/api/v1{echoing.path(dev)}"
    writer.write(f"GET /api/v1/me HTTP/1.1\r\n{head}\r\nGET {path} HTTP/1.1\r\n{head}{upgrade}\r\n".encode())
    async with asyncio.timeout(5):
        assert b"101 Switching" not in await reader.read()
    writer.close()


async def test_a_handshake_with_a_body_is_refused_at_once(echoing: Echoing, dev: str, key: str) -> None:
    shown = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    shown["Sec-WebSocket-Key"] = "A" * 22 + "=="
    async with httpx.AsyncClient() as client:
        url = f"{echoing.url}{echoing.path(dev)}"
        answer = await client.request("GET", url, headers=shown, content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (400, "handshake_malformed")


async def test_the_document_of_the_api_names_sockets(echoing: Echoing) -> None:
    async with httpx.AsyncClient(base_url=echoing.url) as client:
        found = (await client.get("/openapi.json")).json()["paths"]["/api/v1/workspaces/{ws}/echo"]["get"]
    assert found["x-websocket"] is True
    assert found["x-permission"] == "sandbox:exec"
    assert "101" in found["responses"]
