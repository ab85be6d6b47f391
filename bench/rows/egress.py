"""Row 12: a request out of a sandbox through its gateway, beside the same request over a connection of its own."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.engines.egress import Caps, Decision, Event, Gateway
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Limits, Listeners, Network, Spec

_NAME = "api.example.com"
_PORT = 80
_PYTHON = "/usr/bin/python3"
_DOWNLOAD = 256 << 20

# What answers: a process of its own, so that neither side pays for it.
_ORIGIN = """
import asyncio, sys, uvloop
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.held = transport, b""
    def data_received(self, data):
        self.held += data
        while b"\\r\\n\\r\\n" in self.held:
            head, _, self.held = self.held.partition(b"\\r\\n\\r\\n")
            size = int(head.split(b" ")[1][1:])
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
            for _ in range(size >> 20):
                self.transport.write(MIB)
            self.transport.write(MIB[: size % len(MIB)])
MIB = bytes(1 << 20)
async def main():
    server = await asyncio.get_running_loop().create_server(Server, sys.argv[1], int(sys.argv[2]))
    print("ready", flush=True)
    await server.serve_forever()
uvloop.run(main())
"""

# What asks, inside and outside alike; prints milliseconds and MB/s.
_CLIENT = """
import json, socket, sys, time
host, port, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
place = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
view = memoryview(bytearray(1 << 20))
def request(s, size):
    s.sendall(b"GET /%d HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n" % size)
    left = None
    while left is None or left > 0:
        n = s.recv_into(view)
        assert n, "cut"
        if left is None:
            head, _, rest = bytes(view[:n]).partition(b"\\r\\n\\r\\n")
            assert b" 200 " in head, head
            left = int(head.rpartition(b" ")[2]) - len(rest)
        else:
            left -= n
def fresh():
    with socket.create_connection(place) as s:
        request(s, 100)
def timed(call):
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3
for _ in range(10): fresh()
new = [timed(fresh) for _ in range(count)]
with socket.create_connection(place) as s:
    request(s, 100)
    kept = [timed(lambda: request(s, 100)) for _ in range(count)]
    rate = size / 1e3 / timed(lambda: request(s, size))
print(json.dumps([new, kept, rate]))
"""


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - every row gets one
    result = Result("12", "allowed request out of a sandbox through the gateway — against a connection of its own")
    if os.geteuid() != 0:
        result.remarks.append("not measured: what answers listens at port 80, which is root's")
        return [result]
    place = str(IPv4Address((127 << 24) + (64 << 16) + secrets.randbits(21)))
    arguments = [str(20 if quick else 200), str(_DOWNLOAD >> (3 if quick else 0))]
    ours = [Series("gateway, new connection"), Series("gateway, kept alive"), Series("gateway, download", unit="MB/s")]
    theirs = [Series("direct, new connection"), Series("direct, kept alive"), Series("direct, download", unit="MB/s")]
    async with _origin(place), _sandboxes(place) as inside:
        for _ in range(1 if quick else 5):
            _add(ours, await inside([_NAME, str(_PORT), *arguments]))
            _add(theirs, await _outside([place, str(_PORT), *arguments]))
    result.series = [*ours, *theirs]
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        added = mine.percentile(0.5) - other.percentile(0.5)
        result.bars.append(Bar(f"added to {mine.name.partition(', ')[2]}, p50", added, 1, unit=" ms"))
    result.bars.append(Bar("download, p50", ours[2].percentile(0.5), 300, least=True, unit=" MB/s"))
    result.remarks.append("the name is resolved at once: what the host's resolver takes comes on top")
    return [result]


def _add(series: Sequence[Series], answer: bytes) -> None:
    new, kept, rate = json.loads(answer)
    for one, samples in zip(series, (new, kept, [rate]), strict=True):
        one.samples += samples


@asynccontextmanager
async def _origin(place: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ORIGIN, place, str(_PORT), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _sandboxes(place: str) -> AsyncIterator["_Run"]:
    with tempfile.TemporaryDirectory() as home:
        async with await Jail.open(Path(home)) as jail:
            yield _Run(jail, Path(home), place)


class _Run:
    def __init__(self, jail: Jail, home: Path, place: str) -> None:
        self._jail = jail
        self._image = ImageStore(home / "images").host()
        self._place = place

    async def __call__(self, arguments: list[str]) -> bytes:
        """What the client says that runs in a sandbox of its own."""
        said, events, gateways = bytearray(), list[Event](), list[Gateway]()

        async def resolve(_: str) -> list[str]:
            return [self._place]

        async def attach(listeners: Listeners) -> None:
            gateways.append(
                Gateway.open(
                    listeners, decide=_decide, on_event=events.append, caps=Caps(bytes_in=1 << 40), resolve=resolve
                )
            )

        spec = Spec(
            image=self._image,
            command=(_PYTHON, "-c", _CLIENT, *arguments),
            network=Network(),
            limits=Limits(cpus=2, timeout_seconds=60),
        )
        async with await self._jail.start(spec, lambda _, text: said.extend(text), attach=attach) as sandbox:
            await sandbox.wait()
            await gateways[0].close()
        assert all(event.allowed for event in events), [event.line() for event in events if not event.allowed]
        return bytes(said)


def _decide(host: str, port: int) -> Decision:
    return Decision(allowed=(host, port) == (_NAME, _PORT), rule="bench", private=(ip_network("127.0.0.0/8"),))


async def _outside(arguments: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(_PYTHON, "-c", _CLIENT, *arguments, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return said
