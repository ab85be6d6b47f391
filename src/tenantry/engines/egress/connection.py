"""One connection of a sandbox: both of its sockets, what it was allowed as, and what it carried."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from tenantry.engines.egress.gate import Gate
from tenantry.engines.egress.tls import TlsEnd
from tenantry.engines.egress.types import Barred, Decision, Event
from tenantry.kit.hosts import Host
from tenantry.kit.public_addresses import Ip

_SMALL, _LARGE = 16 << 10, 128 << 10
_TURN_BYTES: Final = 1 << 20  # then others have theirs
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 1 << 20


class Connection:
    """`held` is what was read from the client and not passed on yet. `reply` makes the words of a denial.

    Where TLS ends at the gateway, `inside` and `outside` are its ends; what is counted is what the sockets carry.
    """

    def __init__(self, client: socket.socket, gate: Gate) -> None:
        self.client = client
        self.gate = gate
        self.held = bytearray()
        self.upstream: socket.socket | None = None
        self.inside: TlsEnd | None = None
        self.outside: TlsEnd | None = None
        self.kind = "direct"
        self.host: Host | None = None
        self.shown = client.getsockname()[0]
        self.port = client.getsockname()[1]
        self.address: Ip | None = None
        self.decision: Decision | None = None
        self.reply: Callable[[Barred], bytes] | None = None
        self.injected: tuple[str, ...] = ()
        self.sent = self.received = 0
        self.active_at = gate.now()
        self.answering = False
        self.task: asyncio.Task[None] | None = None
        self._cut = False
        self._told_sent = self._told_received = 0
        self._loop = asyncio.get_running_loop()

    # The client's side

    async def fill(self) -> bool:
        """Read more into `held`; False at its end."""
        data = await (self.inside.receive() if self.inside else self._take())
        self.held += data
        return bool(data)

    async def _take(self) -> bytes:
        data = await self._loop.sock_recv(self.client, _SMALL)
        self.active_at = self.gate.now()
        return data

    async def say(self, data: bytes) -> None:
        """Send words of the gateway itself, which count as nobody's."""
        await (self.inside.send(data) if self.inside else self._give(data))

    async def _give(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.client, data)

    async def end_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands with the client, whose hello is held; raises ssl.SSLError."""
        end = TlsEnd(context, read=self._take, write=self._give)
        hello, self.held = bytes(self.held), bytearray()
        await end.shake(hello)
        # Nothing is said after its last word of the handshake, and a client may wait 40 ms for that to be acknowledged.
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.inside = end

    # The outside

    def aim(self, kind: str, host: Host, port: int) -> None:
        """Take it as one to that place from now on."""
        self.kind, self.host, self.shown, self.port = kind, host, host.name, port

    def expect(self, kind: str, host: Host, port: int) -> Decision:
        """Take it as one to that place, and judge it; raises Barred."""
        self.aim(kind, host, port)
        return self.gate.judge(kind, host, port)

    async def connect(self, decision: Decision) -> socket.socket:
        """Connect to where it was allowed to go; raises Barred."""
        if self.host is None:
            raise RuntimeError("a place is expected before it is connected to")
        self.upstream, self.address = await self.gate.dial(self.host, self.port, decision)
        denial = self.gate.still_allows(self.host, self.port, self.address)
        if denial is not None:
            raise Barred("narrowed", denial)
        self.decision = decision
        self.active_at = self.gate.now()
        self.gate.count_connection()
        return self.upstream

    async def begin_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands with the server, which must prove its name; raises ssl.SSLError."""
        if self.host is None:
            raise RuntimeError("it is not connected")
        end = TlsEnd(context, read=self._draw, write=self._pass, name=self.host.name)
        await end.shake()
        self.outside = end

    async def send(self, data: bytes | bytearray) -> None:
        """Pass on bytes of the client."""
        await (self.outside.send(data) if self.outside else self._pass(data))

    async def receive(self) -> bytes:
        """Take what the server says next."""
        return await (self.outside.receive() if self.outside else self._draw())

    def end_receiving(self) -> None:
        """Let whoever receives from the server find its end."""
        if self.upstream is not None:
            with suppress(OSError):
                self.upstream.shutdown(socket.SHUT_RDWR)

    async def _draw(self) -> bytes:
        if self.upstream is None:
            raise RuntimeError("it is not connected")
        data = await self._loop.sock_recv(self.upstream, _LARGE)
        self._count_received(len(data))
        return data

    async def _pass(self, data: bytes | bytearray) -> None:
        if self.upstream is None:
            raise RuntimeError("it is not connected")
        self._count_sent(len(data))
        await self._loop.sock_sendall(self.upstream, data)

    async def splice(self) -> None:
        """Carry both ways until both sides have said all; first what is held. The gateway itself says nothing more."""
        self.reply = None
        if self.held:
            data, self.held = self.held, bytearray()
            await self.send(data)
        await together(self.carry_out(), self.carry_in())

    async def carry_out(self) -> None:
        if self.upstream is not None:
            await self._carry(self.client, self.upstream, self._count_sent)

    async def carry_in(self) -> None:
        if self.upstream is not None:
            await self._carry(self.upstream, self.client, self._count_received)

    async def _carry(self, source: socket.socket, target: socket.socket, count: Callable[[int], None]) -> None:
        view = memoryview(bytearray(_SMALL))
        turn = 0
        while size := await self._loop.sock_recv_into(source, view):
            count(size)
            self.answering = target is self.client
            await self._loop.sock_sendall(target, view[:size])
            self.answering = False
            turn += size
            if turn >= _TURN_BYTES:
                turn = 0
                await asyncio.sleep(0)
            if size == len(view) < _LARGE:
                view = memoryview(bytearray(_LARGE))
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _count_sent(self, size: int) -> None:
        self.active_at = self.gate.now()
        self.gate.count_sent(size)
        self.sent += size

    def _count_received(self, size: int) -> None:
        self.active_at = self.gate.now()
        self.gate.count_received(size)
        self.received += size

    # Its end

    def tell(self) -> None:
        """Tell what was let pass and carried since it was last told."""
        if self.decision is None or self.host is None:
            return
        self.gate.tell(
            Event(
                kind=self.kind,
                host=self.host.name,
                port=self.port,
                allowed=True,
                rule=self.decision.rule,
                reason=self.decision.reason,
                bytes_sent=self.sent - self._told_sent,
                bytes_received=self.received - self._told_received,
                injected=self.injected,
            )
        )
        self.injected = ()
        self._told_sent, self._told_received = self.sent, self.received
        self.decision = None

    def tell_barred(self, barred: Barred) -> None:
        sent, received = self.sent - self._told_sent, self.received - self._told_received
        self._told_sent, self._told_received = self.sent, self.received
        host = barred.host or self.shown
        self.gate.deny(barred.kind or self.kind, host, self.port, barred.decision, sent=sent, received=received)
        self.decision = None

    async def refuse(self, barred: Barred) -> None:
        """Say why in the client's own protocol, where it has one and is not in the middle of an answer."""
        if self.reply is None or self.answering:
            return
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self.say(self.reply(barred))
        await self.linger()

    async def linger(self) -> None:
        """End the client's side so that what was said arrives: bytes nobody reads would reset it."""
        left = _LINGER_BYTES
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                if self.inside is not None and not (self.outside is not None and self.outside.ragged):
                    await self.inside.close()
                self.client.shutdown(socket.SHUT_WR)
                while left > 0 and (data := await self._loop.sock_recv(self.client, _SMALL)):
                    left -= len(data)

    def cut(self, barred: Barred | None = None) -> None:
        """End it at once, in the middle of whatever it does; the first reason given is told."""
        if self._cut:
            return
        self._cut = True
        if barred is not None:
            self.tell_barred(barred)
        for side in (self.client, self.upstream):
            if side is not None:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        self.client.close()
        if self.upstream is not None:
            self.upstream.close()


async def together(*ways: Coroutine[Any, Any, None]) -> None:
    """Run all to their ends; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await settle(tasks)


async def settle(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel what still runs and wait for it."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
