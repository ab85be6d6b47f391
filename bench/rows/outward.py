"""What the rows about the gateway share: who answers, who asks from inside of a sandbox, and what each of them says."""

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from bench.report import Series
from tenantry.engines.egress import Caps, Decision, Event, Gateway, Injector
from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.types import Listeners, Spec

NAME = "api.example.com"
PYTHON = "/usr/bin/python3"

# What answers: a process of its own, so that neither side pays for it. With a certificate it speaks TLS, and refuses
# whoever does not show what it should.
_ORIGIN = """
import asyncio, ssl, sys, uvloop
MIB = bytes(1 << 20)
place, port, certificate, token = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].encode()
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
            assert token in head, head
async def main():
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(Server, place, port, ssl=context)
    print("ready", flush=True)
    await server.serve_forever()
uvloop.run(main())
"""

ASKING = """
import json, os, socket, ssl, sys, time
def request(s, size, more=b""):
    s.sendall(b"GET /%d HTTP/1.1\\r\\nHost: api.example.com\\r\\n%b\\r\\n" % (size, more))
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
def timed(call):
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3
"""
"""How a client begins: it names its `view`, and prints milliseconds new, milliseconds kept alive, and MB/s."""


def fresh_address() -> str:
    """Draw a loopback address that nothing else listens at."""
    return str(IPv4Address((127 << 24) + (64 << 16) + secrets.randbits(21)))


@asynccontextmanager
async def serving(place: str, port: int, *, certificate: Path | None = None, token: str = "") -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ORIGIN, place, str(port), str(certificate or ""), token, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def ask_inside(jail: Backend, spec: Spec, *, place: str, port: int, injector: Injector | None = None) -> bytes:
    """What the client says that runs in a sandbox of its own, whose gateway reaches `place` alone."""
    said, events, gateways = bytearray(), list[Event](), list[Gateway]()

    def decide(host: str, wanted: int) -> Decision:
        return Decision(allowed=(host, wanted) == (NAME, port), rule="bench", private=(ip_network("127.0.0.0/8"),))

    async def resolve(_: str) -> list[str]:
        return [place]

    async def attach(listeners: Listeners) -> None:
        gateways.append(
            Gateway.open(
                listeners,
                decide=decide,
                on_event=events.append,
                caps=Caps(bytes_in=1 << 40),
                resolve=resolve,
                injector=injector,
            )
        )

    async with await jail.start(spec, lambda _, text: said.extend(text), attach=attach) as sandbox:
        await sandbox.wait()
        await gateways[0].close()
    assert all(event.allowed for event in events), [event.line() for event in events if not event.allowed]
    return bytes(said)


def add(series: Sequence[Series], answer: bytes) -> None:
    """Add what a client has said to the three series: new connection, kept alive, download."""
    new, kept, rate = json.loads(answer)
    for one, samples in zip(series, (new, kept, [rate]), strict=True):
        one.samples += samples
