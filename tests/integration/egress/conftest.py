"""Real sandboxes with a gateway, and an outside: servers of this test process at an address of 127/8 of its own."""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tenantry.engines.egress import Caps, Decision, Event, Gateway, Injector
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.types import ImageRoot, Limits, Listeners, Network, Outcome, Spec, Stream

PLAIN = 8080
"""A port of no protocol the gateway reads."""
NAMES = ("api.example.com", "other.example.com", "db.corp.internal")


@dataclass
class Outside:
    """Servers on 80, 443 and 8080 of one address, where every name leads; all that reached them, and was resolved."""

    address: str
    heads: list[str] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    resolved: list[str] = field(default_factory=list)
    answers: dict[str, list[list[str] | OSError]] = field(default_factory=dict)
    connections: int = 0

    def clear(self) -> None:
        self.heads.clear()
        self.raw.clear()
        self.resolved.clear()
        self.answers.clear()
        self.connections = 0

    async def resolve(self, name: str) -> Sequence[str]:
        self.resolved.append(name)
        planned = self.answers.get(name)
        if planned:
            answer = planned.pop(0) if len(planned) > 1 else planned[0]
            if isinstance(answer, OSError):
                raise answer
            return answer
        return [self.address]

    async def serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                length = next((int(x[15:]) for x in head.split("\r\n") if x.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                if "chunked" in head.lower():
                    body = await reader.readuntil(b"0\r\n\r\n")
                self.raw += body
                path = head.split(" ")[1]
                said = b"x" * int(path[7:]) if path.startswith("/bytes/") else f"hello {path}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
                await writer.drain()
                if "connection: close" in head.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve_echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(1 << 16):
                self.raw += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass
class Ran:
    said: bytearray = field(default_factory=bytearray)
    wrong: bytearray = field(default_factory=bytearray)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[Event] = field(default_factory=list)
    outcome: Outcome = field(init=False)
    gateway: Gateway = field(init=False)
    sandbox: Sandbox = field(init=False)

    def hear(self, stream: Stream, text: bytes) -> None:
        self.heard.set()
        (self.said if stream is Stream.STDOUT else self.wrong).extend(text)

    @property
    def out(self) -> str:
        assert not self.wrong, self.wrong.decode()
        return self.said.decode()

    @property
    def denials(self) -> list[tuple[str, str, int, str]]:
        return [(event.kind, event.host, event.port, event.rule) for event in self.events if not event.allowed]


EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclass
class Ground:
    jail: Jail
    host: ImageRoot
    outside: Outside
    allowed: dict[tuple[str, int], Decision] = field(default_factory=dict)

    def allow(self, name: str, *ports: int, private: bool = True) -> None:
        for port in ports:
            networks = EVERYWHERE if private else ()
            self.allowed[name, port] = Decision(allowed=True, rule=f"allowed_hosts: {name}", private=networks)

    def decide(self, host: str, port: int) -> Decision:
        no = Decision(allowed=False, rule="allowed_hosts", reason=f"{host}:{port} is not listed", remedy="List it.")
        return self.allowed.get((host, port), no)

    def spec(self, code: str, **fields: Any) -> Spec:
        return Spec(
            image=self.host,
            command=("python3", "-c", CLIENT + code),
            limits=Limits(timeout_seconds=60),
            network=Network(tcp_ports=frozenset({PLAIN})),
            **fields,
        )

    @asynccontextmanager
    async def start(
        self,
        code: str,
        *,
        caps: Caps | None = None,
        decide: Callable[[str, int], Decision] | None = None,
        injector: Injector | None = None,
        **fields: Any,
    ) -> AsyncIterator[Ran]:
        """A Python program in a sandbox behind a gateway; `client` has short words for what it does there."""
        ran = Ran()

        async def attach(listeners: Listeners) -> None:
            ran.gateway = Gateway.open(
                listeners,
                decide=decide or self.decide,
                on_event=ran.events.append,
                caps=caps,
                resolve=self.outside.resolve,
                injector=injector,
            )

        async with await self.jail.start(self.spec(code, **fields), ran.hear, attach=attach) as ran.sandbox:
            try:
                yield ran
            finally:
                await ran.gateway.close()

    async def run(self, code: str, **fields: Any) -> Ran:
        async with self.start(code, **fields) as ran:
            ran.outcome = await ran.sandbox.wait()
        return ran


CLIENT = (Path(__file__).parent / "inside.txt").read_text()


def certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=2)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in NAMES]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    (folder / "pem").write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context


@pytest.fixture(scope="session")
async def outside(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outside]:
    if os.geteuid() != 0:
        pytest.skip("ports below 1024 are root's")
    place = Outside(str(ipaddress.IPv4Address((127 << 24) + (64 << 16) + secrets.randbits(21))))
    context = certificate(tmp_path_factory.mktemp("tls"))
    servers = [
        await asyncio.start_server(place.serve_http, place.address, 80, limit=1 << 20),
        await asyncio.start_server(place.serve_http, place.address, 443, ssl=context),
        await asyncio.start_server(place.serve_echo, place.address, PLAIN),
    ]
    yield place
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
async def cell(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Jail, ImageRoot]]:
    home = tmp_path_factory.mktemp("home")
    async with await Jail.open(home) as jail:
        yield jail, ImageStore(home / "images").host()


@pytest.fixture
async def ground(cell: tuple[Jail, ImageRoot], outside: Outside) -> Ground:
    outside.clear()
    return Ground(*cell, outside)


def read(out: str) -> Any:
    return json.loads(out)
