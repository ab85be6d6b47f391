"""Requests, beside two other readers: what this one takes, they take for the same."""

import contextlib
from typing import Any

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.egress.bodies import Body, ChunkedBody, LengthBody
from tenantry.engines.egress.requests import BadRequestError, Request, find_end, parse_request


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_request_is_read_and_written_anew() -> None:
    request = parse_request(
        head("POST /a?b=c HTTP/1.1", "hOST: \t api.example.com:80 ", "Content-Length: 5", "X-A: b, c")
    )
    assert (request.method, request.target, request.host, request.length) == ("POST", "/a?b=c", "api.example.com:80", 5)
    assert request.wire() == head("POST /a?b=c HTTP/1.1", "hOST: api.example.com:80", "Content-Length: 5", "X-A: b, c")


@pytest.mark.parametrize(
    ("line", "authority", "target"),
    [
        ("GET http://a.example/b HTTP/1.1", "a.example", "/b"),
        ("GET HTTP://a.example:81 HTTP/1.1", "a.example:81", "/"),
        ("GET http://a.example?x HTTP/1.1", "a.example", "/?x"),
        ("OPTIONS http://a.example HTTP/1.1", "a.example", "*"),
        ("CONNECT a.example:443 HTTP/1.1", "a.example:443", "a.example:443"),
        ("OPTIONS * HTTP/1.1", None, "*"),
        ("GET //evil.example/x HTTP/1.1", None, "//evil.example/x"),
    ],
)
def test_targets(line: str, authority: str | None, target: str) -> None:
    request = parse_request(head(line, "Host: a.example"))
    assert (request.authority, request.target) == (authority, target)


@pytest.mark.parametrize(
    "line",
    [
        "GET a.example HTTP/1.1", "GET * HTTP/1.1", "GET http:///x HTTP/1.1", "GET http://u@a.example/ HTTP/1.1",
        "GET ftp://a.example/ HTTP/1.1", "GET /a b HTTP/1.1", "GET  / HTTP/1.1", "GET /\t HTTP/1.1", " GET / HTTP/1.1",
        "GET / HTTP/1.2", "GET / HTTP/2.0", "GET / http/1.1", "GET /", "G@T / HTTP/1.1", "GET /\x7f HTTP/1.1",
        "GET /\xe9 HTTP/1.1", "", "GET http://a.example\\@b.example/ HTTP/1.1 ", "GET /# HTTP/1.1x",
    ],
)  # fmt: skip
def test_first_lines_that_are_refused(line: str) -> None:
    with pytest.raises(BadRequestError):
        parse_request(head(line, "Host: a.example"))


def test_a_head_may_have_only_so_many_fields() -> None:
    parse_request(head("GET / HTTP/1.1", "Host: a", *["X: y"] * 199))
    with pytest.raises(BadRequestError):
        parse_request(head("GET / HTTP/1.1", "Host: a", *["X: y"] * 200))


def test_the_end_of_a_head_is_found_however_it_comes() -> None:
    data = head("GET / HTTP/1.1", "Host: a")
    for cut in range(len(data)):
        assert find_end(data[:cut]) == -1
        assert find_end(data + b"more", start=cut) == len(data)


def test_many_blanks_cost_no_more_than_once_through_them() -> None:
    parse_request(head("GET / HTTP/1.1", "Host: a", "X:" + " " * 60_000 + "y" + " \t" * 30_000))
    with pytest.raises(BadRequestError):
        parse_request(head("GET / HTTP/1.1", "Host: a", "X:" + " " * 60_000 + "\0"))


PIECES = st.sampled_from([
    "GET", "POST", "CONNECT", " ", "/", "/a", "http://a/", "*", "HTTP/1.1", "HTTP/1.0", "\r\n", "\n", "\r", "Host",
    "host", ":", "a", "b.example", "a:80", "Content-Length", "Transfer-Encoding", "chunked", "identity", "gzip",
    "0", "5", "+5", "0x5", ",", "\t", "  ", "X", "_", "\0", "\xe9", "Connection", "close", "Upgrade", "h2c",
    "Content_Length", "\x0b",
])  # fmt: skip
LINES = st.sampled_from([
    "Host: a", "Host: b", "Host:a", "host: a ", "Host : a", " Host: b", "Content-Length: 5", "Content-Length: 0",
    "content-length:05", "Content-Length: 5,5", "Content-Length: -5", "Content-Length: 1_0", "Content-Length: ",
    "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "transfer-encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: identity",
    "Connection: keep-alive", "Connection: close", "X: y", "X: a\tb", "X:", ": y", "X", "X: \xff", "Upgrade: h2c",
    "Expect: 100-continue",
])  # fmt: skip
FIRST = st.sampled_from([
    "GET / HTTP/1.1", "POST /x HTTP/1.1", "POST /x HTTP/1.0", "GET http://a/ HTTP/1.1", "OPTIONS * HTTP/1.1",
])  # fmt: skip
HEADS = st.tuples(FIRST, st.lists(LINES, max_size=5)).map(lambda parts: head(parts[0], *parts[1]))
SOUP = st.lists(PIECES, max_size=30).map(lambda parts: "".join(parts).encode("latin-1") + b"\r\n\r\n")


def ours(data: bytes) -> Request | None:
    try:
        return parse_request(data)
    except BadRequestError:
        return None


def length_of(request: Request) -> int | str:
    return "chunked" if request.chunked else request.length


def by_h11(data: bytes) -> tuple[str, str, list[str], int | str]:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    event = reader.next_event()
    assert isinstance(event, h11.Request), event
    fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    lengths: list[int | str] = [int(value) for name, value in fields if name == "content-length"]
    coded: list[int | str] = ["chunked" for name, value in fields if name == "transfer-encoding"]
    hosts = [value for name, value in fields if name == "host"]
    return event.method.decode(), event.target.decode(), hosts, (coded or lengths or [0])[0]


class _Seen:
    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.target, self.whole = "", False

    def on_url(self, url: bytes) -> None:
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.whole = True


def by_httptools(data: bytes) -> tuple[str, str, list[str]]:
    seen = _Seen()
    reader: Any = httptools.HttpRequestParser(seen)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        reader.feed_data(data)
    assert seen.whole
    return reader.get_method().decode(), seen.target, [value for name, value in seen.fields if name == "host"]


@given(HEADS | SOUP)
def test_what_is_passed_on_reads_the_same_to_others(data: bytes) -> None:
    request = ours(data)
    if request is None or request.method == "CONNECT":
        return
    wire = request.wire()
    again = parse_request(wire)
    assert (again.host, again.length, again.chunked) == (request.host, request.length, request.chunked)
    method, target, hosts, length = by_h11(wire)
    assert (method, target, hosts, length) == (request.method, request.target, [request.host], length_of(request))
    if request.method in {"GET", "POST", "OPTIONS"}:
        assert by_httptools(wire) == (request.method, request.target, [request.host])


@given(st.binary(max_size=400).map(lambda data: data + b"\r\n\r\n"))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    request = ours(data)
    assert request is None or request.wire().count(b"\r\n\r\n") == 1


def taken(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    held, written = bytearray(), b""
    for piece in pieces:
        held += piece
        written += body.feed(held)
    return written, bytes(held)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(1, 9), max_size=20))
def test_a_chunked_body_ends_where_others_end_it_however_it_is_cut(chunks: list[bytes], cuts: list[int]) -> None:
    data = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"000\r\n\r\nGET /next"
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    body = ChunkedBody()
    written, rest = taken(body, [*pieces, data[at:]])
    assert body.done
    assert rest == b"GET /next"
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + written)
    got, event = b"", reader.next_event()
    while not isinstance(event, h11.EndOfMessage):
        assert isinstance(event, h11.Request | h11.Data), event
        got += bytes(event.data) if isinstance(event, h11.Data) else b""
        event = reader.next_event()
    assert got == b"".join(chunks)
    assert reader.trailing_data == (b"", False)


@given(
    st.lists(
        st.sampled_from([b"0", b"5", b"a", b"\r\n", b"\n", b"\r", b";x", b" ", b"hello", b"X: y", b"-", b"\0"]),
        max_size=14,
    )
)
def test_no_chunks_break_the_reader_and_what_it_writes_is_one_body(parts: list[bytes]) -> None:
    body = ChunkedBody()
    held = bytearray(b"".join(parts))
    written = b""
    with contextlib.suppress(BadRequestError):
        written = body.feed(held)
    assert not body.done or written.endswith(b"0\r\n\r\n")


def test_a_body_of_a_length_takes_that_and_no_more() -> None:
    assert taken(LengthBody(5), [b"ab", b"cdeGET"]) == (b"abcde", b"GET")
    assert LengthBody(0).done
    assert taken(LengthBody(10**17), [b"ab"]) == (b"ab", b"")
