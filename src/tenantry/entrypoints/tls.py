"""The server's own TLS: its certificate, and whose client certificates it takes."""

import ssl
from pathlib import Path

from tenantry.foundation.errors import Invalid
from tenantry.foundation.settings import ServerSettings


def server_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Make what connections are accepted with, None where the server speaks plain HTTP.

    A client may show a certificate, and one that `client_ca` has not signed ends the handshake. Raises Invalid
    `tls_unusable`, naming the setting.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A session that is taken up again would show a certificate that was verified long ago.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=_no_password)
    except (OSError, ValueError) as error:
        raise _unusable("tls_certificate and tls_key", settings.tls_certificate, error) from None
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ValueError) as error:
            raise _unusable("client_ca", settings.client_ca, error) from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _no_password() -> str:
    """Answer instead of the terminal, where nobody sits."""
    raise ValueError("the key is protected by a password: give it without one, readable by the server alone")


def _unusable(name: str, file: Path, error: Exception) -> Invalid:
    told = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    return Invalid("tls_unusable", f"server.{name}: {file}: {told or error}", layer="settings")
