"""Names a sandbox asks for: an address of 127.1/16 for each that is allowed, no for the rest, and nobody is asked."""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from tenantry.engines.egress.dns import AAAA, HTTPS, SVCB, TYPE_NAMES, A, Code, NoQueryError, Query, parse_query
from tenantry.engines.egress.gate import Gate
from tenantry.engines.egress.types import Decision, Event, refusal, shown
from tenantry.kit.hosts import Host, NoHostError, parse_host

_FIRST: Final = int(ipaddress.IPv4Address("127.1.0.1"))
_MOST_NAMES: Final = (1 << 16) - 2
_MOST_DENIED: Final = 4096
_MINUTE_SECONDS: Final = 60.0
_SAME_SECONDS: Final = 1.0


class Names:
    def __init__(self, gate: Gate, *, ports: Sequence[int]) -> None:
        self._gate = gate
        self._ports = ports
        self._addresses: dict[str, str] = {}
        self._hosts: dict[str, Host] = {}
        self._denied: OrderedDict[str, float] = OrderedDict()
        self._learned: deque[float] = deque()

    def host_of(self, address: str) -> Host | None:
        """Tell which name was given this address."""
        return self._hosts.get(address)

    def answer(self, packet: bytes) -> bytes:
        """Answer one message; empty when it deserves none."""
        try:
            query = parse_query(packet)
        except NoQueryError as error:
            self._gate.deny("dns", "?", 0, refusal("dns_query", f"no query one answers: {error}"))
            return error.reply
        try:
            host = parse_host(query.name)
        except NoHostError as error:
            return self._refuse(query, shown(query.name), refusal("host", f"{shown(query.name)!r} {error}"))
        return self._answer(query, host)

    def _answer(self, query: Query, host: Host) -> bytes:
        known = host.name in self._addresses or host.name in self._denied
        if not known and not self._may_learn():
            reason = f"more than {self._gate.caps.new_names_per_minute} new names in a minute"
            self._gate.deny("cap", host.name, 0, refusal("new_names_per_minute", reason))
            return query.answer(Code.REFUSED)
        decision = self._gate.judge_name(host, self._ports)
        if host.address is not None:
            decision = refusal("host", "an address is no name")
        if not decision.allowed:
            return self._refuse(query, host.name, decision)
        if query.kind not in {A, AAAA, HTTPS, SVCB}:
            kind = TYPE_NAMES.get(query.kind, query.kind)
            return self._refuse(query, host.name, refusal("dns_type", f"records of type {kind} are not told"))
        return query.answer(Code.OK, self._address(host, decision) if query.kind == A else None)

    def _refuse(self, query: Query, name: str, decision: Decision) -> bytes:
        """Deny a name; one asked for by several queries at once, as programs do, is told once."""
        now = self._gate.now()
        if now - self._denied.get(name, -_SAME_SECONDS) >= _SAME_SECONDS:
            self._gate.deny("dns", name, 0, decision)
            self._denied[name] = now
            self._denied.move_to_end(name)
            if len(self._denied) > _MOST_DENIED:
                self._denied.popitem(last=False)
        return query.answer(Code.NO_SUCH_NAME)

    def _address(self, host: Host, decision: Decision) -> str:
        address = self._addresses.get(host.name)
        if address is None:
            address = str(ipaddress.IPv4Address(_FIRST + len(self._addresses)))
            self._addresses[host.name] = address
            self._hosts[address] = host
            self._gate.tell(
                Event(kind="dns", host=host.name, port=0, allowed=True, rule=decision.rule, reason=decision.reason)
            )
        return address

    def _may_learn(self) -> bool:
        now = self._gate.now()
        while self._learned and now - self._learned[0] >= _MINUTE_SECONDS:
            self._learned.popleft()
        if len(self._learned) >= self._gate.caps.new_names_per_minute or len(self._addresses) >= _MOST_NAMES:
            return False
        self._learned.append(now)
        return True
