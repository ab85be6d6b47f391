"""Ten thousand requests of two tenants through each other, errors and broken connections between: nothing bleeds."""

import asyncio
import json
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from tests.conftest import Installation, Tenant

pytestmark = pytest.mark.xdist_group("api")

REQUESTS = 10_000
AT_ONCE = 24


@dataclass
class Side:
    """One tenant's view: what it asks for, and what it must never be told."""

    tenant: Tenant
    workspace: str
    foreign: list[bytes] = field(default_factory=list)
    traces: set[bytes] = field(default_factory=set)


class Pipe:
    """One kept connection, spoken to in plain bytes: a client's own cost must not hide the server's races."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "", parts.port or 0)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(
        self, side: Side, method: str, path: str, *, header: str = "", body: object = None
    ) -> tuple[int, bytes]:
        """Give status and the whole answer, head included."""
        await self._write(side, method, path, header=header, body=body)
        assert self._streams is not None
        reader, _ = self._streams
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), head + await reader.readexactly(length)

    async def break_off(self, side: Side, path: str) -> None:
        """Ask and leave, at any moment: there is nobody to answer any more."""
        await self._write(side, "GET", path)
        await asyncio.sleep(random.uniform(0, 0.004))  # noqa: S311 - any moment will do
        self.close()

    async def _write(self, side: Side, method: str, path: str, *, header: str = "", body: object = None) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        content = json.dumps(body).encode() if body is not None else b""
        kind = "Content-Type: application/json\r\n" if body is not None else ""
        head = (
            f"{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {side.tenant.bootstrap_key}\r\n{header}{kind}Content-Length: {len(content)}\r\n\r\n"
        )
        self._streams[1].write(head.encode() + content)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


def _must_hold(side: Side, answer: tuple[int, bytes], status: int, *own: str) -> None:
    found, text = answer
    assert found == status, text[-300:]
    for told in own:
        assert told.encode() in text, f"{told} is missing in {text[-300:]!r}"
    for foreign in side.foreign:
        assert foreign not in text, f"{foreign!r} is told by {text[-300:]!r}"
    trace = text.partition(b"x-trace-id: ")[2][:32] or text.partition(b'"trace_id":"')[2][:32]
    assert trace
    assert trace not in side.traces
    side.traces.add(trace)


async def _ask(pipe: Pipe, side: Side, kind: int, other: Side) -> None:
    own, ids = f"/workspaces/{side.workspace}", (side.tenant.id, side.tenant.slug)
    if kind == 0:
        _must_hold(side, await pipe.send(side, "GET", "/me"), 200, *ids)
    elif kind == 1:
        _must_hold(side, await pipe.send(side, "GET", own), 200, side.workspace, side.tenant.id)
    elif kind == 2:
        _must_hold(side, await pipe.send(side, "GET", "/workspaces?limit=5"), 200, side.tenant.id)
    elif kind == 3:
        _must_hold(side, await pipe.send(side, "GET", f"/workspaces/{other.workspace}"), 404, "not_found")
    elif kind == 4:
        header = f"X-Tenant-Id: {other.tenant.id}\r\n"
        _must_hold(side, await pipe.send(side, "GET", "/me", header=header), 403, "tenant_mismatch")
    elif kind == 5:
        body = {"name": secrets.token_hex(6)}
        answer = await pipe.send(side, "POST", f"{own}/service-accounts", body=body)
        _must_hold(side, answer, 201, side.workspace, body["name"])
    elif kind == 6:
        answer = await pipe.send(side, "GET", "/audit?limit=2&outcome=success")
        _must_hold(side, answer, 200, side.tenant.id)
    elif kind == 7:
        answer = await pipe.send(side, "POST", f"{own}/bindings", body={"principal": "svc_x", "role": "ci"})
        _must_hold(side, answer, 404, "no such principal")
    else:
        await pipe.break_off(side, f"{own}/service-accounts?limit=50")


@pytest.mark.timeout(400)
async def test_no_context_bleeds_between_requests_of_two_tenants(
    installation: Installation, acme: Tenant, globex: Tenant
) -> None:
    sides = [Side(tenant, tenant.workspace("mixed")) for tenant in (acme, globex)]
    for side, other in (sides, sides[::-1]):
        side.foreign = [text.encode() for text in (other.tenant.id, other.tenant.slug, other.workspace)]
    order = [(number % 2, number // 2 % 9) for number in range(REQUESTS)]
    random.Random(4711).shuffle(order)  # noqa: S311 - a fixed order, not a secret
    waiting = iter(order)
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_work(Pipe(installation.url), waiting, sides))
    assert sum(len(side.traces) for side in sides) == sum(kind != 8 for _, kind in order)


async def _work(pipe: Pipe, waiting: Iterator[tuple[int, int]], sides: list[Side]) -> None:
    """Take from the common list until it is empty, both tenants on one connection."""
    try:
        for place, kind in waiting:
            await _ask(pipe, sides[place], kind, sides[1 - place])
    finally:
        pipe.close()
