"""Requests of HTTP/1.1, each of which is read, judged and written anew; answers come back as they are."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from tenantry.engines.egress.bodies import Body, ChunkedBody, LengthBody
from tenantry.engines.egress.connection import Connection, settle
from tenantry.engines.egress.injection import refuse_in_clear
from tenantry.engines.egress.requests import BadRequestError, Request, find_end, parse_request
from tenantry.engines.egress.types import Barred, Decision, plain, refusal, shown
from tenantry.kit.hosts import Host, NoHostError, parse_host

_REASONS = {400: "Bad Request", 403: "Forbidden", 431: "Request Header Fields Too Large", 502: "Bad Gateway"}
_MAX_PORT = 65535
_HTTPS = 443
_PLAIN_UPGRADE = "h2c"  # offered by clients that do as well without


def bad_request(reason: str, *, status: int = 400) -> Barred:
    return Barred("", refusal("http_request", reason), status=status)


def http_refusal(barred: Barred) -> bytes:
    """Write an answer that names rule and remedy."""
    decision = barred.decision
    words = [f"The network gateway says: {decision.reason or 'not allowed'}"]
    words += [f"Rule: {decision.rule}"] if decision.rule and not decision.allowed else []
    words += [decision.remedy] if decision.remedy else []
    fault = "unreachable" if decision.allowed else "blocked-by-policy"
    body = ("\n".join(plain(word) for word in words) + "\n").encode()
    head = (
        f"HTTP/1.1 {barred.status} {_REASONS[barred.status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nX-Proxy-Error: {fault}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def read_request(connection: Connection) -> Request | None:
    """Read a head and take it from `held`; None when the client left between requests. Raises Barred."""
    most, seen = connection.gate.caps.head_bytes, 0
    while (end := find_end(connection.held, start=seen)) < 0:
        seen = len(connection.held)
        if seen > most:
            raise bad_request(f"its head is longer than {most} bytes", status=431)
        if not await connection.fill():
            if connection.held:
                raise bad_request("its head is cut")
            return None
    if end > most:
        raise bad_request(f"its head is longer than {most} bytes", status=431)
    head = bytes(connection.held[:end])
    del connection.held[:end]
    try:
        request = parse_request(head)
    except BadRequestError as error:
        raise bad_request(str(error)) from None
    if request.upgrade and request.upgrade != _PLAIN_UPGRADE:
        remedy = "Speak it in TLS, at port 443 or one of its own, to a host that nothing is injected for."
        raise Barred("", refusal("http_upgrade", f"another protocol, {shown(request.upgrade)}, inside http", remedy))
    return request


def split_place(text: str, *, default: int | None) -> tuple[Host, int]:
    """Read `host:port`; raises Barred."""
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port = text, ""
        if default is None:
            raise bad_request("its address has no port")
    elif not (port.isascii() and port.isdecimal() and len(port) <= len(str(_MAX_PORT))):
        raise bad_request("its address has no port")
    if ":" in name and not name.startswith("["):
        raise bad_request("its address is not in brackets")
    number = int(port) if port else default or 0
    if not 1 <= number <= _MAX_PORT:
        raise bad_request("its port is none")
    try:
        return parse_host(name), number
    except NoHostError as error:
        raise Barred("", refusal("host", f"{shown(name)!r} {error}"), host=shown(name)) from None


class Way:
    """How requests of one connection go on, and answers come back: as they are."""

    kind = "http"

    @property
    def midway(self) -> bool:
        """Whether an answer may have begun, so that nothing else can be said."""
        return True

    async def reach(self, connection: Connection, decision: Decision) -> None:
        """Connect, where that has not been done; raises Barred."""
        if connection.upstream is None:
            await connection.connect(decision)

    def prepare(self, connection: Connection, request: Request) -> Request:
        """Make of a request what goes on; raises Barred."""
        injector, host = connection.gate.injector, connection.host
        if injector is not None and host is not None:
            refuse_in_clear(request, injector.rules_for(host))
        return request

    async def answers(self, connection: Connection) -> None:
        await connection.carry_in()

    def asked_all(self, connection: Connection) -> None:
        """Take it that no more requests come."""
        if connection.upstream is not None:
            with suppress(OSError):
                connection.upstream.shutdown(socket.SHUT_WR)


_AS_IT_IS = Way()


async def serve_web(connection: Connection, host: Host, port: int, *, way: Way = _AS_IT_IS) -> None:
    """Serve requests for one host until either side ends."""
    connection.reply = http_refusal
    connection.aim(way.kind, host, port)
    request = await _next_request(connection, host, port)
    if request is None:
        return
    decision = connection.expect(way.kind, host, port)
    await way.reach(connection, decision)
    connection.decision = decision
    await _both_ways(connection, _requests(connection, request, host, port, way), way)


async def send_one(connection: Connection, request: Request, *, way: Way = _AS_IT_IS) -> None:
    """Pass one request on as the last of its connection, and the answer back."""
    request = way.prepare(connection, request)
    await _both_ways(connection, _request(connection, request, close=True), way)


async def _requests(connection: Connection, request: Request | None, host: Host, port: int, way: Way) -> None:
    while request is not None:
        await _request(connection, way.prepare(connection, request))
        request = await _next_request(connection, host, port)
        if request is not None:
            connection.decision = connection.expect(way.kind, host, port)
    way.asked_all(connection)


async def _next_request(connection: Connection, host: Host, port: int) -> Request | None:
    try:
        request = await read_request(connection)
        if request is not None:
            _hold_against(request, host, port)
    except Barred:
        connection.tell()
        raise
    if request is not None:
        connection.tell()
    return request


def _hold_against(request: Request, host: Host, port: int) -> None:
    """Refuse a request that is for another place than the one its connection leads to."""
    if request.method == "CONNECT" or request.scheme == "https" or (request.scheme and port == _HTTPS):
        raise bad_request("it is for a proxy: port 3128 is one")
    for said, status in ((request.authority, 400), (request.host, 403)):
        if said is not None and split_place(said, default=port) != (host, port):
            reason = f"it is for {shown(said)}, but was sent to {host}:{port}"
            remedy = "Connect to the address that was resolved for this very name."
            raise Barred("", refusal("http_host", reason, remedy), status=status)


async def _request(connection: Connection, request: Request, *, close: bool = False) -> None:
    """Pass on one request with its body."""
    body: Body = ChunkedBody() if request.chunked else LengthBody(request.length)
    wire = request.wire(close=close)
    try:
        while True:
            wire += body.feed(connection.held)
            if wire:
                await connection.send(wire)
            if body.done:
                return
            if not await connection.fill():
                raise bad_request("its body is cut")
            wire = b""
    except BadRequestError as error:
        raise bad_request(str(error)) from None


async def _both_ways(connection: Connection, outward: Coroutine[Any, Any, None], way: Way) -> None:
    """Send requests while answers come; the end of the answers is the end."""
    inward = asyncio.ensure_future(way.answers(connection))
    sending = asyncio.ensure_future(outward)
    try:
        await asyncio.wait({inward, sending}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
            await asyncio.wait({inward})
        if inward.exception() is not None and way.midway:
            connection.reply = None  # it is in the middle of an answer
        inward.result()
    finally:
        await settle([inward, sending])
    await connection.linger()
