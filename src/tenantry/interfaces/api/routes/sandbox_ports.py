"""Ports inside a running sandbox: by HTTP, and as a plain connection over a WebSocket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Annotated, Final

from fastapi import Path, Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.sandboxes.service import PortToken
from tenantry.capabilities.sandboxes.types.living import LivePlace
from tenantry.foundation.errors import Denied, Invalid
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.interfaces.api.live import SANDBOX, note_read, reach
from tenantry.interfaces.api.port_access import inward, outward, shown_token, target_of
from tenantry.interfaces.api.port_proxy import PortCall
from tenantry.interfaces.api.routing import PREFIX, RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, Moment
from tenantry.interfaces.api.sockets import Socket, Upgrade
from tenantry.interfaces.api.streams import Held, admitted, either, first_of, stay
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_MOST_PORT: Final = 65535
_PIECE: Final = 64 << 10
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PortText = Annotated[str, Path(pattern=r"^[1-9]\d{0,4}$", description="TCP port inside")]


class PortTokenBody(Body):
    expires_seconds: int = Field(default=900, ge=1, le=3600)


class PortTokenAnswer(Answer):
    token: str = Field(description="for the header X-Tenantry-Port-Token, or the query tenantry_port_token")
    url: str = Field(description="where the port answers, with the token in it")
    expires_at: Moment


@routes.post(
    f"{SANDBOX}/ports/{{port}}/token",
    needs=Permission.SANDBOX_CONNECT,
    replay=None,
    status=201,
    feature=Feature.ORCHESTRATION,
)
async def make_port_token(
    request: Request, ws: str, sandbox: str, port: PortText, body: PortTokenBody
) -> PortTokenAnswer:
    """Make a token that opens this port alone, until it expires, the sandbox stops or the credential ends."""
    unit, number = unit_of(request), _port(port)
    reached = await reach(unit, sandbox)
    token = PortToken(
        region=unit.scope.region,
        tenant_id=unit.scope.tenant_id,
        workspace_id=unit.workspace_id,
        sandbox_id=reached.place.sandbox_id,
        job_id=reached.place.job_id,
        port=number,
        made_with=unit.caller.credential_id,
        expires_at=(unit.runtime.clock.now() + timedelta(seconds=body.expires_seconds)).replace(microsecond=0),
    )
    text = unit.runtime.port_tokens.make(token)
    await unit.sandboxes.record_access(reached.sandbox, "port_token", port)
    address = f"{PREFIX}{SANDBOX.format(ws=ws, sandbox=sandbox)}/ports/{port}/?tenantry_port_token={text}"
    return PortTokenAnswer(token=text, url=address, expires_at=token.expires_at)


@routes.any(
    f"{SANDBOX}/ports/{{port}}/{{path}}",
    needs=Permission.SANDBOX_CONNECT,
    feature=Feature.ORCHESTRATION,
)
async def ask_port(request: Request, ws: str, sandbox: str, port: PortText, path: str) -> Response:
    """Ask what listens at 127.0.0.1 inside. It sees no credential; its answer is a document of nobody's origin."""
    unit, number = unit_of(request), _port(port)
    target = target_of(request)
    token = _token(unit, sandbox, number)
    reached = await reach(unit, sandbox)
    if token is not None and token.job_id != reached.place.job_id:
        raise _refused()
    if request.method in _SAFE:
        note_read(unit, reached.sandbox, kind="port", path=port)
    else:
        await unit.sandboxes.record_access(reached.sandbox, "port", port)
    await unit.settle()
    async with AsyncExitStack() as stack:
        stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))
        call = PortCall(*await unit.runtime.live.dial(reached.place, number))
        stack.push_async_callback(call.close)
        most = unit.runtime.settings.server.max_upload_bytes
        asking = call.ask(request, target=target, headers=inward(request, number), most_bytes=most)
        head = await first_of(asking, stay(unit))
        answer = Held(_body(unit, call), held=stack.pop_all(), status_code=head.status_code)
    prefix = f"{PREFIX}{SANDBOX.format(ws=ws, sandbox=sandbox)}/ports/{port}"
    answer.raw_headers = outward(list(head.headers), prefix=prefix, port=number)
    return answer


def _port(text: str) -> int:
    if int(text) > _MOST_PORT:
        raise Invalid("invalid_request", f"port: at most {_MOST_PORT}", layer="api", field="port")
    return int(text)


def _token(unit: Unit, sandbox: str, port: int) -> PortToken | None:
    """Read the token that let the request in, None when something else did; raises Denied for one of another port."""
    text = shown_token(unit.request)
    if text is None:
        return None
    token = unit.runtime.port_tokens.read(text)
    if token is None or (token.sandbox_id, token.port) != (parse_id(Prefix.SANDBOX, sandbox), port):
        raise _refused()
    return token


def _refused() -> Denied:
    return Denied(
        "port_token_refused",
        "the token is of another port, of another sandbox, or from before its last start: make another",
        layer="sandboxes",
    )


async def _body(unit: Unit, call: PortCall) -> AsyncIterator[bytes]:
    async for piece in admitted(unit, partial(anext, call.body(), None)):
        if piece is not None:
            yield piece


@routes.socket(f"{SANDBOX}/tunnels/{{port}}", needs=Permission.SANDBOX_CONNECT, feature=Feature.ORCHESTRATION)
async def open_tunnel(request: Request, ws: str, sandbox: str, port: PortText) -> Upgrade:
    """A WebSocket to what listens at 127.0.0.1 inside: binary frames are the bytes of the connection, both ways; the
    text frame `{"close_stdin": true}` ends what goes in.
    """
    unit, number = unit_of(request), _port(port)
    reached = await reach(unit, sandbox)
    await unit.sandboxes.record_access(reached.sandbox, "tunnel", port)
    await unit.settle()

    async def serve(socket: Socket) -> None:
        await _join(unit, reached.place, number, socket)

    return Upgrade(unit, serve)


async def _join(unit: Unit, place: LivePlace, port: int, socket: Socket) -> None:
    reader, writer = await unit.runtime.live.dial(place, port)
    try:
        await either(_inwards(socket, writer), _outwards(reader, socket))
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _inwards(socket: Socket, writer: asyncio.StreamWriter) -> None:
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            writer.write(message)
            await writer.drain()
        elif writer.can_write_eof():
            writer.write_eof()


async def _outwards(reader: asyncio.StreamReader, socket: Socket) -> None:
    while piece := await reader.read(_PIECE):
        await socket.send(piece)
