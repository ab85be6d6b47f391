"""An inside and an outside without a sandbox: two network namespaces of this process, and what goes between them.

Imported by `gateway_steps.py` alone: whoever imports it and calls `be_apart` is in no network any more.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41
OUTSIDE = "127.64.0.1"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PLAIN = 8080
PATIENCE: ContextVar[float] = ContextVar("PATIENCE", default=10.0)
"""Seconds; less for a gateway that lacks something, as it may never answer."""


def be_apart() -> int:
    """Leave for an empty network, and make another for the inside; returns a descriptor of that."""
    uid = os.geteuid()
    _checked(LIBC.unshare(_CLONE_NEWNET | (_CLONE_NEWUSER if uid else 0)))
    _up()
    inside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _checked(LIBC.unshare(_CLONE_NEWNET))
    _up()
    return inside


def _up() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))


def _checked(failed: int) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass
class Listeners:
    dns: socket.socket
    dns_tcp: socket.socket
    proxy: socket.socket
    tcp: dict[int, socket.socket]


@dataclass
class Met:
    """What came of one exchange: the gateway's words, what reached the outside, rules of denials, names resolved."""

    said: bytes
    arrived: bytes
    rules: list[str]
    resolved: list[str]


@dataclass
class Stage:
    inside: int
    arrived: bytearray = field(default_factory=bytearray)
    resolved: list[str] = field(default_factory=list)
    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    gateway: Any = None
    _home: int = field(default_factory=lambda: os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @asynccontextmanager
    async def outside(self) -> AsyncIterator[None]:
        servers = [await asyncio.start_server(self._serve, OUTSIDE, port) for port in (80, 443, PLAIN)]
        try:
            yield
        finally:
            for server in servers:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.arrived += data
                writer.write(ANSWER)
                await writer.drain()
                if b"Connection: close" in data:
                    break
        writer.close()

    @asynccontextmanager
    async def open(self, engine: Any, decide: Callable[[str, int], Any], **caps: Any) -> AsyncIterator["Stage"]:
        self.events.clear()
        with self._there():
            listeners = _listeners()
        self.gateway = engine.Gateway.open(
            listeners,
            decide=decide,
            on_event=lambda event: self.events.append(event),  # noqa: PLW0108 - the list of that moment
            caps=engine.Caps(**{"head_bytes": 2000} | caps),
            resolve=self.resolve,
        )
        try:
            yield self
        finally:
            async with asyncio.timeout(PATIENCE.get()):
                await self.gateway.close()

    async def resolve(self, name: str) -> Sequence[str]:
        self.resolved.append(name)
        planned = self.answers.get(name)
        if planned:
            return planned.pop(0) if len(planned) > 1 else planned[0]
        return [OUTSIDE]

    async def connect(self, place: tuple[str, int]) -> socket.socket:
        with self._there():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        await asyncio.get_running_loop().sock_connect(made, place)
        return made

    async def exchange(self, place: tuple[str, int], *parts: bytes) -> Met:
        """Send the parts, each after an answer to the one before, end, and read all that comes."""
        loop, said, before = asyncio.get_running_loop(), bytearray(), set(self.gateway._live)
        with self._noted() as met:
            async with asyncio.timeout(PATIENCE.get()):
                with contextlib.closing(await self.connect(place)) as made, contextlib.suppress(OSError):
                    for number, part in enumerate(parts):
                        if number:
                            said += await loop.sock_recv(made, 1 << 16)
                        await loop.sock_sendall(made, part)
                    made.shutdown(socket.SHUT_WR)
                    while more := await loop.sock_recv(made, 1 << 16):
                        said += more
                while self.gateway._live.keys() - before:  # noqa: ASYNC110 - what it tells of its end comes a moment later
                    await asyncio.sleep(0)
            met.said = bytes(said)
        return met

    async def query(self, packet: bytes, *, patience: float | None = None) -> Met:
        """Send a datagram to the gateway's DNS; `said` is its answer, empty when there is none in so many seconds."""
        loop = asyncio.get_running_loop()
        with self._there():
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with self._noted() as met, contextlib.closing(made), contextlib.suppress(TimeoutError):
            made.connect(("127.0.0.1", 53))
            async with asyncio.timeout(patience or PATIENCE.get()):
                await loop.sock_sendall(made, packet)
                met.said = await loop.sock_recv(made, 4096)
        return met

    async def address_of(self, name: str) -> str:
        answer = (await self.query(question(name))).said
        return socket.inet_ntoa(answer[-4:])

    @contextmanager
    def _noted(self) -> Iterator[Met]:
        met, at = Met(b"", b"", [], []), len(self.events)
        self.arrived.clear()
        self.resolved.clear()
        yield met
        met.arrived, met.resolved = bytes(self.arrived), list(self.resolved)
        met.rules = [event.rule for event in self.events[at:] if not event.allowed]

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Make sockets of the inside's network; nothing may be waited for meanwhile."""
        _checked(LIBC.setns(self.inside, _CLONE_NEWNET))
        try:
            yield
        finally:
            _checked(LIBC.setns(self._home, _CLONE_NEWNET))


def _listeners() -> Listeners:
    def bound(kind: int, address: str, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    stream, everywhere = socket.SOCK_STREAM, "0.0.0.0"  # noqa: S104 - a network of its own
    return Listeners(
        dns=bound(socket.SOCK_DGRAM, "127.0.0.1", 53),
        dns_tcp=bound(stream, "127.0.0.1", 53),
        proxy=bound(stream, "127.0.0.1", 3128),
        tcp={port: bound(stream, everywhere, port) for port in (80, 443, PLAIN)},
    )


def question(
    name: str, kind: int = 1, group: int = 1, *, flags: int = 0x100, more: bytes = b"", count: int = 0
) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    head = struct.pack(">HHHHHH", 7, flags, 1, 0, 0, count)
    return head + labels + b"\0" + struct.pack(">HH", kind, group) + more
