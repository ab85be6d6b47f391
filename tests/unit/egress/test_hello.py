import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.engines.egress.hello import Hello, NoHelloError, parse_hello

MOST = 32 << 10
LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def real_hello(name: str | None, *, least: ssl.TLSVersion | None = None, protocols: list[str] | None = None) -> bytes:
    """What this Python's TLS library sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if least is not None:
        context.maximum_version = least
    if protocols:
        context.set_alpn_protocols(protocols)
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


REAL = real_hello("api.example.com", protocols=["h2", "http/1.1"])


def server_saw(hello: bytes) -> tuple[bool, str | None]:
    """Whether this Python's TLS library takes it for a hello, and the name it reads in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    seen: list[str | None] = []
    context.sni_callback = lambda _, name, __: seen.append(name)
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    with contextlib.suppress(ssl.SSLError):
        server.do_handshake()
    return bool(seen), seen[0] if seen else None


def recut(hello: bytes, *sizes: int) -> bytes:
    """Send the same message in records of other sizes."""
    message, made = hello[5:], b""
    for size in sizes:
        part, message = message[:size], message[size:]
        made += hello[:3] + len(part).to_bytes(2) + part
    return made + (hello[:3] + len(message).to_bytes(2) + message if message else b"")


@given(st.lists(LABEL, min_size=1, max_size=6).map(".".join), st.sampled_from([None, ssl.TLSVersion.TLSv1_2]))
def test_the_name_read_is_the_one_a_real_client_asks_for(name: str, least: ssl.TLSVersion | None) -> None:
    assert parse_hello(real_hello(name, least=least), most_bytes=MOST) == Hello(name, encrypted=False)


def test_case_is_none_and_no_name_is_none() -> None:
    assert parse_hello(real_hello("API.Example.COM"), most_bytes=MOST) == Hello("api.example.com", encrypted=False)
    assert parse_hello(real_hello(None), most_bytes=MOST) == Hello(None, encrypted=False)


def test_a_hello_is_waited_for_whole() -> None:
    for length in range(len(REAL)):
        assert parse_hello(REAL[:length], most_bytes=MOST) is None
    assert parse_hello(REAL + b"\x17\x03\x03\x00\x05early", most_bytes=MOST) == Hello(
        "api.example.com", encrypted=False
    )


@pytest.mark.parametrize("sizes", [(1,), (4, 1), (3, 100), (40, 1, 1, 1), (50, 50)])
def test_a_hello_may_come_in_pieces(sizes: tuple[int, ...]) -> None:
    assert parse_hello(recut(REAL, *sizes), most_bytes=MOST) == Hello("api.example.com", encrypted=False)


def extended(kind: int, value: bytes) -> bytes:
    """The real hello with one more extension."""
    added = kind.to_bytes(2) + len(value).to_bytes(2) + value
    message = REAL[5:]
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2])
    at += 1 + message[at]
    length = int.from_bytes(message[at : at + 2]) + len(added)
    body = message[4:at] + length.to_bytes(2) + message[at + 2 :] + added
    message = b"\x01" + len(body).to_bytes(3) + body
    return REAL[:3] + len(message).to_bytes(2) + message


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_a_hidden_name_is_seen(kind: int) -> None:
    assert parse_hello(extended(kind, b"x" * 100), most_bytes=MOST) == Hello("api.example.com", encrypted=True)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x00\x02",  # of SSL 2
        b"\x16\x02\x00\x00\x05",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        REAL[:5] + b"\x01\x00\x00\x10" + REAL[9:],
        recut(REAL, 10)[:15] + b"\x17\x03\x03\x00\x01x",
        extended(0, b"\x00\x08\x00\x00\x05other"),
        extended(10, b"") ,
        recut(REAL, *[1] * 100),
        REAL[:3] + (len(REAL) - 4).to_bytes(2) + REAL[5:] + b"x",
    ],
    ids=lambda stream: f"{len(stream)} bytes",
)  # fmt: skip
def test_what_is_no_hello_one_can_judge_is_refused(stream: bytes) -> None:
    with pytest.raises(NoHelloError):
        parse_hello(stream, most_bytes=MOST)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\x00\x00", b"\x00\x04\x00\x00\x01", b"\x00\x04\x01\x00\x01a", b"\x00\x03\x00\x00\x00",
        b"\x00\x08\x00\x00\x01a\x00\x00\x01b", b"\x00\x04\x00\x00\x01\xff", b"\x00\x05\x00\x00\x02a\x00",
        b"\x00\x04\x00\x00\x01ax", b"\x00\x05\x00\x00\x02a ",
    ],
)  # fmt: skip
def test_a_list_of_names_that_might_be_read_otherwise_is_refused(value: bytes) -> None:
    plain = real_hello(None)
    body = plain[9:]
    at = 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + body[at]
    more = b"\x00\x00" + len(value).to_bytes(2) + value
    body = body[:at] + (int.from_bytes(body[at : at + 2]) + len(more)).to_bytes(2) + body[at + 2 :] + more
    message = b"\x01" + len(body).to_bytes(3) + body
    with pytest.raises(NoHelloError):
        parse_hello(plain[:3] + len(message).to_bytes(2) + message, most_bytes=MOST)


def test_a_hello_longer_than_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(NoHelloError, match="too long"):
        parse_hello(REAL, most_bytes=200)
    with pytest.raises(NoHelloError, match="too long"):
        parse_hello(REAL[:5], most_bytes=200)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: REAL[:9] + tail))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(NoHelloError):
        parse_hello(data, most_bytes=MOST)


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255), st.integers(0, len(REAL) - 1), st.integers(0, 255))
def test_where_a_tls_library_reads_a_name_this_reads_the_same_or_nothing(
    at: int, one: int, also: int, two: int
) -> None:
    data = bytearray(REAL)
    data[at], data[also] = one, two
    try:
        hello = parse_hello(bytes(data), most_bytes=MOST)
    except NoHelloError:
        return
    taken, name = server_saw(bytes(data))
    if taken and hello is not None:
        assert hello.name == (None if name is None else name.lower())
