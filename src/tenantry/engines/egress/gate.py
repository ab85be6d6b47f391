"""Where a gateway's decisions are made, counted and told; one for all connections of a sandbox."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final

from tenantry.engines.egress.addresses import dial, find_addresses, may_dial
from tenantry.engines.egress.injection import Injector
from tenantry.engines.egress.types import Barred, Caps, Decide, Decision, Event, Resolve, Usage, failure, refusal
from tenantry.foundation.clock import Clock
from tenantry.kit.hosts import Host
from tenantry.kit.public_addresses import Ip

_RESOLVED_AT_ONCE: Final = 4
_BURST: Final = 200.0
_PER_SECOND: Final = 10.0
_BROKEN: Final = refusal("unheard", "what was decided cannot be told, so nothing is allowed")


class Gate:
    def __init__(
        self, *, caps: Caps, decide: Decide, resolve: Resolve, on_event: Callable[[Event], None], clock: Clock
    ) -> None:
        self.caps = caps
        self.decide = decide
        self.failed: Exception | None = None
        self.alarm: Callable[[], object] = lambda: None
        self.injector: Injector | None = None
        self._resolve = resolve
        self._resolving = asyncio.Semaphore(_RESOLVED_AT_ONCE)
        self._on_event = on_event
        self._clock = clock
        self._sent = self._received = self._connections = self._denials = 0
        self._patience, self._patience_at, self._quiet = _BURST, clock.monotonic(), False

    @property
    def usage(self) -> Usage:
        return Usage(
            bytes_sent=self._sent,
            bytes_received=self._received,
            connections=self._connections,
            denials=self._denials,
        )

    def now(self) -> float:
        return self._clock.monotonic()

    # Deciding

    def ask(self, host: Host, port: int) -> Decision:
        """Decide; where that fails the answer is no."""
        if self.failed is not None:
            return _BROKEN
        try:
            return self.decide(host.name, port)
        except Exception:  # noqa: BLE001 - whatever is wrong with a rule, it allows nothing
            return refusal("error", "the rules could not be asked")

    def judge(self, kind: str, host: Host, port: int) -> Decision:
        """Decide about a connection or request; raises Barred."""
        decision = self.ask(host, port)
        if not decision.allowed:
            raise Barred(kind, decision)
        return decision

    def judge_name(self, host: Host, ports: Iterable[int]) -> Decision:
        """Allow a name that may be reached at one of the ports; else the first denial."""
        denial: Decision | None = None
        for port in ports:
            decision = self.ask(host, port)
            if decision.allowed:
                return decision
            denial = denial or decision
        return denial or refusal("ports", "no port is open")

    async def dial(self, host: Host, port: int, decision: Decision) -> tuple[socket.socket, Ip]:
        """Connect to where an allowed host is; raises Barred."""
        async with self._resolving:
            addresses = await find_addresses(host, decision, self._resolve)
        try:
            return await dial(addresses, port)
        except OSError as error:
            raise failure("connect", f"{host}:{port} does not answer: {error}") from None

    def still_allows(self, host: Host, port: int, address: Ip | None) -> Decision | None:
        """Tell the decision that now denies a connection, None when it may go on."""
        decision = self.ask(host, port)
        if not decision.allowed:
            return decision
        if address is not None and not may_dial(address, host=host, decision=decision):
            return refusal("private_address", f"{host} lies in a private network")
        return None

    # Counting: what is counted here is what is about to be sent

    def count_connection(self) -> None:
        self._connections += 1

    def count_sent(self, count: int) -> None:
        if self._sent + count > self.caps.bytes_out:
            raise Barred("cap", refusal("bytes_out", f"more than {self.caps.bytes_out} bytes sent in all"))
        self._sent += count

    def count_received(self, count: int) -> None:
        if self._received + count > self.caps.bytes_in:
            raise Barred("cap", refusal("bytes_in", f"more than {self.caps.bytes_in} bytes received in all"))
        self._received += count

    # Telling

    def tell(self, event: Event) -> None:
        """Tell an event; a receiver that raises is no receiver, and without one nothing is allowed any more."""
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 - kept, and raised by close
            if self.failed is None:
                self.failed = error
                self.alarm()

    def deny(self, kind: str, host: str, port: int, decision: Decision, *, sent: int = 0, received: int = 0) -> None:
        """Count a denial or failure and tell it, unless so many were told lately that nobody would read it."""
        self._denials += not decision.allowed
        now = self.now()
        self._patience = min(_BURST, self._patience + (now - self._patience_at) * _PER_SECOND)
        self._patience_at = now
        if self._patience < 1:
            if not self._quiet:
                self._quiet = True
                self.tell(
                    Event(kind="quiet", host=host, port=port, allowed=False, rule="quiet", reason="too many denials")
                )
            return
        self._patience -= 1
        self._quiet = False
        self.tell(
            Event(
                kind=kind,
                host=host,
                port=port,
                allowed=decision.allowed,
                rule=decision.rule,
                reason=decision.reason,
                remedy=decision.remedy,
                bytes_sent=sent,
                bytes_received=received,
            )
        )
