"""A certificate authority for tests: roots, servers, clients."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate with its key; `der` is the certificate alone."""

    pem: str
    key_pem: str
    der: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write certificate and key, give the files."""
        files = folder / f"{name}.pem", folder / f"{name}.key"
        files[0].write_text(self.pem)
        files[1].write_text(self.key_pem)
        return files


class Authority:
    """Signs certificates for servers and clients."""

    def __init__(self, name: str = "test root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        now = datetime.now(UTC)
        builder = _builder(self._name, self._name, self._key, now - timedelta(days=1), now + timedelta(days=30))
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        self._root = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, folder: Path, name: str = "ca") -> Path:
        file = folder / f"{name}.pem"
        file.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))
        return file

    def issue(
        self,
        name: str,
        *,
        server: bool = False,
        both: bool = False,
        until: datetime | None = None,
        by_address: bool = True,
        names: Sequence[str] | None = None,
        address: str = "127.0.0.1",
    ) -> Issued:
        """Issue for a client, or for a server on this machine, as `localhost` and 127.0.0.1 or what is named.

        `both`: for either use. `until` may lie in the past.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        until = until or datetime.now(UTC) + timedelta(days=7)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH] if server or both else []
        uses += [] if server and not both else [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(_named(name), self._name, key, until - timedelta(days=14), until)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if names is None:
            names = ("localhost",) if server else ()
        known: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
        known += [x509.IPAddress(ip_address(address))] if server and by_address else []
        if known:
            builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        return Issued(
            pem=made.public_bytes(serialization.Encoding.PEM).decode(),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            der=made.public_bytes(serialization.Encoding.DER),
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
