"""Names and addresses of hosts: each in one spelling, and no spelling that others might read as another address."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

import idna

from tenantry.kit.public_addresses import Ip, is_public

MAX_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A last label that readers of addresses take for a number: the whole would be an IPv4 address to some of them.
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Names that are no one's on the internet (RFC 6761, 6762, 8375, 9476, 7686; .internal by ICANN).
SPECIAL: Final = ("localhost", "local", "internal", "home.arpa", "test", "invalid", "onion", "alt", "arpa", "example")


class NoHostError(ValueError):
    """The text names no host; the message says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host in canonical spelling. `wildcard`: all below `name`, not itself. `address` where it is one."""

    name: str
    wildcard: bool = False
    address: Ip | None = None

    def __str__(self) -> str:
        return f"*.{self.name}" if self.wildcard else self.name

    @property
    def public(self) -> bool:
        """Tell whether this may be on the public internet; what a name leads to must still be looked at."""
        if self.address is not None:
            return is_public(self.address)
        return (self.wildcard or "." in self.name) and not any(
            self.name == special or self.name.endswith(f".{special}") for special in SPECIAL
        )


def parse_host(text: str, *, wildcard: bool = False) -> Host:
    """Read a name (IDNA, any case, a final dot) or an address in its usual spelling; `*.name` only with `wildcard`."""
    if not text or len(text) > 4 * MAX_NAME:
        raise NoHostError("is empty" if not text else "is too long")
    if text.startswith("*."):
        below = _name(text[2:])
        if not wildcard:
            raise NoHostError("is a wildcard, no host")
        return Host(below, wildcard=True)
    if ":" in text or text.startswith("["):
        address = _ipv6(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
        return Host(str(address), address=address)
    plain = _ipv4(text)
    return Host(_name(text)) if plain is None else Host(str(plain), address=plain)


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read `address/length`; the bits behind the length must be 0."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        network = None
    if network is None or not text.rpartition("/")[2].isdecimal():
        raise NoHostError("is no network: address/length, with nothing set behind the length")
    _refuse_wrapped(network.network_address)
    return network


def _ipv4(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)  # four decimal numbers without leading zeros, nothing else
    except ValueError:
        return None


def _ipv6(text: str) -> ipaddress.IPv6Address:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise NoHostError("is neither a name nor an address; a port is given apart") from None
    if address.scope_id is not None:
        raise NoHostError("names a zone, which means something on one machine only")
    _refuse_wrapped(address)
    return address


def _refuse_wrapped(address: Ip) -> None:
    """Refuse IPv4 in IPv6: mapped, translated (RFC 6052), or compatible, which `::` and `::1` only look like."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    compatible = int(address) > 1 and int(address) >> 32 == 0
    if compatible or address.ipv4_mapped is not None or address in _TRANSLATED:
        raise NoHostError("is an IPv4 address written as IPv6: write it as what it is")


def _name(text: str) -> str:
    name = text.lower()
    if not name.isascii():
        try:
            name = idna.encode(text, uts46=True, transitional=False).decode().lower()
        except (idna.IDNAError, UnicodeError):
            raise NoHostError("is no name that IDNA allows") from None
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise NoHostError("is no name of a host")
    if _NUMERIC.fullmatch(labels[-1]):
        raise NoHostError("would be read as an address by some: write it as four decimal numbers")
    if any(label.startswith("xn--") for label in labels):
        _require_idna(name)
    return name


def _require_idna(name: str) -> None:
    """Refuse `xn--…` that decodes to nothing, or to what is written another way."""
    try:
        same = idna.encode(idna.decode(name, uts46=True), uts46=True).decode() == name
    except (idna.IDNAError, UnicodeError):
        same = False
    if not same:
        raise NoHostError("is no name that IDNA allows")
