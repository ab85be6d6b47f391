"""The table for what reads without a connection: hellos, requests, bodies, queries, addresses."""

import ipaddress
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.mutation.gateway_stage import question
from tests.unit.egress.test_hello import REAL, extended, recut

LAST = "last.example.com"
API, OTHER, CORP, LURK = "api.example.com", "other.example.com", "db.corp.internal", "lurk.example.com"
LOCAL = (ipaddress.ip_network("127.64.0.0/16"),)
EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
NOWHERE = "0.0.0.0"  # noqa: S104 - to see it refused
Read = Iterator[tuple[str, bool]]


def parsers(engine: Any) -> Read:
    yield from _hellos(engine)
    yield from _requests(engine)
    yield from _bodies(engine)
    yield from _queries(engine)
    yield from _dialled(engine)


def told(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ValueError:
        return "refused"


def _hellos(engine: Any) -> Read:
    most = 32 << 10

    def read(stream: bytes, most: int = most) -> Any:
        return told(
            lambda: (hello := engine.hello.parse_hello(stream, most_bytes=most)) and (hello.name, hello.encrypted)
        )

    body = REAL[9:]
    session = body[34]
    ciphers = 35 + session

    def altered(at: int, *parts: bytes, drop: int = 0) -> bytes:
        made = body[:at] + b"".join(parts) + body[at + drop :]
        return _record(b"\x01" + len(made).to_bytes(3) + made)

    wrong = {
        "of another type": _record(b"\x02" + REAL[6:]),
        "too long by its length": _record(b"\x01\x7f\xff\xff" + REAL[9:]),
        "followed in its record": REAL[:3] + (int.from_bytes(REAL[3:5]) + 1).to_bytes(2) + REAL[5:] + b"x",
        "no handshake": b"\x17" + REAL[1:],
        "no TLS": b"\x16\x02" + REAL[2:],
        "an empty record": b"\x16\x03\x01\x00\x00" + REAL,
        "a record too long": b"\x16\x03\x01\x40\x01" + bytes(1) * 9,
        "another version inside": altered(0, b"\x02", drop=1),
        "a long session": altered(34, b"\x21", bytes(33), drop=1 + session),
        "no ciphers": altered(ciphers, b"\0\0", drop=2 + int.from_bytes(body[ciphers : ciphers + 2])),
        "an odd length of ciphers": altered(
            ciphers, (int.from_bytes(body[ciphers : ciphers + 2]) + 1).to_bytes(2), b"x", drop=2
        ),
        "no compression": altered(
            ciphers + 2 + int.from_bytes(body[ciphers : ciphers + 2]),
            b"\0",
            drop=2,
        ),
        "something behind its extensions": _record(b"\x01" + (len(body) + 1).to_bytes(3) + body + b"x"),
        "an extension twice": extended(10, b""),
        "a length that is wrong": altered(34, b"\xff", drop=1),
    }
    for name, stream in wrong.items():
        yield f"a hello: {name}", read(stream) == "refused"
    for name, value in {
        "two names": _list(b"\0\0\x01a\0\0\x01b"),
        "behind the list": _list(b"\0\0\x01a") + b"x",
        "another kind": _list(b"\x01\0\x01a"),
        "empty": _list(b"\0\0\0"),
        "not ASCII": _list(b"\0\0\x02\xc3\xa4"),
        "a space": _list(b"\0\0\x03a b"),
        "long": _list(b"\0\x01\x00" + b"a" * 256),
        "a length beyond it": b"\0\x09" + b"\0\0\x01a",
    }.items():
        yield f"a name in a hello: {name}", told(partial(engine.hello._read_name, value)) == "refused"
    yield "a hello is read", read(REAL) == (API, False)
    yield "a hello in pieces is read", read(recut(REAL, 1, 2, 50)) == (API, False)
    yield "a hidden name is seen", read(extended(0xFE0D, b"x")) == (API, True)
    yield "half a hello is waited for", all(read(REAL[:at]) is None for at in (0, 3, 6, 60, len(REAL) - 1))
    yield "a hello beyond the bound", read(REAL, len(REAL) - 1) == "refused"
    yield "a hello longer than the bound", read(REAL[:9], 64) == "refused"
    yield "more records than there may be", read(recut(REAL, *[1] * 70)) == "refused"


def _record(message: bytes) -> bytes:
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


def _list(names: bytes) -> bytes:
    return len(names).to_bytes(2) + names


def _requests(engine: Any) -> Read:
    def read(head: str | bytes) -> Any:
        text = head if isinstance(head, bytes) else head.encode("latin-1")
        return told(lambda: engine.requests.parse_request(text))

    host = f"Host: {API}\r\n"
    for head in (
        f"GET / HTTP/1.1\r\n{host}",
        f"GET / HTTP/1.1\r\n{host}\r\nX: 1\r\n\r\n",
        f"GET /\r\n{host}\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/2.0\r\n{host}\r\n",
        f"GET / HTTP/1.1\r\n{host}{host}\r\n",
        f"GET / HTTP/1.1\r\n{host}X\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X : 1\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host} X: 1\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X: a\0\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X: a\nb\r\n\r\n",
        f"POST / HTTP/1.1\r\n{host}Content_Length: 5\r\n\r\n",
        f"POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        f"POST / HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\n",
        f"POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n",
        f"POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n",
        f"GET * HTTP/1.1\r\n{host}\r\n",
        f"OPTIONS x HTTP/1.1\r\n{host}\r\n",
        f"GET http://u@{API}/ HTTP/1.1\r\n{host}\r\n",
        f"GET ftp://x/ HTTP/1.1\r\n{host}\r\n",
        "GET / HTTP/1.1\r\n" + host + "".join(f"X{n}: 1\r\n" for n in range(201)) + "\r\n",
    ):
        yield f"a request: {head[:60]!r}", read(head) == "refused"
    whole = read(f"GET / HTTP/1.1\r\n{host}TE: a\r\nUpgrade: h2c\r\nX-A: 1\r\nConnection: close\r\n\r\n")
    yield (
        "what is of the hop stays",
        whole.wire() == f"GET / HTTP/1.1\r\n{host}X-A: 1\r\nConnection: close\r\n\r\n".encode(),
    )
    yield "OPTIONS *", read(f"OPTIONS * HTTP/1.1\r\n{host}\r\n").target == "*"
    yield "no Host for a tunnel", read("CONNECT a:1 HTTP/1.1\r\n\r\n").authority == "a:1"
    old = read(f"GET / HTTP/1.0\r\n{host}Connection: keep-alive\r\n\r\n")
    yield "an old request stays open", b"keep-alive" in old.wire()
    yield "an old request ends", b"Connection: close" in old.wire(close=True)
    plain_one = read(f"POST / HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\n")
    yield "a length", (plain_one.length, plain_one.chunked) == (5, False)
    coded = read(f"POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n")
    yield "chunks", (coded.length, coded.chunked) == (0, True)
    absolute = read(f"GET http://{API}/a HTTP/1.1\r\n{host}\r\n")
    yield "a whole address", (absolute.scheme, absolute.authority, absolute.target) == ("http", API, "/a")


def _bodies(engine: Any) -> Read:
    def pass_on(text: bytes) -> Any:
        body, data = engine.bodies.ChunkedBody(), bytearray(text)
        return told(lambda: (body.feed(data), body.done, bytes(data)))

    for text in (
        b"5;x\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"-1\r\n",
        b"5\nhello\n",
        b"x" * 18,
        b"1" * 18,
        b"g",
        b"\r\n",
        b"1" * 16 + b"\r\n",
    ):
        yield f"a chunk: {text!r}", pass_on(text) == "refused"
    yield "chunks are passed", pass_on(b"5\r\nhello\r\n0\r\n\r\nGET") == (b"5\r\nhello\r\n0\r\n\r\n", True, b"GET")
    yield "half a chunk is waited for", pass_on(b"5\r\nhello\r") == (b"5\r\nhello", False, b"\r")
    yield "half a size is waited for", pass_on(b"5\r") == (b"", False, b"5\r")


def _queries(engine: Any) -> Read:
    def read(packet: bytes) -> Any:
        return told(lambda: engine.dns.parse_query(packet).name)

    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    whole = question(API)
    for name, packet in {
        "short": whole[:11],
        "a response": question(API, flags=0x8100),
        "another operation": question(API, flags=0x1000),
        "truncated": question(API, flags=0x300),
        "two questions": whole[:4] + b"\0\2" + whole[6:],
        "long": question(API, more=opt[:-2] + b"\x05\0" + bytes(1280), count=1),
        "compressed": whole[:12] + b"\xc0\x0c" + whole[-4:],
        "a name that is cut": whole[:20],
        "a question that is cut": whole[:-2],
        "no end of its name": whole[:12] + b"\x03abc",
        "long name": question(".".join(["a" * 63] * 4) + ".a"),
        "another class": question(API, group=3),
        "something behind": question(API, more=b"x"),
        "two records": question(API, more=opt + opt, count=2),
        "another record": question(API, more=opt.replace(b"\x29", b"\x01"), count=1),
        "a record not of the root": question(API, more=b"\x01" + opt[1:], count=1),
        "a cut record": question(API, more=opt[:-1], count=1),
        "a dot in a label": whole[:12] + b"\x03a.b\x03com\0" + whole[-4:],
        "no ASCII": whole[:12] + b"\x02\xc3\xa4\0" + whole[-4:],
        "a label that is cut": whole[:12] + b"\x3fabc",
        "a long label": question("a" * 64 + ".b"),
        "one record that says it is two": question(API, more=opt, count=2),
    }.items():
        yield f"a query: {name}", read(packet) == "refused"
    yield "a query", read(whole) == API
    yield "a query with options", read(question(API, more=opt, count=1)) == API


def _dialled(engine: Any) -> Read:
    for address, host, private, expected in (
        ("8.8.8.8", API, (), True),
        ("10.0.0.1", API, (), False),
        ("10.0.0.1", API, EVERYWHERE, True),
        ("127.0.0.1", API, EVERYWHERE, True),
        ("169.254.169.254", API, EVERYWHERE, False),
        ("169.254.169.254", "169.254.169.254", EVERYWHERE, True),
        ("168.63.129.16", API, EVERYWHERE, False),
        ("168.63.129.16", API, (), False),
        ("169.254.0.9", API, EVERYWHERE, False),
        ("240.0.0.1", API, EVERYWHERE, False),
        ("224.0.0.1", API, EVERYWHERE, False),
        (NOWHERE, API, EVERYWHERE, False),
        (NOWHERE, NOWHERE, EVERYWHERE, False),
        ("224.0.0.1", "224.0.0.1", EVERYWHERE, False),
        ("::1", API, EVERYWHERE, True),
        ("::", API, EVERYWHERE, False),
        ("::ffff:8.8.8.8", API, (), False),
        ("::ffff:8.8.8.8", API, EVERYWHERE, True),
        ("::ffff:169.254.169.254", API, EVERYWHERE, False),
        ("64:ff9b::8.8.8.8", API, EVERYWHERE, True),
        ("64:ff9b::169.254.169.254", API, EVERYWHERE, False),
        ("64:ff9b::127.0.0.1", API, LOCAL, False),
        ("100.64.0.1", API, EVERYWHERE, True),
        ("192.88.99.1", API, EVERYWHERE, False),
        ("64:ff9b::8.8.8.8", API, (), False),
        ("fd00:ec2::254", API, EVERYWHERE, False),
        ("2606:4700::1", API, (), True),
        ("fe80::1", API, EVERYWHERE, False),
    ):
        decision = engine.Decision(allowed=True, private=private)
        said = engine.addresses.may_dial(ipaddress.ip_address(address), host=engine.parse_host(host), decision=decision)
        yield f"to {address} for {host}, {len(private)} networks", said is expected
    yield "a zone is no address", engine.addresses._read("fe80::1%lo") is None
