"""Files of TLS: certificates, keys and roots, read into a context, or refused with the setting that names them."""

import ssl
from pathlib import Path

from tenantry.foundation.errors import Invalid


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path, *, named: str) -> None:
    """Show this certificate; raises Invalid `tls_unusable`, which names the setting `named`."""
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise tls_unusable(named, certificate, error) from None


def load_roots(context: ssl.SSLContext, file: Path, *, named: str) -> None:
    """Believe what these have signed; raises Invalid `tls_unusable`."""
    try:
        context.load_verify_locations(file)
    except (OSError, ValueError) as error:
        raise tls_unusable(named, file, error) from None


def tls_unusable(named: str, file: Path, error: Exception) -> Invalid:
    told = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    return Invalid("tls_unusable", f"{named}: {file}: {told or error}", layer="settings")


def _no_password() -> str:
    """Answer instead of the terminal, where nobody sits."""
    raise ValueError("the key is protected by a password: give it without one, readable by its process alone")
