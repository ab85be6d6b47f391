"""What a proxy in front says of the client: believed from `server.trusted_proxies`, from nobody else."""

import base64
import binascii
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.requests import Request

from tenantry.foundation.errors import Invalid

_BYTES: Final = re.compile(r":([A-Za-z0-9+/]+={0,2}):")

Networks = tuple[IPv4Network | IPv6Network, ...]


def is_trusted(host: str | None, proxies: Networks) -> bool:
    """Say whether a proxy of ours has this address."""
    if host is None or not proxies:
        return False
    try:
        address = _plain(host)
    except ValueError:
        return False
    return any(address in network for network in proxies)


def client_address(request: Request, proxies: Networks) -> str | None:
    """Tell the client's address: the connection's, or behind proxies of ours the last one that is none of them.

    What stands further left in `X-Forwarded-For` the client itself may have written. Raises Invalid
    `forwarded_unreadable` when a proxy of ours has written what is no address.
    """
    host = request.client.host if request.client else None
    if not is_trusted(host, proxies):
        return host
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    for hop in reversed(hops):
        try:
            host = str(_plain(hop))
        except ValueError:
            raise Invalid("forwarded_unreadable", "X-Forwarded-For: holds what is no address", layer="guard") from None
        if not is_trusted(host, proxies):
            break
    return host


def scheme_of(request: Request, proxies: Networks) -> str:
    """Tell by which scheme the client came: the connection's, or what a proxy of ours says."""
    told = request.headers.getlist("x-forwarded-proto")
    if told and is_trusted(request.client.host if request.client else None, proxies):
        if told in (["https"], ["http"]):
            return told[0]
        raise Invalid("forwarded_unreadable", "X-Forwarded-Proto: is neither http nor https", layer="guard")
    return str(request.scope["scheme"])


def forwarded_certificate(request: Request, proxies: Networks) -> bytes | None:
    """Tell the certificate (DER) that a proxy of ours has verified, by `Client-Cert` (RFC 9440).

    Raises Invalid `client_cert_untrusted` when anybody else sends the header, `header_ambiguous` when it is none.
    """
    values = request.headers.getlist("client-cert")
    if not values:
        return None
    if not is_trusted(request.client.host if request.client else None, proxies):
        raise Invalid(
            "client_cert_untrusted",
            "Client-Cert: only a proxy in server.trusted_proxies says who its client is",
            layer="guard",
        )
    text = _BYTES.fullmatch(values[0]) if len(values) == 1 else None
    try:
        if text is not None:
            return base64.b64decode(text[1], validate=True)
    except binascii.Error:
        pass
    raise Invalid("header_ambiguous", "Client-Cert: must stand once, as one byte sequence", layer="guard")


def _plain(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
