"""A small table of cases for the gateway, tried without a sandbox in milliseconds; each says what must come of it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any

from tests.mutation.gateway_readers import API, CORP, EVERYWHERE, LAST, LOCAL, LURK, OTHER, parsers
from tests.mutation.gateway_stage import ANSWER, OUTSIDE, PATIENCE, PLAIN, Met, Stage, question
from tests.unit.egress.test_hello import REAL, extended, real_hello

ALERT = bytes.fromhex("15 0301 0002 02 31")
GET = f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
HIDDEN = f"GET /hidden HTTP/1.1\r\nHost: {OTHER}\r\n\r\n".encode()
PROXY, TUNNEL = ("127.0.0.1", 3128), b"HTTP/1.1 200 Connection established\r\n\r\n"
Verdicts = AsyncGenerator[tuple[str, bool], None]


def deciding(engine: Any, rules: dict[tuple[str, int], Any]) -> Callable[[str, int], Any]:
    def decide(host: str, port: int) -> Any:
        private = rules.get((host, port))
        return engine.Decision(allowed=private is not None, rule="list", private=private or ())

    return decide


RULES: dict[tuple[str, int], Any] = {
    **{(API, port): LOCAL for port in (80, 443, PLAIN)},
    (OTHER, 80): LOCAL,
    (LAST, PLAIN): LOCAL,
    (CORP, 80): EVERYWHERE,
    (LURK, 80): (),
    (OUTSIDE, 80): LOCAL,
    (OUTSIDE, 443): LOCAL,
    (API, 70000): LOCAL,
    (API, 0): LOCAL,
}


async def all_cases(engine: Any, inside: int) -> Verdicts:
    """Try them all, the quickest first; a name and whether it went as it must."""
    for name, held in parsers(engine):
        yield name, held
    stage = Stage(inside)
    async with stage.outside():
        async with stage.open(engine, deciding(engine, RULES)):
            for group in (names, web, tls, plain, proxy, leading_inside):
                async for verdict in group(engine, stage):
                    yield verdict
        for one in (counted, crowded, unheard, unruly, narrowed, closed, learning, idle, quiet):
            async for verdict in one(engine, stage):
                yield verdict


def met(found: Met, *, said: bytes, rules: list[str], arrived: bytes = b"", resolved: int = 0) -> bool:
    words = found.said.startswith(said) if said else found.said == b""
    return words and (found.rules, found.arrived, len(found.resolved)) == (rules, arrived, resolved)


def answered(found: Met, code: int, address: str = "") -> bool:
    """Whether an answer has this code, and this one address or none; nobody was asked for it."""
    if len(found.said) < 12 or found.resolved:
        return False
    records = int.from_bytes(found.said[6:8])
    shown = socket.inet_ntoa(found.said[-4:]) if records else ""
    return (found.said[3] & 15, shown) == (code, address)


async def names(_: Any, stage: Stage) -> Verdicts:
    for name, kind, code, address in (
        (API, 1, 0, "127.1.0.1"),
        (API.upper(), 1, 0, "127.1.0.1"),
        (API, 28, 0, ""),
        (API, 65, 0, ""),
        (API, 64, 0, ""),
        (API, 16, 3, ""),
        (API, 255, 3, ""),
        (f"secret.{OTHER}", 1, 3, ""),
        ("unknown.example.com", 1, 3, ""),
        (OUTSIDE, 1, 3, ""),
        ("-x", 1, 3, ""),
        (OTHER, 1, 0, "127.1.0.2"),
    ):
        yield f"{name} of type {kind}", answered(await stage.query(question(name, kind)), code, address)
    yield "names are told once", [event.host for event in stage.events if event.allowed] == [API, OTHER]
    yield "any port will do", answered(await stage.query(question(LAST)), 0, "127.1.0.3")
    found = await stage.query(question(f"secret.{API}"))
    yield "a denial is told", found.rules == ["list"]
    found = await stage.query(question(CORP, 16))
    yield "a denied type is told", found.rules == ["dns_type"]
    found = await stage.query(question(API, group=3))
    yield "no query is told", found.rules == ["dns_query"]
    unanswered = await stage.query(question(API, flags=0x8100), patience=0.05)
    yield "a response is not answered", unanswered.said == b""
    packet = question(API)
    found = await stage.exchange(("127.0.0.1", 53), len(packet).to_bytes(2) + packet)
    yield "by a stream", found.said[2:].endswith(socket.inet_aton("127.1.0.1"))


async def web(_: Any, stage: Stage) -> Verdicts:
    place = (await stage.address_of(API), 80)
    yield "a request", met(await stage.exchange(place, GET), said=ANSWER, rules=[], arrived=GET, resolved=1)
    second = f"GET /2 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
    at = len(stage.events)
    found = await stage.exchange(place, GET, second)
    yield "two", met(found, said=ANSWER * 2, rules=[], arrived=GET + second, resolved=1)
    lines = [(event.kind, event.allowed, event.bytes_sent) for event in stage.events[at:]]
    yield "each is told", lines == [("http", True, len(GET)), ("http", True, len(second))]
    at = len(stage.events)
    found = await stage.exchange(place, GET, HIDDEN)
    yield "another Host later", found.arrived == GET and found.rules == ["http_host"] and b"403" in found.said
    yield "what went before is told before", [event.allowed for event in stage.events[at:]] == [True, False]
    for name, sent, status in (
        ("another Host", HIDDEN, 403),
        ("another address", f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(), 400),
        ("another port", GET.replace(b".com", b".com:81"), 403),
        ("a tunnel", f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(), 400),
        ("https", f"GET https://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode(), 400),
        ("cut", GET[:-4], 400),
        ("long", GET[:-2] + b"X: " + b"x" * 3000 + b"\r\n\r\n", 431),
        ("endless", GET[:-2] + b"X: " + b"x" * 30000, 431),
        ("upgraded", GET[:-2] + b"Upgrade: websocket\r\n\r\n", 403),
        ("no host", GET.replace(b"api.", b"-."), 403),
        ("no brackets", GET.replace(API.encode(), b"::1"), 400),
        ("no port", GET.replace(b".com", b".com:x"), 400),
        ("port 0", GET.replace(b".com", b".com:0"), 400),
        ("port 70000", GET.replace(b".com", b".com:70000"), 400),
        ("port too long", GET.replace(b".com", b".com:000080"), 400),
    ):
        found = await stage.exchange(place, sent)
        told_so = len(found.rules) == 1 and stage.events[-1].kind == "http"
        yield f"a request: {name}", found.said[9:12] == b"%d" % status and found.arrived == b"" and told_so
    body = GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 9\r\n\r\n"
    found = await stage.exchange(place, body + b"123456789")
    yield "a body", met(found, said=ANSWER, rules=[], arrived=body + b"123456789", resolved=1)
    yield "a body that is cut", (await stage.exchange(place, body + b"1234")).rules == ["http_request"]
    yield "h2c is dropped", (await stage.exchange(place, GET[:-2] + b"Upgrade: h2c\r\n\r\n")).arrived == GET
    coded = GET.replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    found = await stage.exchange(place, coded + b"5;x\r\nhello\r\n0\r\n\r\n" + HIDDEN)
    yield "chunks of another kind", found.rules == ["http_request"] and b"hidden" not in found.arrived
    yield "nothing", met(await stage.exchange(place), said=b"", rules=[])
    yield (
        "to an address of nobody",
        met(await stage.exchange(("127.1.9.9", 80), GET), said=b"HTTP/1.1 403", rules=["direct"]),
    )


async def tls(_: Any, stage: Stage) -> Verdicts:
    place = (await stage.address_of(API), 443)
    yield "a hello", met(await stage.exchange(place, REAL), said=ANSWER, rules=[], arrived=REAL, resolved=1)
    for name, sent, rule in (
        ("hidden", extended(0xFE0D, b"x"), "tls_encrypted_hello"),
        ("plain", GET, "tls_hello"),
        ("cut", REAL[:-1], "tls_hello"),
        ("of another name", REAL.replace(b"api.", b"apj."), "tls_name"),
        ("of no name", _nameless(), "tls_name"),
    ):
        yield f"a hello: {name}", met(await stage.exchange(place, sent), said=ALERT, rules=[rule])
    yield "nothing of TLS", met(await stage.exchange(place), said=b"", rules=[])
    other = (await stage.address_of(OTHER), 443)
    yield "a port that is not allowed", met(await stage.exchange(other, REAL), said=ALERT, rules=["list"])
    yield "TLS to nobody", met(await stage.exchange(("127.1.9.9", 443), REAL), said=ALERT, rules=["direct"])


def _nameless() -> bytes:
    return real_hello(None)


async def plain(_: Any, stage: Stage) -> Verdicts:
    place = (await stage.address_of(API), PLAIN)
    yield "any protocol", met(await stage.exchange(place, b"any"), said=ANSWER, rules=[], arrived=b"any", resolved=1)
    other = (await stage.address_of(OTHER), PLAIN)
    yield "any protocol, denied", met(await stage.exchange(other, b"any"), said=b"", rules=["list"])
    yield "any protocol to nobody", met(await stage.exchange(("127.1.9.9", PLAIN), b"x"), said=b"", rules=["direct"])
    stage.answers[API] = [[OUTSIDE], ["127.64.0.9"]]
    found = await stage.exchange(place, b"any")
    yield "resolved once", met(found, said=ANSWER, rules=[], arrived=b"any", resolved=1)
    stage.answers.clear()


async def proxy(_: Any, stage: Stage) -> Verdicts:
    whole = f"GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
    closing = GET[:-2] + b"Connection: close\r\n\r\n"
    yield "by the proxy", met(await stage.exchange(PROXY, whole), said=ANSWER, rules=[], arrived=closing, resolved=1)
    connect = f"CONNECT {API}:%d HTTP/1.1\r\nHost: {API}:%d\r\n\r\n"
    tunnels = {port: (connect % (port, port)).encode() for port in (80, 443, PLAIN)}
    for port, sent in ((80, GET), (443, REAL), (PLAIN, b"any")):
        found = await stage.exchange(PROXY, tunnels[port], sent)
        if port == 80:
            yield "a tunnel is told", [event.kind for event in stage.events[-2:]] == ["proxy", "http"]
        yield f"a tunnel to {port}", met(found, said=TUNNEL + ANSWER, rules=[], arrived=sent, resolved=1)
    found = await stage.exchange(PROXY, tunnels[443], REAL.replace(b"api.", b"apj."))
    yield "another name in a tunnel", found.rules == ["tls_name"] and found.arrived == b""
    found = await stage.exchange(PROXY, tunnels[80], HIDDEN)
    yield "another Host in a tunnel", found.rules == ["http_host"] and found.arrived == b""
    numbered = f"CONNECT {OUTSIDE}:443 HTTP/1.1\r\n\r\n".encode()
    yield "an address has no name", (await stage.exchange(PROXY, numbered, _nameless())).rules == []
    yield "an address with a name", (await stage.exchange(PROXY, numbered, REAL)).rules == ["tls_name"]
    host = f"Host: {API}\r\n\r\n"
    for name, asked, status, rule in (
        ("another Host", f"CONNECT {API}:443 HTTP/1.1\r\nHost: {OTHER}:443\r\n\r\n", 400, "http_request"),
        ("no address", f"GET / HTTP/1.1\r\n{host}", 400, "http_request"),
        ("https", f"GET https://{API}/ HTTP/1.1\r\n{host}", 400, "http_request"),
        ("denied", f"CONNECT {OTHER}:443 HTTP/1.1\r\n\r\n", 403, "list"),
        ("no port", f"CONNECT {API} HTTP/1.1\r\n\r\n", 400, "http_request"),
        ("a body", f"CONNECT {API}:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400, "http_request"),
        ("a coded body", f"CONNECT {API}:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "http_request"),
        ("six", "CONNECT [2606:4700::1]:80 HTTP/1.1\r\n\r\n", 403, "list"),
        ("another spelling", "CONNECT 2134900737:80 HTTP/1.1\r\n\r\n", 403, "host"),
        ("too high a port", f"CONNECT {API}:70000 HTTP/1.1\r\n\r\n", 400, "http_request"),
    ):
        found = await stage.exchange(PROXY, asked.encode())
        held = found.said[9:12] == b"%d" % status and (found.rules, found.arrived) == ([rule], b"")
        yield f"the proxy: {name}", held
    yield "nothing at the proxy", met(await stage.exchange(PROXY), said=b"", rules=[])


async def leading_inside(_: Any, stage: Stage) -> Verdicts:
    place = (await stage.address_of(LURK), 80)
    sent = GET.replace(API.encode(), LURK.encode())
    for address in (
        "127.0.0.1",
        OUTSIDE,
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "none",
        "fe80::1%lo",
    ):
        stage.answers[LURK] = [[address]]
        found = await stage.exchange(place, sent)
        yield f"a name that leads to {address}", met(found, said=b"HTTP/1.1 403", rules=["private_address"], resolved=1)
    stage.answers[LURK] = [["10.0.0.1", "8.8.8.8.8"], [OUTSIDE]]
    found = await stage.exchange(place, sent)
    yield "a name that changes its mind", met(found, said=b"HTTP/1.1 403", rules=["private_address"], resolved=1)
    stage.answers.clear()


async def counted(engine: Any, stage: Stage) -> Verdicts:
    async with stage.open(engine, deciding(engine, RULES), bytes_out=100):
        place = (await stage.address_of(API), PLAIN)
        found = await stage.exchange(place, b"x" * 60, b"x" * 60)
        yield "bytes out", (found.rules, found.arrived) == (["bytes_out"], b"x" * 60)
        sent = stage.gateway.usage
        yield "what was sent is counted", (sent.bytes_sent, sent.connections, sent.denials) == (60, 1, 1)
        found = await stage.exchange(place, b"x" * 60)
        yield "bytes out of another connection", (found.rules, found.arrived) == (["bytes_out"], b"")
        web_place = (place[0], 80)
        yield "bytes out of requests", (await stage.exchange(web_place, GET)).rules == ["bytes_out"]
    async with stage.open(engine, deciding(engine, RULES), bytes_in=len(ANSWER)):
        place = (await stage.address_of(API), PLAIN)
        found = await stage.exchange(place, b"a", b"b")
        yield "bytes in", (found.rules, found.said) == (["bytes_in"], ANSWER)
        yield "what was received is counted", stage.gateway.usage.bytes_received == len(ANSWER)


async def crowded(engine: Any, stage: Stage) -> Verdicts:
    async with stage.open(engine, deciding(engine, RULES), connections=1):
        place = (await stage.address_of(API), PLAIN)
        first = await stage.connect(place)
        await asyncio.get_running_loop().sock_sendall(first, b"x")
        await asyncio.get_running_loop().sock_recv(first, 100)
        found = await stage.exchange(place, b"y")
        yield "connections at once", (found.rules, found.arrived) == (["connections"], b"")
        first.close()


class Deaf(list[Any]):
    def append(self, _: Any) -> None:
        raise LookupError


async def unheard(engine: Any, stage: Stage) -> Verdicts:
    kept, raised, ended, later = stage.events, False, False, b"x"
    loop = asyncio.get_running_loop()
    try:
        async with stage.open(engine, deciding(engine, RULES)):
            place = (await stage.address_of(API), PLAIN)
            live = await stage.connect(place)
            await loop.sock_sendall(live, b"x")
            await loop.sock_recv(live, 100)
            stage.events = Deaf()
            await stage.exchange(place, b"x")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE.get()):
                    ended = await loop.sock_recv(live, 100) == b""
            live.close()
            later = (await stage.exchange(place, b"x")).arrived
    except LookupError:
        raised = True
    finally:
        stage.events = kept
    yield "who hears nothing ends all", ended
    yield "who hears nothing allows nothing", later == b""
    yield "what could not be told is raised", raised


async def unruly(engine: Any, stage: Stage) -> Verdicts:
    def broken(host: str, port: int) -> Any:
        raise LookupError(host, port)

    async with stage.open(engine, broken):
        found = await stage.query(question(API))
        yield "a rule that fails denies", answered(found, 3) and found.rules == ["error"]


async def narrowed(engine: Any, stage: Stage) -> Verdicts:
    loop = asyncio.get_running_loop()
    none = deciding(engine, {})
    public = deciding(engine, dict.fromkeys(RULES, ()))
    for name, decide, rule in (("name", none, "list"), ("network", public, "private_address")):
        async with stage.open(engine, deciding(engine, RULES)):
            place = (await stage.address_of(API), PLAIN)
            for port, first in ((PLAIN, b"x"), (80, GET)):
                live = await stage.connect((place[0], port))
                await loop.sock_sendall(live, first)
                await loop.sock_recv(live, 100)
                stage.gateway.narrow(decide)
                told_rule = stage.events[-1].rule
                async with asyncio.timeout(PATIENCE.get()):
                    ended = await loop.sock_recv(live, 100) == b""
                live.close()
                yield f"a {name} that is no longer allowed, at {port}", ended and told_rule == rule
                stage.gateway.narrow(deciding(engine, RULES))
            stage.gateway.narrow(decide)
            found = await stage.exchange(place, b"y")
            yield f"a {name} that is no longer allowed, later", (found.rules, found.arrived) == ([rule], b"")
    async for verdict in _narrowed_meanwhile(engine, stage):
        yield verdict


async def _narrowed_meanwhile(engine: Any, stage: Stage) -> Verdicts:
    rules = dict(RULES)

    async def slow(_: str) -> list[str]:
        rules.clear()
        return [OUTSIDE]

    async def same(_: str) -> list[str]:
        stage.gateway.narrow(deciding(engine, RULES))
        return [OUTSIDE]

    kept, stage.resolve = stage.resolve, same  # type: ignore[method-assign,assignment]
    async with stage.open(engine, deciding(engine, rules)):
        place = (await stage.address_of(API), PLAIN)
        yield "changed, but not for it", (await stage.exchange(place, b"y")).arrived == b"y"
    stage.resolve = slow  # type: ignore[method-assign,assignment]
    async with stage.open(engine, deciding(engine, rules)):
        place = (await stage.address_of(API), PLAIN)
        found = await stage.exchange(place, b"y")
        yield "narrowed while it was resolved", (found.rules, found.arrived) == (["list"], b"")
    stage.resolve = kept  # type: ignore[method-assign]
    rules = dict(RULES)
    async with stage.open(engine, deciding(engine, rules)):
        place = (await stage.address_of(API), 80)
        live = await stage.connect(place)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(live, GET)
        await loop.sock_recv(live, 100)
        del rules[API, 80]
        stage.arrived.clear()
        await loop.sock_sendall(live, GET)
        async with asyncio.timeout(PATIENCE.get()):
            said = await loop.sock_recv(live, 100)
        live.close()
        yield "each request is decided about", said.startswith(b"HTTP/1.1 403") and not stage.arrived


async def closed(engine: Any, stage: Stage) -> Verdicts:
    async with stage.open(engine, deciding(engine, RULES)):
        live = await stage.connect((await stage.address_of(API), PLAIN))
        await asyncio.get_running_loop().sock_sendall(live, b"x")
        await asyncio.get_running_loop().sock_recv(live, 100)
        await stage.gateway.close()
        yield "nothing is open after its close", await asyncio.get_running_loop().sock_recv(live, 100) == b""
        live.close()


async def learning(engine: Any, stage: Stage) -> Verdicts:
    async with stage.open(engine, deciding(engine, RULES), new_names_per_minute=2):
        codes = [(await stage.query(question(f"n{n}.{OTHER}"))).said[3] & 15 for n in range(4)]
        yield "new names a minute", codes == [3, 3, 5, 5]
        yield "a cap is told", [event.rule for event in stage.events][2:] == ["new_names_per_minute"] * 2
        yield "known names still", (await stage.query(question(f"n0.{OTHER}"))).said[3] & 15 == 3
        kept, engine.names._MOST_NAMES = engine.names._MOST_NAMES, 0
        stage.gateway._names._learned.clear()
        yield "no more names than addresses", (await stage.query(question(f"n9.{OTHER}"))).said[3] & 15 == 5
        engine.names._MOST_NAMES = kept


async def idle(engine: Any, stage: Stage) -> Verdicts:
    async with stage.open(engine, deciding(engine, RULES), idle_seconds=0.04):
        place = (await stage.address_of(API), PLAIN)
        live = await stage.connect(place)
        async with asyncio.timeout(PATIENCE.get()):
            yield "what carries nothing ends", await asyncio.get_running_loop().sock_recv(live, 100) == b""
        live.close()


async def quiet(engine: Any, stage: Stage) -> Verdicts:
    async with stage.open(engine, deciding(engine, RULES)):
        barred = engine.Decision(allowed=False, rule="x")
        for _ in range(300):
            stage.gateway._gate.deny("dns", "x", 0, barred)
        yield "of many denials not all are told", 200 <= len(stage.events) < 300
        yield "that there are more is told once", [event.rule for event in stage.events].count("quiet") == 1
        yield "all are counted", stage.gateway.usage.denials == 300
