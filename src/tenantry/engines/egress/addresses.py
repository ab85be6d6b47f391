"""From a name that was allowed to a connection: resolved once, looked at, and dialled by the address looked at."""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from tenantry.engines.egress.types import Barred, Decision, Resolve, failure, refusal
from tenantry.kit.hosts import Host
from tenantry.kit.public_addresses import Ip, is_public

#: Where clouds tell a machine its credentials, and may lie among addresses of other kinds.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_SHARED: Final = ipaddress.IPv4Network("100.64.0.0/10")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_DIAL_SECONDS: Final = 10.0
_RESOLVE_SECONDS: Final = 15.0
_MOST_ADDRESSES: Final = 8
_RESOLVERS: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="egress-resolve")


async def system_resolve(name: str) -> list[str]:
    """Ask the host's own resolver, in threads of its own: a name that takes long takes none of the supervisor's."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_RESOLVERS, partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM))
    return [str(entry[4][0]) for entry in found]


async def find_addresses(host: Host, decision: Decision, resolve: Resolve) -> list[Ip]:
    """Look for where `host` may be connected to; resolves once. Raises Barred when it leads nowhere one may go."""
    if host.address is not None:
        found: Sequence[str] = [str(host.address)]
    else:
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await resolve(host.name)
        except (OSError, TimeoutError, UnicodeError):
            raise failure("resolve", f"{host} has no address here") from None
    read = list(dict.fromkeys(_read(text) for text in found))
    good = [address for address in read if address is not None and may_dial(address, host=host, decision=decision)]
    if not good:
        reason = f"{host} leads to no public address"
        remedy = "Whoever runs this machine lists the private networks that may be reached."
        raise Barred("", refusal("private_address", reason, remedy))
    return good[:_MOST_ADDRESSES]


def may_dial(address: Ip, *, host: Host, decision: Decision) -> bool:
    """Say whether a connection may go there; in a private network only where the decision lists that.

    Metadata services, link-local and reserved addresses must be asked for by themselves besides. An IPv4 address
    written as IPv6 is judged as what it is.
    """
    listed = any(address.version == network.version and address in network for network in decision.private)
    named = listed and host.address == address
    if address in _METADATA:
        return named
    if is_public(address):
        return True
    inner = _wrapped(address)
    if inner is not None:
        return inner not in _METADATA and bool(decision.private) and may_dial(inner, host=host, decision=decision)
    if not listed or address.is_multicast or address.is_unspecified:
        return False
    if address.is_link_local or (address.is_reserved and not address.is_loopback):
        return named
    return address.is_loopback or address.is_private or address in _SHARED


def _wrapped(address: Ip) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped


def _read(text: str) -> Ip | None:
    with suppress(ValueError):
        address = ipaddress.ip_address(text)
        if not isinstance(address, ipaddress.IPv6Address) or address.scope_id is None:
            return address
    return None


async def dial(addresses: Sequence[Ip], port: int) -> tuple[socket.socket, Ip]:
    """Connect to the first that answers, and say which it was; raises OSError of the last that did not."""
    failure: OSError = OSError(errno.EHOSTUNREACH, "no address")
    for address in addresses:
        family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(_DIAL_SECONDS):
                await asyncio.get_running_loop().sock_connect(made, (str(address), port))
        except OSError as error:  # TimeoutError is one
            made.close()
            failure = error
        except BaseException:
            made.close()
            raise
        else:
            return made, address
    raise failure
