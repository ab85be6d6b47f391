"""The ways through: TLS by the name it asks for, any protocol by its place, and the explicit proxy."""

from tenantry.engines.egress.connection import Connection
from tenantry.engines.egress.hello import ALERT_DENIED, Hello, NoHelloError, parse_hello
from tenantry.engines.egress.interception import intercept
from tenantry.engines.egress.requests import Request
from tenantry.engines.egress.types import Barred, refusal, shown
from tenantry.engines.egress.web import bad_request, http_refusal, read_request, send_one, serve_web, split_place
from tenantry.kit.hosts import Host

HTTP, HTTPS = 80, 443
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def pass_plain(connection: Connection, host: Host, port: int) -> None:
    """Any protocol, to a place known by name and port."""
    await connection.connect(connection.expect("tcp", host, port))
    await connection.splice()


async def pass_tls(connection: Connection, host: Host, port: int) -> None:
    """TLS that asks for the very name it was sent to."""
    connection.reply = tls_refusal
    decision = connection.expect("tls", host, port)
    hello = await _check_hello(connection, host)
    injector = connection.gate.injector
    if hello is not None and injector is not None and injector.rules_for(host, port):
        await intercept(connection, injector, hello, host)
    elif hello is not None:
        if connection.upstream is None:
            await connection.connect(decision)
        await connection.splice()


async def pass_proxy(connection: Connection) -> None:
    """Serve a client that knows of the proxy: CONNECT, or one request of http by its whole address."""
    connection.kind, connection.reply = "proxy", http_refusal
    request = await read_request(connection)
    if request is None:
        return
    if request.authority is None or request.scheme == "https":
        raise bad_request("it is for no proxy: an http address or CONNECT is asked for here")
    host, port = split_place(request.authority, default=HTTP if request.scheme else None)
    decision = connection.expect("proxy", host, port)
    if request.host is not None and split_place(request.host, default=port) != (host, port):
        raise bad_request(f"its Host {shown(request.host)} is not that of its address")
    await connection.connect(decision)
    if request.method == "CONNECT":
        await _tunnel(connection, request, host, port)
    else:
        await send_one(connection, request)


async def _tunnel(connection: Connection, request: Request, host: Host, port: int) -> None:
    if request.chunked or request.length:
        raise bad_request("a CONNECT has no body")
    await connection.say(_ESTABLISHED)
    if port == HTTPS:
        await pass_tls(connection, host, port)
    elif port == HTTP:
        connection.tell()
        await serve_web(connection, host, port)
    else:
        connection.reply = None
        await connection.splice()


async def _check_hello(connection: Connection, host: Host) -> Hello | None:
    """Read the hello into `held` and hold it against the name; None when the client left without a word."""
    most = connection.gate.caps.head_bytes
    try:
        while (hello := parse_hello(connection.held, most_bytes=most)) is None:
            if not await connection.fill():
                if connection.held:
                    raise _no_hello("it is cut")
                return None
    except NoHelloError as error:
        raise _no_hello(str(error)) from None
    _judge(hello, host)
    return hello


def _no_hello(reason: str) -> Barred:
    return Barred("tls", refusal("tls_hello", f"no ClientHello one can judge: {reason}", "Speak TLS at this port."))


def _judge(hello: Hello, host: Host) -> None:
    if hello.encrypted:
        remedy = "Switch Encrypted Client Hello off."
        raise Barred("tls", refusal("tls_encrypted_hello", "its ClientHello hides the name it asks for", remedy))
    wanted = None if host.address is not None else host.name
    if hello.name != wanted:
        asked = "no name" if hello.name is None else shown(hello.name)
        reason = f"its ClientHello asks for {asked}, not for {host}"
        raise Barred("tls", refusal("tls_name", reason, "Ask for the name that was resolved, and send it (SNI)."))


def tls_refusal(_: Barred) -> bytes:
    return ALERT_DENIED
