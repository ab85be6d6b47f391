"""The server's own TLS: its certificate, and whose client certificates it takes."""

import ssl

from tenantry.foundation.settings import ServerSettings
from tenantry.foundation.tls_contexts import load_certificate, load_roots


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
    named = "server.tls_certificate and tls_key"
    load_certificate(context, settings.tls_certificate, settings.tls_key, named=named)
    if settings.client_ca is not None:
        load_roots(context, settings.client_ca, named="server.client_ca")
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
