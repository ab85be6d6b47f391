"""Runs the cases: a sandbox with a network, its gateway, and an outside that this process listens as."""

import asyncio
import contextlib
import ipaddress
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tenantry.capabilities.sandboxes.service.egress import table_of
from tenantry.engines.egress import Caps, Decision, Event, Gateway
from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.selftest import SelftestResult, with_python
from tenantry.engines.jail.types import ImageRoot, InputFile, Limits, Listeners, Network, Spec, Stream
from tenantry.engines.rules.types import Connection, Effect, Phase
from tenantry.entrypoints.egress_suite.cases import API, LURK, PLAIN, TRIES, WILD, Try

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_SETTLE_SECONDS: Final = 5.0
_INSIDE: Final = Path(__file__).with_name("inside.py")
_LIMITS: Final = Limits(memory_mib=128, pids=16, timeout_seconds=60, disk_mib=4, tmp_mib=1, shm_mib=1)
_ASKED: Final = (
    *((host, port) for host in (API, LURK) for port in (80, PLAIN)),
    *((API, 443), (f"*.{WILD}", PLAIN)),
)


class _Outside:
    """Listens at one address of 127/8 of its own, at PLAIN, and at 80 and 443 where it may; keeps all that arrives."""

    def __init__(self) -> None:
        self.address = str(ipaddress.IPv4Address((127 << 24) + (65 << 16) + secrets.randbits(16)))
        self.arrived = bytearray()
        self.web = False
        self._serving: set[asyncio.Task[object]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await self._listen(stack, PLAIN)
            with contextlib.suppress(OSError):  # only root's, or somebody listens everywhere
                await self._listen(stack, 80)
                await self._listen(stack, 443)
                self.web = True
            yield

    async def _listen(self, stack: AsyncExitStack, port: int) -> None:
        server = await asyncio.start_server(self._serve, self.address, port)
        stack.callback(server.close)

    async def settle(self) -> None:
        """Wait until what was sent to here has been read; whoever sent it has ended."""
        if self._serving:
            await asyncio.wait(self._serving, timeout=_SETTLE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.arrived += data
                writer.write(_ANSWER)
                await writer.drain()
        writer.close()


class _Run:
    """One run of the plan: what each line met, and what the gateway asked for."""

    def __init__(self, outside: _Outside) -> None:
        self.met: dict[str, str] = {}
        self.errors = bytearray()
        self._outside = outside
        self._gateway: Gateway | None = None
        self._said = bytearray()
        self._table = table_of([Connection(Phase.RUN, host, port) for host, port in _ASKED])
        self._next: list[Try] = []
        self.resolved: list[str] = []
        self._private = (ipaddress.ip_network(f"{outside.address}/32"),)

    def plan(self, tries: Sequence[Try]) -> bytes:
        self._next = list(tries)
        return json.dumps([(one.name, one.kind, one.arguments) for one in tries]).encode()

    async def attach(self, listeners: Listeners) -> None:
        self._gateway = Gateway.open(
            listeners,
            decide=self._decide,
            on_event=_unheeded,
            caps=Caps(new_names_per_minute=1000),
            resolve=self._resolve,
        )

    async def close(self) -> None:
        if self._gateway is not None:
            await self._gateway.close()

    def hear(self, stream: Stream, text: bytes) -> None:
        if stream is Stream.STDERR:
            self.errors += text
            return
        self._said += text
        while b"\n" in self._said:
            line, _, self._said = self._said.partition(b"\n")
            name, met = json.loads(line)
            if name:
                self.met[name] = met
                self._next = self._next[1:]
            elif self._gateway is not None:
                self._gateway.narrow(_nothing)

    def _decide(self, host: str, port: int) -> Decision:
        finding = self._table.decide(Phase.RUN, host, port).findings[0]
        allowed = finding.effect is Effect.ALLOW
        private = () if host == LURK else self._private
        return Decision(allowed=allowed, rule=finding.rule, reason=finding.message, private=private)

    async def _resolve(self, name: str) -> Sequence[str]:
        self.resolved.append(name)
        if name != LURK:
            return [self._outside.address]
        leads = self._next[0].leads if self._next else ""
        if leads == "rebinding":
            return ["10.0.0.1"] if self.resolved.count(LURK) % 2 else [self._outside.address]
        return [leads or self._outside.address]


def _nothing(_host: str, _port: int) -> Decision:
    return Decision(allowed=False, rule="narrower")


def _unheeded(_: Event) -> None:
    return


async def try_egress(jail: Backend, image: ImageRoot) -> list[SelftestResult]:
    """Try every case, in a second or two. Raises JailUnavailable if nothing starts, OSError if nothing may listen."""
    outside = _Outside()
    async with outside.listening():
        run = _Run(outside)
        tried = [one for one in TRIES if outside.web or not one.web]
        shown, python, env = with_python(image)
        spec = Spec(
            image=shown,
            command=(python, "-I", "-S", "-B", "/inputs/inside.py"),
            env=env,
            inputs=(InputFile("inside.py", _INSIDE.read_bytes()), InputFile("plan.json", run.plan(tried))),
            limits=_LIMITS,
            network=Network(tcp_ports=frozenset({PLAIN})),
        )
        try:
            async with await jail.start(spec, run.hear, attach=run.attach) as sandbox:
                await sandbox.wait()
        finally:
            await run.close()
        await outside.settle()
    return [_judged(one, run, outside) for one in TRIES]


def _judged(one: Try, run: _Run, outside: _Outside) -> SelftestResult:
    case = one.case
    if one.web and not outside.web:
        return SelftestResult(
            case.code, True, "", case.group, case.name, case.expected, "ports 80 and 443 of this host"
        )
    met = run.met.get(one.name)
    if met is None:
        end = run.errors.decode(errors="replace")[-200:]
        return SelftestResult(case.code, False, f"it was not tried {end}", case.group, case.name, case.expected)
    arrived = f"X-Case: {one.name}.".encode() in outside.arrived
    asked = one.kind == "ask" and one.arguments[0] in run.resolved and one.arguments[0] != API
    smuggled = b"X-Case: smuggled" in outside.arrived and one.name.startswith("request_")
    held = met in one.accept and arrived is one.passes and not asked and not smuggled
    detail = met + (", and it arrived" if arrived else "") + (", and it was asked of others" if asked else "")
    return SelftestResult(case.code, held, detail, case.group, case.name, case.expected)
