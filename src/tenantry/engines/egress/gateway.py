"""The gateway of one sandbox: takes what its listeners accept, and lets pass what is allowed."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Self

from tenantry.engines.egress.addresses import system_resolve
from tenantry.engines.egress.connection import Connection
from tenantry.engines.egress.gate import Gate
from tenantry.engines.egress.injection import Injector
from tenantry.engines.egress.names import Names
from tenantry.engines.egress.passages import HTTP, HTTPS, pass_plain, pass_proxy, pass_tls, tls_refusal
from tenantry.engines.egress.types import Barred, Caps, Decide, Event, Listeners, Resolve, Usage, refusal
from tenantry.engines.egress.web import http_refusal, serve_web
from tenantry.foundation.clock import Clock, SystemClock

_DNS, _PROXY = 53, 3128
_INSIDE: Final = "127.0.0.1"
_AT_ONCE: Final = 32
_PREFIX: Final = 2
_LONGEST_DATAGRAM: Final = 4096
_PAUSE_SECONDS: Final = 0.2
_TURN_SECONDS: Final = 0.1
_TURN_COUNT: Final = 1000
_SWEEP_SECONDS: Final = 1.0
_STRANGER: Final = refusal(
    "direct", "no name leads to this address", "Connect to a name that is allowed, as it is resolved here."
)


class Gateway:
    """Made by `open`, ended by `close`; bound to the event loop it was opened on."""

    def __init__(self, listeners: Listeners, gate: Gate) -> None:
        self._listeners = listeners
        self._gate = gate
        self._names = Names(gate, ports=sorted(listeners.tcp))
        self._live: dict[asyncio.Task[None], Connection] = {}
        self._loop = asyncio.get_running_loop()
        self._listening: set[socket.socket] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._turn_at, self._turn_left = 0.0, 0
        self._closed = False

    @classmethod
    def open(
        cls,
        listeners: Listeners,
        *,
        decide: Decide,
        on_event: Callable[[Event], None],
        caps: Caps | None = None,
        resolve: Resolve | None = None,
        clock: Clock | None = None,
        injector: Injector | None = None,
    ) -> "Gateway":
        """Serve the listeners from now on; they are the gateway's to close.

        `decide` and `on_event` are called on the event loop and must not block; when `on_event` raises, nothing is
        allowed any more and `close` raises it. `resolve` is this machine's own resolver unless given. With an
        `injector`, TLS to its hosts ends here, and values are put into what is asked of them.
        """
        gate = Gate(
            caps=caps or Caps(),
            decide=decide,
            resolve=resolve or system_resolve,
            on_event=on_event,
            clock=clock or SystemClock(),
        )
        gate.injector = injector
        gateway = cls(listeners, gate)
        gate.alarm = lambda: gateway._loop.call_soon(lambda: gateway.narrow(gate.decide))
        gateway._listen()
        return gateway

    @property
    def usage(self) -> Usage:
        return self._gate.usage

    def narrow(self, decide: Decide) -> None:
        """Decide by this from now on; connections it does not allow end before this returns."""
        self._gate.decide = decide
        for connection in list(self._live.values()):
            if connection.host is None:
                continue
            denial = self._gate.still_allows(connection.host, connection.port, connection.address)
            if denial is not None:
                connection.cut(Barred("narrowed", denial))

    async def close(self) -> None:
        """End every connection and stop listening; idempotent. Raises what `on_event` raised."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for one in self._listening:
            self._loop.remove_reader(one.fileno())
        self._listening.clear()
        listeners = self._listeners
        for one in (listeners.dns, listeners.dns_tcp, listeners.proxy, *listeners.tcp.values()):
            one.close()
        for connection in list(self._live.values()):
            connection.cut()
        if self._live:
            await asyncio.wait(list(self._live))
        failed, self._gate.failed = self._gate.failed, None
        if failed is not None:
            raise failed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _listen(self) -> None:
        self._read(self._listeners.dns, self._datagrams)
        for listener in {self._listeners.dns_tcp, self._listeners.proxy, *self._listeners.tcp.values()}:
            self._read(listener, partial(self._accept, listener))
        self._sweep()

    def _read(self, one: socket.socket, ready: Callable[[], None]) -> None:
        if not self._closed:
            self._listening.add(one)
            self._loop.add_reader(one.fileno(), ready)

    def _datagrams(self) -> None:
        for _ in range(self._share(self._listeners.dns, self._datagrams)):
            try:
                packet, peer = self._listeners.dns.recvfrom(_LONGEST_DATAGRAM)
            except OSError:
                return
            self._turn_left -= 1
            if answer := self._names.answer(packet):
                with suppress(OSError):  # nobody waits for it, or its queue is full: it asks again
                    self._listeners.dns.sendto(answer, peer)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._share(listener, partial(self._accept, listener))):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:  # no descriptors are left: come back when some may be
                self._pause(listener, partial(self._accept, listener), _PAUSE_SECONDS)
                return
            self._turn_left -= 1
            self._begin(client)

    def _share(self, one: socket.socket, ready: Callable[[], None]) -> int:
        """Say how much of it may be served now: no sandbox has the loop for itself by knocking."""
        now = self._loop.time()
        if now - self._turn_at >= _TURN_SECONDS:
            self._turn_at, self._turn_left = now, _TURN_COUNT
        if self._turn_left <= 0:
            self._pause(one, ready, _TURN_SECONDS)
        return min(_AT_ONCE, self._turn_left)

    def _pause(self, one: socket.socket, ready: Callable[[], None], seconds: float) -> None:
        self._loop.remove_reader(one.fileno())
        self._listening.discard(one)
        self._loop.call_later(seconds, self._read, one, ready)

    def _begin(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection = Connection(client, self._gate)
        except OSError:  # it has gone
            client.close()
            return
        if len(self._live) >= self._gate.caps.connections:
            connection.tell_barred(
                Barred("cap", refusal("connections", f"more than {self._gate.caps.connections} connections at once"))
            )
            connection.close()
            return
        task = connection.task = self._loop.create_task(self._serve(connection))
        self._live[task] = connection
        task.add_done_callback(lambda task: self._live.pop(task).close())  # one cut before it began has no other end

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._route(connection)
        except Barred as barred:
            connection.tell_barred(barred)
            await connection.refuse(barred)
        except OSError:  # one of its sides has gone
            pass
        finally:
            connection.tell()

    async def _route(self, connection: Connection) -> None:
        """Find out what a connection is by where it arrived."""
        address, port = connection.client.getsockname()
        host = self._names.host_of(address)
        if host is not None:
            connection.aim("tcp", host, port)
            passage = {HTTP: serve_web, HTTPS: pass_tls}.get(port, pass_plain)
            await passage(connection, host, port)
        elif (address, port) == (_INSIDE, _DNS):
            await self._name_stream(connection)
        elif (address, port) == (_INSIDE, _PROXY):
            await pass_proxy(connection)
        else:
            connection.reply = {HTTP: http_refusal, HTTPS: tls_refusal}.get(port)
            raise Barred("direct", _STRANGER)

    async def _name_stream(self, connection: Connection) -> None:
        """Answer queries that come over TCP, each behind its length."""
        while True:
            while len(connection.held) < (end := _message_end(connection.held)):
                if not await connection.fill():
                    return
            answer = self._names.answer(bytes(connection.held[_PREFIX:end]))
            del connection.held[:end]
            if not answer:
                return
            await connection.say(len(answer).to_bytes(_PREFIX) + answer)

    def _sweep(self) -> None:
        """End what carries nothing, again and again."""
        idle = self._gate.caps.idle_seconds
        now = self._gate.now()
        for connection in list(self._live.values()):
            if now - connection.active_at > idle:
                connection.cut()
        self._sweeper = self._loop.call_later(min(_SWEEP_SECONDS, idle / 4), self._sweep)


def _message_end(held: bytearray) -> int:
    return _PREFIX if len(held) < _PREFIX else _PREFIX + int.from_bytes(held[:_PREFIX])
