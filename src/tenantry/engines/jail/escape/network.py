"""The network namespace holds `lo` and nothing that listens: no spelling of an address leads out of it."""

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from tenantry.engines.jail.escape.cases import PLAN, Attempt, Case, Verdict, equal, opening, outcome, read, refused

_PORTS: Final = (22, 53, 80, 443, 2375, 3128, 5432, 6379)
_ADDRESSES: Final = {
    "loopback": "127.0.0.1", "short_loopback": "127.1", "hexadecimal": "0x7f000001", "decimal": "2130706433",
    "octal": "0177.0.0.1", "unspecified": "0.0.0.0", "loopback_6": "::1", "unspecified_6": "::",
    "mapped": "::ffff:127.0.0.1", "metadata": "169.254.169.254", "metadata_6": "fd00:ec2::254",
    "metadata_alibaba": "100.100.100.200", "private_10": "10.0.0.1", "bridge": "172.17.0.1",
    "private_192": "192.168.0.1", "carrier": "100.64.0.1", "public": "1.1.1.1",
    "public_6": "2606:4700:4700::1111", "multicast": "224.0.0.1", "broadcast": "255.255.255.255",
    "link_local_6": "fe80::1",
}  # fmt: skip
_NAMES: Final = ("example.com", "metadata.google.internal", "host.docker.internal", "kubernetes.default.svc")


def _unreachable(address: str) -> Attempt:
    def attempt() -> Verdict:
        reached = [port for port in (PLAN["port"], *_PORTS) if not outcome(_connecting(address, port))]
        return not reached, " ".join(map(str, reached))

    return attempt


def _connecting(address: str, port: int) -> Callable[[], None]:
    def connect() -> None:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as link:
            link.settimeout(0.2)
            link.connect((address, port))

    return connect


def _sending(address: str, port: int) -> Callable[[], None]:
    def send() -> None:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.sendto(b"x", (address, port))

    return send


def _local(address: str | Callable[[], str]) -> Callable[[], None]:
    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(address if isinstance(address, str) else address())

    return connect


def _nobody_listens() -> Verdict:
    """0A is the state of a listener in /proc/net/tcp."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in read(f"/proc/net/{name}").splitlines()[1:]]
    listening = [fields[1] for fields in lines if fields[3] == "0A"]
    return not listening, " ".join(listening)


CASES: Final = (
    Case("network", "only_loopback", "no interface but lo", equal(
        lambda: [name for _, name in socket.if_nameindex()], ["lo"])),
    Case("network", "no_route", "none", equal(lambda: read("/proc/net/route").splitlines()[1:], [])),
    Case("network", "no_neighbours", "none", equal(lambda: read("/proc/net/arp").splitlines()[1:], [])),
    Case("network", "nobody_listens", "no listener in its namespace", _nobody_listens),
    *(Case("network", f"connect_{name}", "refused", _unreachable(address)) for name, address in _ADDRESSES.items()),
    *(Case("network", f"datagram_{name}", "refused", refused(_sending(address, 53)))
      for name, address in _ADDRESSES.items() if name.startswith(("metadata", "private_10", "public"))),
    *(Case("network", f"resolve_{name}", "refused", refused(partial(socket.getaddrinfo, name, 443)))
      for name in _NAMES),
    Case("network", "abstract_socket_of_the_host", "refused", refused(_local(lambda: "\0" + PLAN["socket"]))),
    *(Case("network", f"socket_{path}", "refused", refused(_local(path))) for path in (
        "/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket", "/run/systemd/private")),
    Case("network", "tunnel", "refused", refused(opening("/dev/net/tun", os.O_RDWR))),
)  # fmt: skip
