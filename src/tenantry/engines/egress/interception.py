"""Connections to hosts that values are put in for: TLS ends here, requests are judged and filled, TLS begins anew."""

import asyncio
import ssl
from dataclasses import replace

from tenantry.engines.egress.answers import Answers, BadAnswerError
from tenantry.engines.egress.certificates import HTTP_1
from tenantry.engines.egress.connection import Connection
from tenantry.engines.egress.hello import Hello
from tenantry.engines.egress.injection import PORT, Injector, inject
from tenantry.engines.egress.requests import Request
from tenantry.engines.egress.types import Barred, Decision, failure, refusal
from tenantry.engines.egress.web import Way, bad_request, serve_web
from tenantry.kit.hosts import Host


async def intercept(connection: Connection, injector: Injector, hello: Hello, host: Host) -> None:
    """Serve a client whose hello is held and was judged."""
    if hello.protocols is not None and HTTP_1.encode() not in hello.protocols:
        remedy = "Let the client speak HTTP/1.1 to a host that secrets are injected for."
        raise Barred("tls", refusal("tls_alpn", "its ClientHello offers no http/1.1", remedy))
    await asyncio.sleep(injector.wait_seconds(connection.gate.now()))
    try:
        await connection.end_tls(injector.authority.context_of(host))
    except ssl.SSLError as error:
        reason = f"the program did not take the gateway's certificate for {host}: {error.reason or 'no handshake'}"
        remedy = "Let it trust the certificates of the file that SSL_CERT_FILE names."
        raise Barred("tls", refusal("tls_handshake", reason, remedy)) from None
    connection.tell()
    await serve_web(connection, host, PORT, way=Interception(injector, host))


class Interception(Way):
    """How requests of one connection go on that values are put into, and how answers come back."""

    kind = "https"

    def __init__(self, injector: Injector, host: Host) -> None:
        self._trust = injector.trust
        self._rules = injector.rules_for(host)
        self._answers = Answers(injector.pieces)
        self._asks_no_more = False

    @property
    def midway(self) -> bool:
        return self._answers.midway

    async def reach(self, connection: Connection, decision: Decision) -> None:
        await super().reach(connection, decision)
        host = connection.host
        try:
            await connection.begin_tls(self._trust)
        except ssl.SSLCertVerificationError as error:
            reason = f"{host} does not prove that it is it: {error.verify_message}"
            raise failure("upstream_certificate", reason) from None
        except ssl.SSLError as error:
            raise failure("upstream_tls", f"no TLS with {host}: {error.reason or 'no handshake'}") from None
        except OSError as error:
            raise failure("upstream_tls", f"no TLS with {host}: {error}") from None

    def prepare(self, connection: Connection, request: Request) -> Request:
        """Put in the values; ask for plain content, as compressed content could not be looked into."""
        request, used = inject(request, self._rules)
        connection.injected += tuple(name for name in used if name not in connection.injected)
        fields = tuple((name, value) for name, value in request.fields if name.lower() != b"accept-encoding")
        try:
            self._answers.expect(request.method)
        except BadAnswerError as error:
            raise bad_request(str(error)) from None
        return replace(request, fields=(*fields, (b"Accept-Encoding", b"identity")))

    async def answers(self, connection: Connection) -> None:
        try:
            while data := await connection.receive():
                if not self._answers.due():
                    return  # a server that waited long enough says so unasked
                said = self._answers.feed(data)
                connection.answering = True
                await connection.say(said)
                connection.answering = self._answers.midway
                if self._asks_no_more and not self._answers.due():
                    return
            await connection.say(self._answers.end())
            connection.answering = False
        except BadAnswerError as error:
            raise failure("answer", f"an answer of {connection.host} was not passed on: {error}") from None

    def asked_all(self, connection: Connection) -> None:
        """Wait for the answers that are due, and no longer."""
        self._asks_no_more = True
        if not self._answers.due():
            connection.end_receiving()
