"""What is not allowed does not pass, whatever way it is asked for, and is told with its reason."""

import ipaddress
from typing import Any

import pytest
from tests.integration.egress.conftest import PLAIN, read
from tests.unit.egress.test_hello import extended

API, OTHER, PRIVATE = "api.example.com", "other.example.com", "db.corp.internal"


async def test_a_name_that_is_not_allowed_does_not_exist_and_is_asked_of_nobody(ground: Any) -> None:
    ground.allow(API, 80)
    names = [
        OTHER,
        "a.api.example.com",
        f"{'secret' * 10}.{OTHER}",
        "localhost",
        "example.com",
        "1.1.0.127.in-addr.arpa",
    ]
    ran = await ground.run(f"say(*[ask(name) for name in {names!r}]); say(ask('{API}'))")
    first, second = ran.out.splitlines()
    assert read(first) == [[3, 0, None]] * len(names)
    assert read(second) == [[0, 1, "127.1.0.1"]]
    assert ran.denials == [("dns", name, 0, "allowed_hosts") for name in names]
    assert ground.outside.resolved == []


async def test_a_program_that_looks_a_name_up_reads_in_one_line_why_not(ground: Any) -> None:
    ran = await ground.run(f"""
try: where('{OTHER}')
except socket.gaierror as e: say(e.errno)
""")
    assert read(ran.out) == [-2]
    assert ran.events[0].line() == (
        f"network: dns {OTHER} denied: {OTHER}:80 is not listed (rule allowed_hosts) List it."
    )
    assert len(ran.events) == 1


@pytest.mark.parametrize("kind", [2, 5, 12, 15, 16, 33, 35, 252, 255, 257, 1234])
async def test_of_an_allowed_name_nothing_else_is_told(ground: Any, kind: int) -> None:
    ground.allow(API, 80)
    ran = await ground.run(f"say(ask('{API}', {kind}))")
    assert read(ran.out) == [[3, 0, None]]
    assert ran.denials == [("dns", API, 0, "dns_type")]


async def test_more_new_names_a_minute_than_the_cap_are_refused(ground: Any) -> None:
    from tenantry.engines.egress import Caps

    ground.allow(API, 80)
    code = f"say(*[ask(f'd{{n}}.{OTHER}')[0] for n in range(5)]); say(ask('{API}')[0], ask('d0.{OTHER}')[0])"
    ran = await ground.run(code, caps=Caps(new_names_per_minute=3))
    first, second = ran.out.splitlines()
    assert read(first) == [3, 3, 3, 5, 5]
    assert read(second) == [5, 3]
    assert ran.denials[3:5] == [("cap", f"d{n}.{OTHER}", 0, "new_names_per_minute") for n in (3, 4)]


async def test_a_port_that_is_not_allowed_is_closed_to_an_allowed_name(ground: Any) -> None:
    ground.allow(API, 443)
    ran = await ground.run(f"""
say(talk(('{API}', 80), get('{API}')))
say(talk(('{API}', {PLAIN}), b'x'))
say(talk(('{API}', 22), b'x'))
""")
    web, plain, closed = (read(line)[0] for line in ran.out.splitlines())
    assert web.startswith("HTTP/1.1 403 Forbidden\r\n")
    assert "Rule: allowed_hosts\nList it.\n" in web
    assert plain in {"", "ConnectionResetError ECONNRESET"}
    assert closed == "ConnectionRefusedError ECONNREFUSED"
    assert ran.denials == [("http", API, 80, "allowed_hosts"), ("tcp", API, PLAIN, "allowed_hosts")]
    assert ground.outside.connections == 0


NOWHERE = "0.0.0.0"  # noqa: S104 - to see it refused
SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "0x7f000001", "0x7f.1", "2130706433", "017700000001", "0177.0.0.1", "0", NOWHERE,
    "::ffff:127.0.0.1", "127.1.0.77", "127.1.255.255", "127.200.0.1",
]  # fmt: skip
FOREIGN = [
    "10.0.0.1",
    "169.254.169.254",
    "100.100.100.200",
    "192.168.1.1",
    "1.1.1.1",
    "::1",
    "fd00:ec2::254",
    "2606:4700::1",
]


async def test_an_address_no_name_leads_to_is_no_way_out_however_it_is_spelled(ground: Any) -> None:
    ground.allow(API, 80, 443, PLAIN)
    ran = await ground.run(f"""
where('{API}')
for a in {SPELLINGS!r}: say(*[talk((a, p), get('{API}'), wait=2) for p in (80, 443, {PLAIN})])
for a in {FOREIGN!r}: say(*[talk((a, p), get('{API}'), wait=2) for p in (80, 443, {PLAIN})])
""")
    lines = [read(line) for line in ran.out.splitlines()]
    for spelling, answers in zip(SPELLINGS + FOREIGN, lines, strict=True):
        assert not any("hello" in answer or "200 OK" in answer for answer in answers), spelling
    assert {answer for answers in lines[len(SPELLINGS) :] for answer in answers} <= {
        "OSError ENETUNREACH", "ConnectionRefusedError ECONNREFUSED", "OSError EADDRNOTAVAIL",
    }  # fmt: skip
    assert {kind for kind, *_ in ran.denials} == {"direct"}
    assert len(ran.denials) == 3 * len(SPELLINGS)
    assert (ground.outside.connections, ground.outside.resolved) == (0, [])


async def test_an_address_that_is_allowed_is_reached_by_its_one_spelling_alone(ground: Any) -> None:
    one = ipaddress.IPv4Address(ground.outside.address)
    ground.allow(str(one), 80)
    a, b, c, d = one.packed
    others = [str(int(one)), hex(int(one)), f"0{int(one):o}", f"{a}.{b}.{(c << 8) + d}", f"0{a:o}.{b}.{c}.{d}",
              f"0x{a:x}.{b}.{c}.{d}", f"0{a}.{b}.{c}.{d}", f"[::ffff:{one}]", f"[64:ff9b::{one}]"]  # fmt: skip
    ran = await ground.run(f"""
for h in {[str(one), *others]!r}:
    say(talk(('127.0.0.1', 3128), f'GET http://{{h}}/ HTTP/1.1\\r\\nHost: {{h}}\\r\\n\\r\\n'.encode())[:12])
""")
    assert [read(line)[0] for line in ran.out.splitlines()] == ["HTTP/1.1 200"] + ["HTTP/1.1 403"] * len(others)
    assert ground.outside.resolved == []


async def test_the_proxy_reads_no_spelling_of_this_machine_as_an_allowed_host(ground: Any) -> None:
    hosts = [*SPELLINGS[:9], "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "169.254.169.254", "[fd00:ec2::254]",
             "[64:ff9b::a9fe:a9fe]", "localhost", "LOCALHOST.", ""]  # fmt: skip
    ran = await ground.run(f"""
for h in {hosts!r}:
    say(talk(('127.0.0.1', 3128), f'CONNECT {{h}}:80 HTTP/1.1\\r\\n\\r\\n'.encode())[:12])
    say(talk(('127.0.0.1', 3128), f'GET http://{{h}}/ HTTP/1.1\\r\\nHost: {{h}}\\r\\n\\r\\n'.encode())[:12])
""")
    assert {read(line)[0] for line in ran.out.splitlines()} <= {"HTTP/1.1 403", "HTTP/1.1 400"}
    assert len(ran.denials) == 2 * len(hosts)
    assert (ground.outside.connections, ground.outside.resolved) == (0, [])


LURKING = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
           "168.63.129.16", NOWHERE, "255.255.255.255", "224.0.0.1", "::1", "fe80::1", "fd00:ec2::254", "fc00::1",
           "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::", "ff02::1", "none", "fe80::1%lo"]  # fmt: skip


@pytest.mark.parametrize("address", LURKING)
async def test_an_allowed_public_name_that_leads_inside_is_refused(ground: Any, address: str) -> None:
    ground.allow(API, 80, private=False)
    ground.outside.answers[API] = [[address]]
    ran = await ground.run(f"say(talk(('{API}', 80), get('{API}')))")
    assert read(ran.out)[0].startswith("HTTP/1.1 403")
    assert ran.denials == [("http", API, 80, "private_address")]


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", NOWHERE, "224.0.0.1", "::"])
async def test_metadata_is_reached_by_no_name_even_of_a_private_host(ground: Any, address: str) -> None:
    ground.allow(PRIVATE, 80)
    ground.outside.answers[PRIVATE] = [[address]]
    ran = await ground.run(f"say(talk(('{PRIVATE}', 80), get('{PRIVATE}')))")
    assert read(ran.out)[0].startswith("HTTP/1.1 403")
    assert ran.denials == [("http", PRIVATE, 80, "private_address")]


async def test_a_name_that_changes_its_mind_is_resolved_once_and_dialled_where_it_was_looked_at(ground: Any) -> None:
    """The first answer is judged and dialled; the second would be this machine."""
    ground.allow(API, 80, private=False)
    ground.outside.answers[API] = [["192.0.2.1", "203.0.113.1"], [ground.outside.address]]
    ran = await ground.run(f"say(talk(('{API}', 80), get('{API}')))")
    assert ground.outside.resolved == [API]
    assert read(ran.out)[0].startswith("HTTP/1.1 403")
    assert ground.outside.connections == 0
    ground.outside.clear()
    ground.allow(API, 80)
    ground.outside.answers[API] = [["127.0.0.9", ground.outside.address], ["127.0.0.9"]]
    ran = await ground.run(f"say(talk(('{API}', 80), get('{API}')))")
    assert "hello /" in read(ran.out)[0]
    assert ground.outside.resolved == [API]


async def test_the_name_in_a_hello_must_be_the_one_that_was_resolved(ground: Any) -> None:
    ground.allow(API, 443)
    ran = await ground.run(f"""
p = ('{API}', 443)
say(talk(p, get('{API}'), tls='{API}')[-7:], talk(p, get('{API}'), tls='API.EXAMPLE.COM')[-7:])
say(talk(p, b'', tls='{OTHER}'), talk(p, b'', tls=''), talk(p, b'', tls='x.{API}'))
say(talk(p, get('{API}')), talk(p, b'SSH-2.0-x\\r\\n'), talk(p, bytes(100)))
""")
    good, bad, plain = (read(line) for line in ran.out.splitlines())
    assert good == ["hello /", "hello /"]
    assert bad == ["SSLError TLSV1_ALERT_ACCESS_DENIED"] * 3
    assert plain == ["\x15\x03\x01\x00\x02\x021"] * 3
    assert [rule for *_, rule in ran.denials] == ["tls_name"] * 3 + ["tls_hello"] * 3
    assert ground.outside.connections == 2


async def test_a_tunnel_is_held_to_its_name_as_a_connection_is(ground: Any) -> None:
    ground.allow(API, 80, 443)
    ran = await ground.run(f"""
def tunnel(port, name):
    c = http.client.HTTPConnection('127.0.0.1', 3128); c.set_tunnel('{API}', port); c.connect()
    return c.sock
try: ssl._create_unverified_context().wrap_socket(tunnel(443, 0), server_hostname='{OTHER}')
except ssl.SSLError as e: say(e.reason)
s = tunnel(80, 0); s.sendall(get('{OTHER}')); say(s.recv(100).decode()[:12])
say(talk(('127.0.0.1', 3128), b'CONNECT {OTHER}:443 HTTP/1.1\\r\\nHost: {API}:443\\r\\n\\r\\n')[:12])
say(talk(('127.0.0.1', 3128), b'CONNECT {API}:443 HTTP/1.1\\r\\nHost: {OTHER}:443\\r\\n\\r\\n')[:12])
say(talk(('127.0.0.1', 3128), b'GET http://{API}/ HTTP/1.1\\r\\nHost: {OTHER}\\r\\n\\r\\n')[:12])
say(talk(('127.0.0.1', 3128), b'GET https://{API}/ HTTP/1.1\\r\\nHost: {API}\\r\\n\\r\\n')[:12])
say(talk(('127.0.0.1', 3128), b'GET / HTTP/1.1\\r\\nHost: {API}\\r\\n\\r\\n')[:12])
say(talk(('127.0.0.1', 3128), b'GET http://u@{API}/ HTTP/1.1\\r\\nHost: {API}\\r\\n\\r\\n')[:12])
""")
    assert [read(line)[0] for line in ran.out.splitlines()] == [
        "TLSV1_ALERT_ACCESS_DENIED", "HTTP/1.1 403", "HTTP/1.1 403", *["HTTP/1.1 400"] * 5,
    ]  # fmt: skip
    assert ground.outside.heads == []


async def test_every_request_of_a_connection_must_name_its_host(ground: Any) -> None:
    ground.allow(API, 80)
    ground.allow(OTHER, 80)
    ran = await ground.run(f"say(talk(('{API}', 80), get('{API}', path='/1', close=False), get('{OTHER}', path='/2')))")
    answer = read(ran.out)[0]
    assert "hello /1" in answer
    assert "HTTP/1.1 403 Forbidden" in answer
    assert [(e.kind, e.allowed, e.rule) for e in ran.events[1:]] == [
        ("http", True, f"allowed_hosts: {API}"), ("http", False, "http_host"),
    ]  # fmt: skip
    assert [head.split("\r\n")[0] for head in ground.outside.heads] == ["GET /1 HTTP/1.1"]


HIDDEN = f"GET /hidden HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"
ENDED = f"0\r\n\r\n{HIDDEN}"


def post(*fields: str, body: str = "", host: str = API) -> str:
    return "\r\n".join(["POST / HTTP/1.1", f"Host: {host}", *fields, "", body])


SMUGGLED = {
    "two lengths": post(f"Content-Length: {len(ENDED)}", "Transfer-Encoding: chunked", body=ENDED),
    "length twice": post("Content-Length: 0", f"Content-Length: {len(HIDDEN)}", body=HIDDEN),
    "coding twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=ENDED),
    "coding of another kind": post("Transfer-Encoding: xchunked", body=ENDED),
    "host twice": post(f"Host: {OTHER}"),
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "folded": post("X: a", f" Host: {OTHER}"),
    "bare line feeds": f"GET / HTTP/1.1\nHost: {API}\n\n\r\n\r\n",
    "a bare line feed in a field": post(f"X: a\nHost: {OTHER}"),
    "a bare carriage return": post(f"X: a\rHost: {OTHER}"),
    "a space before the colon": post("Transfer-Encoding : chunked"),
    "NUL": post("X: a\0b"),
    "another absolute address": f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {API}\r\n\r\n",
    "a signed length": post("Content-Length: +5", body="12345"),
    "two numbers": post("Content-Length: 5, 5", body="12345"),
    "an underscore": post("Content_Length: 5"),
    "a tunnel": f"CONNECT {API}:80 HTTP/1.1\r\nHost: {API}\r\n\r\n",
    "another protocol": post("Upgrade: websocket", "Connection: Upgrade"),
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": "GET /\r\n\r\n",
    "a long head": post(f"X: {'x' * 40000}"),
    "an endless head": f"GET / HTTP/1.1\r\nX: {'x' * 40000}",
}


@pytest.mark.parametrize("way", SMUGGLED)
async def test_a_request_that_might_be_read_in_two_ways_reaches_nobody(ground: Any, way: str) -> None:
    ground.allow(API, 80)
    ground.allow(OTHER, 80)
    ran = await ground.run(f"say(talk(('{API}', 80), {SMUGGLED[way].encode()!r}))")
    assert read(ran.out)[0][:12] in {"HTTP/1.1 400", "HTTP/1.1 403", "HTTP/1.1 431"}
    assert ground.outside.heads == []
    assert len(ran.denials) == 1


@pytest.mark.parametrize(
    "body",
    ["5;x=y\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "0\r\nX: y\r\n\r\n", "-1\r\n", "0x5\r\n", "5\nhello\n"],
)
async def test_a_body_that_might_end_elsewhere_ends_the_connection(ground: Any, body: str) -> None:
    ground.allow(API, 80)
    head = f"POST /in HTTP/1.1\r\nHost: {API}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ran = await ground.run(f"say(talk(('{API}', 80), {(head + body + HIDDEN).encode()!r}))")
    assert "hidden" not in read(ran.out)[0]
    assert ran.denials[0][0::3] == ("http", "http_request")
    assert not any("hidden" in head for head in ground.outside.heads)


async def test_what_goes_on_is_written_anew_and_nothing_of_the_hop(ground: Any) -> None:
    ground.allow(API, 80)
    fields = [f"hOsT:   {API}  ", "Connection: close, X-A, Upgrade", "X-A: 1", "Upgrade: h2c", "HTTP2-Settings: x"]
    head = "\r\n".join(["GET /a HTTP/1.1", *fields, "Proxy-Authorization: y", "", ""])
    await ground.run(f"say(talk(('{API}', 80), {head.encode()!r}))")
    assert ground.outside.heads == [f"GET /a HTTP/1.1\r\nhOsT: {API}\r\nX-A: 1\r\nConnection: close\r\n\r\n"]


async def test_no_datagram_but_to_the_gateway_and_no_other_family(ground: Any) -> None:
    ground.allow(API, 80)
    ran = await ground.run(f"""
a = where('{API}')
for place in ((a, 53), (a, 443), ('127.0.0.1', 5353), ('1.1.1.1', 53)):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.3)
    try: s.connect(place); s.send(b'x' * 20); say(s.recv(100).hex())
    except OSError as e: say(type(e).__name__)
""")
    assert {read(line)[0] for line in ran.out.splitlines()} <= {"ConnectionRefusedError", "OSError", "TimeoutError"}


async def test_a_rule_that_fails_denies(ground: Any) -> None:
    def broken(host: str, port: int) -> Any:
        raise LookupError(host, port)

    ran = await ground.run(f"say(ask('{API}'))", decide=broken)
    assert read(ran.out) == [[3, 0, None]]
    assert ran.denials == [("dns", API, 0, "error")]


async def test_a_hello_that_hides_a_name_is_refused(ground: Any) -> None:
    ground.allow(API, 443)
    ran = await ground.run(f"say(talk(('{API}', 443), {extended(0xFE0D, b'x' * 100)!r}))")
    assert read(ran.out) == ["\x15\x03\x01\x00\x02\x021"]
    assert ran.denials == [("tls", API, 443, "tls_encrypted_hello")]
    assert ground.outside.resolved == []


async def test_a_place_that_does_not_answer_is_no_denial(ground: Any) -> None:
    ground.allow(API, 80)
    ground.allow(OTHER, 80)
    ground.outside.answers[API] = [["127.0.0.9"]]
    ground.outside.answers[OTHER] = [OSError("no such name")]
    ran = await ground.run(f"say(*[talk((name, 80), get(name))[:12] for name in ('{API}', '{OTHER}')])")
    assert read(ran.out) == ["HTTP/1.1 502"] * 2
    assert [(e.kind, e.rule) for e in ran.events if e.kind != "dns"] == [("failed", "connect"), ("failed", "resolve")]
    assert ran.events[-1].line() == f"network: {OTHER}:80 cannot be reached: {OTHER} has no address here"
    assert ran.gateway.usage.denials == 0
