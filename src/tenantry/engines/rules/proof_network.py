"""Tables of connections as questions to z3: a name or an address, for each phase and each port that matters."""

import ipaddress
import itertools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final

from tenantry.engines.rules.network import MAX_PORT, IpNetwork, NetworkRule, NetworkTable
from tenantry.engines.rules.types import Connection, Effect, Phase
from tenantry.kit.hosts import SPECIAL, Host
from tenantry.kit.public_addresses import Ip, is_public

Question = tuple[list[Any], Callable[[Any], Connection]]
Reach = frozenset[Host | IpNetwork | str | None]

# Where public addresses begin or end; between two neighbours all are alike.
_BORDERS: Final = {
    4: (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/31", "192.0.2.0/24", "192.31.196.0/24",
        "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    ),
    6: ("2000::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
}  # fmt: skip
# What no text is read as: IPv4 in another form.
_UNREAD: Final = ("::/96", "::ffff:0:0/96", "64:ff9b::/96")


def connection_questions(z3: ModuleType, old: NetworkTable, new: NetworkTable) -> Iterator[Question]:
    """Give the questions that have no model exactly when `new` allows nothing that `old` denies."""
    asked: set[tuple[Reach, Reach]] = set()
    subjects = (_Name(z3), _Address(z3, 4), _Address(z3, 6))
    for phase in Phase:
        before, after = old.phases[phase], new.phases[phase]
        for port in _ports(before, after):
            reach = (_reach(before, port), _reach(after, port))
            if not reach[1] or reach[1] <= reach[0] or reach in asked:
                continue
            asked.add(reach)
            for subject in subjects:
                yield [*subject.valid(), *subject.beyond(*reach)], _reader(phase, subject, port)


def _ports(*rules: Sequence[NetworkRule]) -> list[int]:
    """Give every port that rules name, and one that they do not: all others are judged as that one."""
    named = {port for rule in itertools.chain(*rules) for port in rule.ports or ()}
    return [*sorted(named), *itertools.islice((port for port in range(1, MAX_PORT + 1) if port not in named), 1)]


def _reach(rules: Sequence[NetworkRule], port: int) -> Reach:
    """Give the hosts that may be reached at a port; "internet" for any public one."""
    at_port = [rule for rule in rules if rule.ports is None or port in rule.ports]
    if any(rule.effect is Effect.DENY for rule in at_port):
        return frozenset()
    return frozenset("internet" if rule.internet else rule.host for rule in at_port)


def _reader(phase: Phase, subject: "_Name | _Address", port: int) -> Callable[[Any], Connection]:
    return lambda model: Connection(phase, subject.read(model), port)


class _Name:
    """Hosts that are names: one expression, of what the new rules reach and the old do not."""

    def __init__(self, z3: ModuleType) -> None:
        self.z3 = z3
        self.host = z3.String("host")
        self._some = z3.Plus(z3.AllChar(z3.ReSort(z3.StringSort())))

    def valid(self) -> list[Any]:
        return []

    def beyond(self, old: Reach, new: Reach) -> list[Any]:
        wider, known = (self._union(reach) for reach in (new - old, old))
        beyond = self.z3.Intersect(self._names(), wider)
        return [self.z3.InRe(self.host, self.z3.Diff(beyond, known))]

    def read(self, model: Any) -> str:
        return str(model.eval(self.host, model_completion=True).as_string())

    def _names(self) -> Any:
        """Names as `parse_host` leaves them; of their lengths and of IDNA nothing is said."""
        z3 = self.z3
        digits = z3.Range("0", "9")
        edge = z3.Union(z3.Range("a", "z"), digits, z3.Re("_"))
        label = z3.Concat(edge, z3.Option(z3.Concat(z3.Star(z3.Union(edge, z3.Re("-"))), edge)))
        number = z3.Union(z3.Plus(digits), z3.Concat(z3.Re("0x"), z3.Star(z3.Union(digits, z3.Range("a", "f")))))
        return z3.Concat(z3.Star(z3.Concat(label, z3.Re("."))), z3.Diff(label, number))

    def _union(self, reach: Reach) -> Any:
        z3 = self.z3
        parts = [z3.Re(""), z3.Re("")]  # no name, so that there are two at least
        for host in sorted(reach, key=str):
            if isinstance(host, Host) and host.address is None:
                name = z3.Re(host.name)
                parts.append(z3.Concat(self._some, z3.Re("."), name) if host.wildcard else name)
            elif host == "internet":
                special = z3.Union(*(z3.Re(name) for name in SPECIAL))
                none = z3.Union(special, z3.Concat(self._some, z3.Re("."), special))
                parts.append(z3.Diff(z3.Concat(self._some, z3.Re("."), self._some), none))
        return z3.Union(*parts)


class _Address:
    """Hosts that are addresses of one version."""

    def __init__(self, z3: ModuleType, version: int) -> None:
        self.z3 = z3
        self.version = version
        self.host = z3.BitVec(f"address{version}", 32 if version == 4 else 128)  # noqa: PLR2004 - IPv4 and IPv6

    def valid(self) -> list[Any]:
        z3 = self.z3
        unread = [] if self.version == 4 else [ipaddress.IPv6Network(one) for one in _UNREAD]  # noqa: PLR2004 - IPv4
        return [z3.Or(z3.Not(self._within(int(one[0]), int(one[-1]))), z3.ULE(self.host, 1)) for one in unread]

    def beyond(self, old: Reach, new: Reach) -> list[Any]:
        return [self._reached(new), self.z3.Not(self._reached(old))]

    def read(self, model: Any) -> str:
        return str(_address(self.version, model.eval(self.host, model_completion=True).as_long()))

    def _reached(self, reach: Reach) -> Any:
        ranges: list[tuple[int, int]] = []
        for host in sorted(reach, key=str):
            match host:
                case Host(address=address) if address is not None and address.version == self.version:
                    ranges.append((int(address), int(address)))
                case ipaddress.IPv4Network() | ipaddress.IPv6Network() if host.version == self.version:
                    ranges.append((int(host[0]), int(host[-1])))
                case "internet":
                    ranges += public_ranges(self.version)
        return self.z3.Or(*(self._within(first, last) for first, last in ranges))

    def _within(self, first: int, last: int) -> Any:
        return self.z3.And(self.z3.UGE(self.host, first), self.z3.ULE(self.host, last))


def public_ranges(version: int) -> list[tuple[int, int]]:
    """Give the first and last of each range of public addresses, by `is_public` itself."""
    end = 1 << (32 if version == 4 else 128)  # noqa: PLR2004 - IPv4 and IPv6
    networks = [ipaddress.ip_network(text) for text in _BORDERS[version]]
    starts = sorted({0} | {int(one[0]) for one in networks} | {int(one[-1]) + 1 for one in networks} - {end})
    ranges = zip(starts, [*starts[1:], end], strict=True)
    return [(first, after - 1) for first, after in ranges if is_public(_address(version, first))]


def _address(version: int, number: int) -> Ip:
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)  # noqa: PLR2004 - IPv4
