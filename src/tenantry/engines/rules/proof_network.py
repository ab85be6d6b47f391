"""Tables of connections as terms of z3: a port, and a name or an address, for each phase."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final

from tenantry.engines.rules.hosts import SPECIAL, Host
from tenantry.engines.rules.network import MAX_PORT, NetworkRule, NetworkTable
from tenantry.engines.rules.types import Connection, Effect, Phase
from tenantry.kit.public_addresses import Ip, is_public

Question = tuple[list[Any], Callable[[Any], Connection]]

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
    asked: set[tuple[tuple[object, ...], ...]] = set()
    for phase in Phase:
        before, after = _bare(old.phases[phase]), _bare(new.phases[phase])
        if before == after or (before, after) in asked:
            continue
        asked.add((before, after))
        port = z3.Int("port")
        for subject in (_Name(z3), _Address(z3, 4), _Address(z3, 6)):
            question = [port >= 1, port <= MAX_PORT, *subject.valid()]
            question += [_accepted(z3, subject, new.phases[phase], port)]
            question += [z3.Not(_accepted(z3, subject, old.phases[phase], port))]
            yield question, _reader(phase, subject, port)


def _reader(phase: Phase, subject: "_Name | _Address", port: Any) -> Callable[[Any], Connection]:
    def read(model: Any) -> Connection:
        return Connection(phase, subject.read(model), model.eval(port, model_completion=True).as_long())

    return read


def _bare(rules: Sequence[NetworkRule]) -> tuple[object, ...]:
    """Give rules without their names."""
    return tuple((rule.effect, rule.host, rule.internet, rule.ports) for rule in rules)


def _accepted(z3: ModuleType, subject: "_Name | _Address", rules: Sequence[NetworkRule], port: Any) -> Any:
    """Fold the rules from the last to the first: the first that matches decides."""
    accepted: Any = z3.BoolVal(False)
    for rule in reversed(rules):
        ports = z3.BoolVal(True) if rule.ports is None else z3.Or(*(port == one for one in sorted(rule.ports)))
        accepted = z3.If(z3.And(ports, subject.matches(rule)), z3.BoolVal(rule.effect is Effect.ALLOW), accepted)
    return accepted


class _Name:
    """Hosts that are names."""

    def __init__(self, z3: ModuleType) -> None:
        self.z3 = z3
        self.host = z3.String("host")
        self._some = z3.Plus(z3.AllChar(z3.ReSort(z3.StringSort())))

    def valid(self) -> list[Any]:
        """Names as `parse_host` leaves them; of their lengths and of IDNA nothing is said."""
        z3 = self.z3
        digits = z3.Range("0", "9")
        edge = z3.Union(z3.Range("a", "z"), digits, z3.Re("_"))
        label = z3.Concat(edge, z3.Option(z3.Concat(z3.Star(z3.Union(edge, z3.Re("-"))), edge)))
        number = z3.Union(z3.Plus(digits), z3.Concat(z3.Re("0x"), z3.Star(z3.Union(digits, z3.Range("a", "f")))))
        names = z3.Concat(z3.Star(z3.Concat(label, z3.Re("."))), z3.Diff(label, number))
        return [z3.InRe(self.host, names)]

    def matches(self, rule: NetworkRule) -> Any:
        z3 = self.z3
        if rule.internet:
            special = z3.Union(*(z3.Re(name) for name in SPECIAL))
            dotted = z3.Concat(self._some, z3.Re("."), self._some)
            none = z3.Union(special, z3.Concat(self._some, z3.Re("."), special))
            return z3.InRe(self.host, z3.Diff(dotted, none))
        if rule.host is None:
            return z3.BoolVal(True)
        if not isinstance(rule.host, Host) or rule.host.address is not None:
            return z3.BoolVal(False)
        name = z3.Re(rule.host.name)
        return z3.InRe(self.host, z3.Concat(self._some, z3.Re("."), name) if rule.host.wildcard else name)

    def read(self, model: Any) -> str:
        return str(model.eval(self.host, model_completion=True).as_string())


class _Address:
    """Hosts that are addresses of one version."""

    def __init__(self, z3: ModuleType, version: int) -> None:
        self.z3 = z3
        self.version = version
        self.host = z3.BitVec(f"address{version}", 32 if version == 4 else 128)  # noqa: PLR2004 - IPv4 and IPv6

    def valid(self) -> list[Any]:
        unread = [] if self.version == 4 else [ipaddress.IPv6Network(one) for one in _UNREAD]  # noqa: PLR2004 - IPv4
        return [
            self.z3.Or(self.z3.Not(self._within(int(one[0]), int(one[-1]))), self.z3.ULE(self.host, 1))
            for one in unread
        ]

    def matches(self, rule: NetworkRule) -> Any:
        z3 = self.z3
        if rule.internet:
            return z3.Or(*(self._within(first, last) for first, last in public_ranges(self.version)))
        match rule.host:
            case None:
                return z3.BoolVal(True)
            case Host(address=address):
                same = address is not None and address.version == self.version
                return self.host == int(address) if same and address is not None else z3.BoolVal(False)
            case network:
                same = network.version == self.version
                return self._within(int(network[0]), int(network[-1])) if same else z3.BoolVal(False)

    def read(self, model: Any) -> str:
        return str(_address(self.version, model.eval(self.host, model_completion=True).as_long()))

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
