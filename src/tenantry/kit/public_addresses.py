"""Which network addresses are the public internet's, whatever way they are written into one another."""

import ipaddress
from typing import Final

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Inside of it, what carries an IPv4 address or reaches nobody: Teredo, ORCHID and other protocols, documentation, 6to4.
_NOT_UNICAST: Final = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# Protocols' own addresses, dummies and anycasts of translators among them (RFC 6890), and relays of 6to4.
_NOT_HOSTS: Final = tuple(ipaddress.IPv4Network(network) for network in ("192.0.0.0/24", "192.88.99.0/24"))
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Ip) -> bool:
    """Say whether an address is one of the public internet: the rest is private, local, reserved, or only a wrapping.

    By the registries of IANA for special-purpose addresses; of IPv6 nothing but global unicast passes, so addresses
    that hold an IPv4 one (mapped, NAT64, 6to4, Teredo) are none, whatever they hold.
    """
    if isinstance(address, ipaddress.IPv4Address):
        reserved = address.is_multicast or any(address in network for network in _NOT_HOSTS)
        return address.is_global and not reserved
    if address.scope_id is not None or address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in _NOT_UNICAST)


def may_reach(address: Ip, *, allow_private: bool) -> bool:
    """Say whether a call may go there: to the public internet, or where that is allowed to this machine's networks.

    An IPv4 address written as IPv6 (mapped, or by a translator, RFC 6052) is judged as what it is.
    """
    inner = _translated(address)
    if inner is not None:
        return may_reach(inner, allow_private=allow_private)
    if is_public(address):
        return True
    if not allow_private or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return address.is_loopback or (address.is_private and not address.is_reserved)


def _translated(address: Ip) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped
