"""What may be connected to: a plain table of rules for each phase, read from top to bottom; the last word is no."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantry.engines.rules.members import Members, Path, spelled
from tenantry.engines.rules.types import EMPTY, Effect, Finding, JobFacts, Phase, Verdict, deny
from tenantry.kit.hosts import Host, NoHostError, parse_host, parse_network

DEFAULT_PORTS: Final = (80, 443)
MAX_PORT: Final = 65535
_MEMBERS: Final = ("allow_internet", "allowed_hosts", "allowed_ports", "blocked_ports")

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """Applies where both match. `host` None is any; `internet` any public one. `ports` None is any."""

    name: str
    effect: Effect
    host: Host | IpNetwork | None = None
    internet: bool = False
    ports: frozenset[int] | None = None

    def matches(self, host: Host, port: int) -> bool:
        if self.ports is not None and port not in self.ports:
            return False
        if self.internet:
            return host.public
        match self.host:
            case None:
                return True
            case Host(name=name, wildcard=True):
                return self.host == host or (host.address is None and host.name.endswith(f".{name}"))
            case Host():
                return self.host == host
            case network:
                return host.address is not None and host.address in network


@dataclass(frozen=True, slots=True)
class NetworkTable:
    """The first rule that matches decides; where none does, the connection is denied."""

    phases: Mapping[Phase, tuple[NetworkRule, ...]]

    @property
    def is_empty(self) -> bool:
        """Tell whether no connection is allowed at all, in any phase."""
        return all(rule.effect is Effect.DENY for rules in self.phases.values() for rule in rules)

    def decide(self, phase: Phase, host: str, port: int) -> Verdict:
        """Judge one connection; `*.name` asks for all below a name."""
        try:
            asked = parse_host(host, wildcard=True)
        except NoHostError as error:
            return deny("host", f"{host[:100]!r} {error}.", "Name the host, or write its address in the usual way.")
        if isinstance(port, bool) or not 1 <= port <= MAX_PORT:
            return deny("port", f"{port} is no port.", f"Use a port from 1 to {MAX_PORT}.")
        for rule in self.phases[phase]:
            if rule.matches(asked, port):
                if rule.effect is Effect.ALLOW:
                    return Verdict((Finding(rule.name, Effect.ALLOW, f"{asked}:{port} is allowed."),))
                return deny(rule.name, f"Port {port} is blocked.", "Use another port.")
        return self._refuse(phase, asked, port)

    def check_job(self, facts: JobFacts) -> Verdict:
        """Judge all that a job asks to reach; what it does not ask for is not judged here."""
        verdicts = (self.decide(asked.phase, asked.host, asked.port) for asked in facts.network)
        findings = tuple(finding for verdict in verdicts for finding in verdict.findings)
        return Verdict(findings) if findings else EMPTY

    def _refuse(self, phase: Phase, asked: Host, port: int) -> Verdict:
        allowing = [rule for rule in self.phases[phase] if rule.effect is Effect.ALLOW]
        ports = {other for rule in allowing for other in rule.ports or () if rule.matches(asked, other)}
        if ports:
            listed = ", ".join(map(str, sorted(ports)))
            return deny("allowed_ports", f"Port {port} of {asked} is not allowed.", f"Use one of {listed}.")
        remedy = "Use a host that `allowed_hosts` has, or have it added."
        return deny("allowed_hosts", f"{asked} is not on the list of allowed hosts.", remedy)


def compile_network(members: Members, value: Mapping[str, Any]) -> NetworkTable | None:
    """Compile a document, or note its faults and give None."""
    members.mapping((), value, ("applies_to", *_MEMBERS, "phases"))
    phases: dict[Phase, tuple[NetworkRule, ...]] = dict.fromkeys(Phase, _rules(members, (), value, {}))
    given = value.get("phases", {})
    if "phases" in value:
        given = members.mapping(("phases",), given, tuple(Phase))
    for phase in Phase:
        if phase in given:
            at: Path = ("phases", str(phase))
            phases[phase] = _rules(members, at, members.mapping(at, given[phase], _MEMBERS), value)
    return None if members.faults else NetworkTable(phases)


def _rules(members: Members, at: Path, own: Mapping[str, Any], above: Mapping[str, Any]) -> tuple[NetworkRule, ...]:
    """Rules of one phase: what it names replaces what stands above, but blocked ports add up."""

    def place(name: str) -> tuple[Path, Mapping[str, Any]]:
        return (at, own) if name in own or name not in above else ((), above)

    rules = [
        NetworkRule(f"{spelled(path)}: {port}", Effect.DENY, ports=frozenset({port}))
        for where, source in ((at, own), ((), above))
        for path, port in _ports(members, where, source, "blocked_ports")
    ]
    where, source = place("allowed_ports")
    if source.get("allowed_ports") == []:
        members.fault((*where, "allowed_ports"), "allows nothing: leave it out for 80 and 443")
    allowed = _ports(members, where, source, "allowed_ports")
    ports = frozenset(port for _, port in allowed) or frozenset(DEFAULT_PORTS)
    where, source = place("allowed_hosts")
    for path, text in members.texts(where, source, "allowed_hosts"):
        try:
            host = parse_network(text) if "/" in text else parse_host(text, wildcard=True)
        except NoHostError as error:
            members.fault(path, "allows any host: set `allow_internet`" if text == "*" else str(error))
            continue
        if any(rule.host == host for rule in rules):
            members.fault(path, "means the same as one before it")
        rules.append(NetworkRule(f"{spelled(path)}: {text}", Effect.ALLOW, host=host, ports=ports))
    where, source = place("allow_internet")
    if members.flag(where, source, "allow_internet"):
        name = f"{spelled((*where, 'allow_internet'))}: true"
        rules.append(NetworkRule(name, Effect.ALLOW, internet=True, ports=ports))
    return tuple(rules)


def _ports(members: Members, at: Path, within: Mapping[str, Any], name: str) -> list[tuple[Path, int]]:
    below = (*at, name)
    read: list[tuple[Path, int]] = []
    for path, port in members.items(below, within.get(name, [])):
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= MAX_PORT:
            members.fault(path, f"must be a port from 1 to {MAX_PORT}")
        else:
            read.append((path, port))
    return read
