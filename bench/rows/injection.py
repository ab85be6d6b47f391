"""Row 12i: a request in TLS that a secret is put into at the gateway, beside one that passes unread."""

import asyncio
import json
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.engines.egress import (
    Authority,
    Caps,
    Decision,
    Event,
    Gateway,
    Injection,
    Injector,
    trusting_context,
)
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import CERTIFICATES, Limits, Listeners, Network, Spec
from tenantry.kit.hosts import parse_host

_HOST = parse_host("api.example.com")
_PORT = 443
_PLACEHOLDER, _VALUE = "tnt-placeholder-00112233445566778899", "a-value-of-some-length"
_DOWNLOAD = 64 << 20

# What answers: a process of its own; refuses whoever does not show what it should.
_ORIGIN = """
import asyncio, ssl, sys, uvloop
MIB = bytes(1 << 20)
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
            assert (b"Bearer " + sys.argv[3].encode()) in head, head
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(Server, sys.argv[1], 443, ssl=context)
    print("ready", flush=True)
    await server.serve_forever()
uvloop.run(main())
"""

_CLIENT = """
import json, os, socket, ssl, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2])
context = ssl.create_default_context()
view = memoryview(bytearray(1 << 18))
def dial():
    return context.wrap_socket(socket.create_connection(("api.example.com", 443)), server_hostname="api.example.com")
def request(s, size):
    s.sendall(b"GET /%d HTTP/1.1\\r\\nHost: api.example.com\\r\\nAuthorization: Bearer %b\\r\\n\\r\\n"
              % (size, os.environ["TOKEN"].encode()))
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
    with dial() as s:
        request(s, 100)
def timed(call):
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3
for _ in range(10): fresh()
new = []
for _ in range(count):
    new.append(timed(fresh))
    time.sleep(0.02)  # no more handshakes than the gateway's hundred a second
with dial() as s:
    request(s, 100)
    kept = [timed(lambda: request(s, 100)) for _ in range(count)]
    rate = size / 1e3 / timed(lambda: request(s, size))
print(json.dumps([new, kept, rate]))
"""


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - every row gets one
    result = Result("12i", "request in TLS with a secret put in at the gateway — against one that passes unread")
    if os.geteuid() != 0:
        result.remarks.append("not measured: what answers listens at port 443, which is root's")
        return [result]
    kinds = ("new connection", "kept alive", "download")
    ours = [Series(f"injected, {kind}") for kind in kinds]
    theirs = [Series(f"unread, {kind}") for kind in kinds]
    ours[2].unit = theirs[2].unit = "MB/s"
    arguments = [str(20 if quick else 200), str(_DOWNLOAD >> (3 if quick else 0))]
    with tempfile.TemporaryDirectory() as home:
        outside = _Outside(Path(home))
        async with await Jail.open(Path(home)) as jail:
            for _ in range(1 if quick else 5):
                for series, injected in ((ours, True), (theirs, False)):
                    async with outside.serving(_VALUE if injected else _PLACEHOLDER):
                        answer = await _inside(jail, outside, arguments, injected=injected)
                    for one, samples in zip(series, (*answer[:2], [answer[2]]), strict=True):
                        one.samples += samples
    result.series = [*ours, *theirs]
    for mine, other, most in zip(ours[:2], theirs[:2], (10, 1), strict=True):
        added = mine.percentile(0.5) - other.percentile(0.5)
        result.bars.append(Bar(f"added to {mine.name.partition(', ')[2]}, p50", added, most, unit=" ms"))
    result.remarks.append("a new connection shakes hands twice where TLS ends at the gateway")
    return [result]


class _Outside:
    """What answers, with an authority of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address = str(IPv4Address((127 << 24) + (64 << 16) + secrets.randbits(21)))
        self.authority = Authority([_HOST], seconds=3600)
        key, certificate = self.authority.issue(_HOST)
        (home / "origin.pem").write_bytes(key + certificate)
        (home / "ca.pem").write_bytes(self.authority.pem)

    @property
    def trust(self) -> ssl.SSLContext:
        return trusting_context(self.home / "ca.pem")

    async def resolve(self, _: str) -> list[str]:
        return [self.address]

    @asynccontextmanager
    async def serving(self, token: str) -> AsyncIterator[None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ORIGIN, self.address, self.home / "origin.pem", token, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()
            await process.wait()


async def _inside(
    jail: Jail, outside: _Outside, arguments: list[str], *, injected: bool
) -> tuple[list[float], list[float], float]:
    """What the client says that runs in a sandbox of its own."""
    said, events, gateways = bytearray(), list[Event](), list[Gateway]()
    rule = Injection(name="TOKEN", host=_HOST, placeholder=_PLACEHOLDER, value=_VALUE)
    authority = Authority([_HOST], seconds=600) if injected else outside.authority
    injector = Injector([rule], authority=authority, trust=outside.trust) if injected else None

    async def attach(listeners: Listeners) -> None:
        gateways.append(
            Gateway.open(
                listeners,
                decide=_decide,
                on_event=events.append,
                caps=Caps(bytes_in=1 << 40),
                resolve=outside.resolve,
                injector=injector,
            )
        )

    spec = Spec(
        image=ImageStore(outside.home / "images").host(),
        command=("/usr/bin/python3", "-c", _CLIENT, *arguments),
        env={"SSL_CERT_FILE": CERTIFICATES, "TOKEN": _PLACEHOLDER},
        authority=authority.pem,
        network=Network(),
        limits=Limits(cpus=2, timeout_seconds=60),
    )
    async with await jail.start(spec, lambda _, text: said.extend(text), attach=attach) as sandbox:
        await sandbox.wait()
        await gateways[0].close()
    assert all(event.allowed for event in events), [event.line() for event in events if not event.allowed]
    new, kept, rate = json.loads(said)
    return new, kept, rate


def _decide(host: str, port: int) -> Decision:
    return Decision(allowed=(host, port) == (_HOST.name, _PORT), rule="bench", private=(ip_network("127.0.0.0/8"),))
