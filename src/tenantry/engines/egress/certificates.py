"""Certificates of a gateway that ends TLS itself: an authority of one sandbox, for the hosts it was made for alone.

Its key is in this process' memory and nowhere else, and goes with the object. Its certificate says (critical name
constraints, RFC 5280 4.2.1.10) that it counts for those hosts and no others, whoever trusts it.
"""

import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tenantry.kit.hosts import Host

HTTP_1: Final = "http/1.1"
_EARLY: Final = timedelta(minutes=5)
_WEB: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_HIDES_ENDS: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # takes a connection that was cut for one that ended
_NOWHERE: Final = "invalid"  # no host has this name (RFC 6761)


class Authority:
    """Signs for `hosts` and nobody else, until `seconds` from now."""

    def __init__(self, hosts: Sequence[Host], *, seconds: float, now: datetime | None = None) -> None:
        if not hosts:
            raise ValueError("an authority is for some host")
        now = now or datetime.now(UTC)
        self._hosts = tuple(hosts)
        self._since, self._until = now - _EARLY, now + timedelta(seconds=seconds)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("Gateway of one sandbox")
        self._certificate = self._make_root()
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def pem(self) -> bytes:
        """The certificate that whoever is to trust it must have."""
        return self._certificate.public_bytes(Encoding.PEM)

    def context_of(self, host: Host) -> ssl.SSLContext:
        """Give what serves TLS as that host; raises KeyError for one that is not of its hosts."""
        if host not in self._hosts:
            raise KeyError(host.name)
        made = self._contexts.get(host.name)
        if made is None:
            made = self._contexts[host.name] = server_context(*self.issue(host))
        return made

    def issue(self, host: Host) -> tuple[bytes, bytes]:
        """Sign for a host, whichever: it is the constraints that make one for another worthless. PEM, key first."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general(host)])
        made = (
            self._builder(_named("Gateway of one sandbox, in the place of a host"), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(_WEB, critical=False)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return private, made.public_bytes(Encoding.PEM)

    def _make_root(self) -> x509.Certificate:
        return (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(_WEB, critical=False)
            .add_extension(_constraints(self._hosts), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        public, issuer = key.public_key(), self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._since)
            .not_valid_after(self._until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        )


def server_context(key_pem: bytes, certificate_pem: bytes) -> ssl.SSLContext:
    """Make what serves HTTP/1.1 in TLS from 1.2 on; the key is read from memory, since the library wants a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols([HTTP_1])
    descriptor = os.memfd_create("egress", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key_pem + certificate_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def trusting_context(authorities: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """Make what speaks to servers: TLS from 1.2 on, HTTP/1.1, and only to who proves its name.

    By the authorities of that file, else by those of this machine. Reads hundreds of certificates: call it in a thread.
    Raises OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which demands a proof, and notes no keys for anybody
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options = (context.options | ssl.OP_NO_RENEGOTIATION) & ~_HIDES_ENDS
    context.hostname_checks_common_name = False
    context.set_alpn_protocols([HTTP_1])
    return context


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(host: Host) -> x509.GeneralName:
    return x509.DNSName(host.name) if host.address is None else x509.IPAddress(host.address)


def _constraints(hosts: Sequence[Host]) -> x509.NameConstraints:
    """Allow these hosts. A kind of name that is not mentioned would be free, so each is."""
    allowed: list[x509.GeneralName] = [x509.DNSName(host.name) for host in hosts if host.address is None]
    allowed = allowed or [x509.DNSName(_NOWHERE)]
    addresses = [x509.IPAddress(ip_network(host.address)) for host in hosts if host.address is not None]
    barred = [] if addresses else [x509.IPAddress(ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(permitted_subtrees=[*allowed, *addresses], excluded_subtrees=barred or None)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
