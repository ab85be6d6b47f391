"""Settings of the link from servers to workers of other machines."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, IPvAnyNetwork, model_validator

from tenantry.foundation.limit_settings import Frozen
from tenantry.kit.hosts import NoHostError, parse_host
from tenantry.kit.public_addresses import Ip

_LISTEN: Final = re.compile(r"(?P<host>[0-9.]+|\[[0-9a-f:.]+\]):(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?")
_MOST_PORT: Final = 65535
_FILES: Final = ("ca_file", "certificate_file", "key_file")
_NEAR: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128")
)


def parse_listen(text: str) -> tuple[Ip, range]:
    """Read `address:port` or `address:first-last`; raises ValueError with the rule."""
    found = _LISTEN.fullmatch(text)
    address = _address(found["host"]) if found else None
    if found is None or address is None:
        raise ValueError("must be address:port or address:first-last, as 10.0.0.5:7443; an IPv6 address in brackets")
    first, last = int(found["first"]), int(found["last"] or found["first"])
    if last > _MOST_PORT or first > last or (first == 0 and last != 0):
        raise ValueError("ports are 1 to 65535, the lower one first, as 10.0.0.5:7443-7450; 0 alone takes a free one")
    return address, range(first, last + 1)


def _address(text: str) -> Ip | None:
    try:
        return parse_host(text).address
    except NoHostError:
        return None


def _listen(text: str | None) -> str | None:
    if text is not None:
        parse_listen(text)
    return text


def _host(text: str | None) -> str | None:
    try:
        return None if text is None else str(parse_host(text))
    except NoHostError as error:
        raise ValueError(f"a name or an address without a port, as worker-7.example.com: {text!r} {error}") from None


def _role(text: str) -> str:
    try:
        host = parse_host(text)
    except NoHostError as error:
        raise ValueError(f"a DNS name as certificates bear it, server.tenantry: {text!r} {error}") from None
    if host.address is not None:
        raise ValueError(f"a DNS name as certificates bear it, server.tenantry: {text!r} is an address")
    return host.name


class WorkerLinkSettings(Frozen):
    """How servers speak with sandboxes of workers on other machines: TCP under mutual TLS 1.3, never without.

    With none of it a worker listens on a Unix socket, for servers of its own machine and user.
    """

    ca_file: Path | None = None
    """PEM file with the root that all servers and workers have their certificates from; no other counts."""
    certificate_file: Path | None = None
    """PEM file with the certificate of this process, and what leads up to the root; read again when changed."""
    key_file: Path | None = None
    """PEM file with the key of that certificate, without a password."""
    listen: Annotated[str | None, AfterValidator(_listen)] = None
    """Of a worker: `10.0.0.5:7443`, or `10.0.0.5:7443-7450` for the first free port; none: it keeps its Unix socket."""
    advertise: Annotated[str | None, AfterValidator(_host)] = None
    """Name or address by which servers reach that port; none: the address it listens on."""
    networks: tuple[IPvAnyNetwork, ...] = ()
    """Where a server connects to workers, `["203.0.113.0/28"]`, and nowhere else; empty: private networks, loopback."""
    server_name: Annotated[str, AfterValidator(_role)] = "server.tenantry"
    """DNS name in a certificate that makes its holder a server, whom workers let in."""
    worker_name: Annotated[str, AfterValidator(_role)] = "worker.tenantry"
    """DNS name in a certificate that makes its holder a worker, to whom servers speak."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        missing = [name for name in _FILES if getattr(self, name) is None]
        if missing and self.model_fields_set - {name for name in _FILES if name in missing}:
            told = " and ".join((", ".join(_FILES[:2]), _FILES[2]))
            raise ValueError(f"{told} go together: set {' and '.join(missing)} too, or nothing of worker_link")
        if self.server_name == self.worker_name:
            raise ValueError("server_name and worker_name must differ: a worker's certificate would open other workers")
        if self.listen is None:
            if self.advertise is not None:
                raise ValueError("advertise needs listen: what does not listen cannot be reached")
            return self
        host = self.advertise or str(parse_listen(self.listen)[0])
        address = _address(host)
        if address is not None and address.is_unspecified:
            raise ValueError("advertise must name where servers reach this worker, as listen does not")
        if address is not None and not self.allows(address):
            raise ValueError(f"networks: no server with these settings would connect to {address}: add its network")
        return self

    @property
    def configured(self) -> bool:
        return self.ca_file is not None

    def allows(self, address: Ip) -> bool:
        """Say whether a server may connect there."""
        networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = self.networks or _NEAR
        return any(address in network for network in networks)
