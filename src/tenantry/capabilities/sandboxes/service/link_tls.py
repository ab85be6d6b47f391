"""The link to workers of other machines: TCP under mutual TLS 1.3, never without.

One authority signs for servers and workers, and a DNS name in the certificate says which its holder is: a worker lets
servers in, a server speaks to workers, and neither says or hears a word before the other has proved what it is.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from pathlib import Path
from typing import Final

import structlog

from tenantry.capabilities.sandboxes.service.link_sockets import BACKLOG, BUFFER_BYTES
from tenantry.foundation.errors import Fault, Invalid
from tenantry.foundation.link_settings import WorkerLinkSettings, parse_listen
from tenantry.foundation.tls_contexts import load_certificate, load_roots, tls_unusable
from tenantry.foundation.tls_streams import Streams, shake
from tenantry.kit.hosts import Host, NoHostError, parse_host

SCHEME: Final = "tls:"
SHAKE_SECONDS: Final = 5.0
MOST_SHAKING: Final = 64
"""Handshakes that a worker has under way; one more ends the oldest, and honest ones are over long before."""
_ADDRESS: Final = re.compile(r"tls:(?P<host>[a-z0-9._-]+|\[[0-9a-f:]+\]):(?P<port>[1-9]\d{0,4})")
_MOST_PORT: Final = 65535
_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""A machine that is gone says nothing: after a minute it counts as gone."""

_log = structlog.get_logger(__name__)


class LinkIdentity:
    """What this process proves itself by, and whom it believes. Files that have changed are read again.

    Raises Invalid `tls_unusable` when they cannot be used from the start; later ones that cannot are left alone.
    """

    def __init__(self, settings: WorkerLinkSettings, *, serves: bool) -> None:
        if settings.ca_file is None or settings.certificate_file is None or settings.key_file is None:
            raise Invalid("tls_unusable", "worker_link has no certificate", layer="settings")
        self._ca, self._certificate, self._key = settings.ca_file, settings.certificate_file, settings.key_file
        self._serves = serves
        self._own, self.peer = settings.server_name, settings.worker_name
        if serves:
            self._own, self.peer = self.peer, self._own
        self._read_at = self._stamp()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        stamp = self._stamp()
        if stamp != self._read_at:
            self._read_at = stamp
            try:
                self._context = self._load()
            except Invalid as error:
                _log.error("link.certificate_unusable", detail=error.message)
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self._serves else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        if self._serves:
            context.num_tickets = 0  # what is taken up again would show a certificate that was verified long ago
        named = "worker_link.certificate_file and key_file"
        load_certificate(context, self._certificate, self._key, named=named)
        load_roots(context, self._ca, named="worker_link.ca_file")
        _require_own_name(self._certificate, self._own, setting="worker_name" if self._serves else "server_name")
        return context

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp_of(file) for file in (self._ca, self._certificate, self._key))


def _stamp_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _require_own_name(file: Path, name: str, *, setting: str) -> None:
    """Look whether our own certificate says what we are: the others would only hang up."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        borne = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [each.lower() for each in borne.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        names = []
    except (OSError, ValueError) as error:
        raise tls_unusable("worker_link.certificate_file", file, error) from None
    if name not in names:
        raise Invalid(
            "tls_unusable",
            f"worker_link.certificate_file: {file}: it does not bear the DNS name {name}: issue it with this name, or "
            f"set worker_link.{setting}",
            layer="settings",
        )


class TlsDoor:
    """A port for servers of the installation; handshakes are bounded in time and number."""

    def __init__(self, identity: LinkIdentity, settings: WorkerLinkSettings) -> None:
        """Take settings that say where to listen."""
        self._identity = identity
        self._address, self._ports = parse_listen(settings.listen or "")
        self._host = parse_host(settings.advertise or str(self._address))
        self._port = 0
        self._shaking: dict[int, asyncio.Timeout] = {}
        self._count = 0

    @property
    def address(self) -> str:
        return _written(self._host, self._port)

    async def open(self) -> socket.socket:
        """Listen at the first port that is free; raises Fault `link_port_taken`."""
        why = ""
        for port in self._ports:
            listener = socket.socket(_family(self._address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((str(self._address), port))
                listener.listen(BACKLOG)
            except OSError as error:
                listener.close()
                why = error.strerror or type(error).__name__
                continue
            self._port = listener.getsockname()[1]
            return listener
        raise Fault(
            "link_port_taken",
            f"worker_link.listen: none of its ports can be listened on ({why}): name an address of this machine and "
            "a port for each worker on it, as 10.0.0.5:7443-7450",
            layer="sandboxes",
        )

    async def admit(self, accepted: socket.socket) -> Streams:
        _keep_alive(accepted)
        mine = self._count = self._count + 1
        try:
            async with asyncio.timeout(SHAKE_SECONDS) as bound:
                self._make_room()
                self._shaking[mine] = bound
                return await shake(
                    accepted, self._identity.context(), serves=True, peer=self._identity.peer, buffer=BUFFER_BYTES
                )
        except OSError as error:
            _log.warning("link.refused", why=_told(error))
            raise
        finally:
            self._shaking.pop(mine, None)

    def _make_room(self) -> None:
        while len(self._shaking) >= MOST_SHAKING:
            oldest = self._shaking.pop(next(iter(self._shaking)))
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Nothing is left of it but the listener, which is closed by who opened it."""


class LinkCaller:
    """A server's way to workers of other machines."""

    def __init__(self, identity: LinkIdentity, settings: WorkerLinkSettings) -> None:
        self._identity = identity
        self._settings = settings

    async def connect(self, address: str, *, seconds: float) -> Streams:
        """Connect to a worker; raises OSError, TimeoutError, and PermissionError for what may be none.

        The address stands in a row, which proves nothing: it must lie in the networks of workers, is resolved once, and
        whoever answers there must prove to be a worker before anything is said to it.
        """
        try:
            async with asyncio.timeout(seconds):
                connected = await self._reach(*_read(address))
                try:
                    context, peer = self._identity.context(), self._identity.peer
                    return await shake(connected, context, serves=False, peer=peer, buffer=BUFFER_BYTES)
                except BaseException:
                    connected.close()
                    raise
        except OSError as error:
            _log.warning("link.failed", why=_told(error))
            raise

    async def _reach(self, host: Host, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host.name, port, type=socket.SOCK_STREAM)
        places = {str(place[0]).partition("%")[0]: place for *_, place in found}
        if not all(self._settings.allows(ipaddress.ip_address(each)) for each in places):
            raise PermissionError("its address lies outside of worker_link.networks")
        failed = OSError("its name has no address")
        for each, place in places.items():
            one = socket.socket(_family(ipaddress.ip_address(each)), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                one.setblocking(False)
                _keep_alive(one)
                await loop.sock_connect(one, place)
            except OSError as error:
                one.close()
                failed = error
            except BaseException:
                one.close()
                raise
            else:
                return one
        raise failed


def _written(host: Host, port: int) -> str:
    return f"{SCHEME}[{host.name}]:{port}" if ":" in host.name else f"{SCHEME}{host.name}:{port}"


def _read(address: str) -> tuple[Host, int]:
    """Read what `_written` writes, and nothing else; raises PermissionError."""
    found = _ADDRESS.fullmatch(address)
    if found is not None and (port := int(found["port"])) <= _MOST_PORT:
        with contextlib.suppress(NoHostError):
            host = parse_host(found["host"])
            if _written(host, port) == address:
                return host, port
    raise PermissionError("that is no address of a worker")


def _family(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - of IP


def _keep_alive(one: socket.socket) -> None:
    for option in _ALIVE:
        one.setsockopt(*option)


def _told(error: OSError) -> str:
    """Say why, in the words of OpenSSL or of ours: nothing of what was sent is in them."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, TimeoutError) and not str(error):
        return "it took too long"
    return str(error.reason if isinstance(error, ssl.SSLError) else error.strerror or error)
