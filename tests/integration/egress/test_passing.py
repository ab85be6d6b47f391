"""What is allowed works, and is told."""

import asyncio
from typing import Any

from tests.integration.egress.conftest import PLAIN, read

from tenantry.engines.egress import Usage

API = "api.example.com"


async def test_an_allowed_request_is_answered_and_told(ground: Any) -> None:
    ground.allow(API, 80)
    ran = await ground.run(
        f"c = http.client.HTTPConnection('{API}'); c.request('GET', '/a'); print(c.getresponse().read())"
    )
    assert ran.out == "b'hello /a'\n"
    assert [(e.kind, e.host, e.port, e.allowed) for e in ran.events] == [("dns", API, 0, True), ("http", API, 80, True)]
    assert ran.events[1].bytes_sent > 50
    assert ran.events[1].bytes_received > 40
    assert ran.gateway.usage == Usage(
        bytes_sent=ran.events[1].bytes_sent, bytes_received=ran.events[1].bytes_received, connections=1, denials=0
    )
    assert ground.outside.resolved == [API]
    assert ran.sandbox.receipt.network == "gateway"
    assert ran.sandbox.receipt.interfaces == ("lo",)


async def test_requests_of_one_connection_are_each_judged_and_told_and_the_name_resolved_once(ground: Any) -> None:
    ground.allow(API, 80)
    ran = await ground.run(f"""
c = http.client.HTTPConnection('{API}')
for body in (None, b'abc', iter([b'de', b'f' * 70000])):
    c.request('POST', '/a', body=body, encode_chunked=True)
    say(c.getresponse().read().decode())
""")
    assert ran.out.splitlines() == ['["hello /a"]'] * 3
    assert [(e.kind, e.allowed) for e in ran.events] == [("dns", True), *[("http", True)] * 3]
    assert ran.events[-1].bytes_sent > 70000
    assert (ground.outside.connections, ground.outside.resolved) == (1, [API])
    assert len(ground.outside.heads) == 3


async def test_tls_to_the_name_it_asks_for_passes_untouched(ground: Any) -> None:
    ground.allow(API, 443)
    ran = await ground.run(f"""
c = http.client.HTTPSConnection('{API}', context=ssl._create_unverified_context())
for n in range(2):
    c.request('GET', '/bytes/300000')
    say(len(c.getresponse().read()))
""")
    assert ran.out == "[300000]\n[300000]\n"
    assert [(e.kind, e.allowed) for e in ran.events] == [("dns", True), ("tls", True)]
    assert ran.events[1].bytes_received > 600_000


async def test_any_protocol_passes_by_name_and_port_and_each_side_may_end_first(ground: Any) -> None:
    ground.allow(API, PLAIN)
    ran = await ground.run(f"""
s = socket.create_connection(('{API}', {PLAIN}))
s.sendall(b'x' * 500000); s.shutdown(socket.SHUT_WR)
n = 0
while d := s.recv(65536): n += len(d)
say(n)
""")
    assert ran.out == "[500000]\n"
    assert [(e.kind, e.bytes_sent, e.bytes_received) for e in ran.events if e.kind != "dns"] == [
        ("tcp", 500_000, 500_000)
    ]


async def test_the_explicit_proxy_serves_tunnels_and_addresses(ground: Any) -> None:
    ground.allow(API, 80, 443, PLAIN)
    ran = await ground.run(f"""
c = http.client.HTTPSConnection('127.0.0.1', 3128, context=ssl._create_unverified_context())
c.set_tunnel('{API}', 443)
c.request('GET', '/s'); say(c.getresponse().read().decode())
c = http.client.HTTPConnection('127.0.0.1', 3128)
c.request('GET', 'http://{API}/p', headers={{'Host': '{API}'}}); say(c.getresponse().read().decode())
c = http.client.HTTPConnection('127.0.0.1', 3128); c.set_tunnel('{API}', 80)
c.request('GET', '/t'); say(c.getresponse().read().decode())
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall(b'CONNECT {API}:{PLAIN} HTTP/1.1\\r\\n\\r\\n'); say(s.recv(100).decode()[:12])
s.sendall(b'ping'); say(s.recv(10).decode())
""")
    assert [read(line)[0] for line in ran.out.splitlines()] == [
        "hello /s", "hello /p", "hello /t", "HTTP/1.1 200", "ping",
    ]  # fmt: skip
    assert [(e.kind, e.port) for e in ran.events if e.allowed] == [
        ("tls", 443), ("proxy", 80), ("proxy", 80), ("http", 80), ("proxy", PLAIN),
    ]  # fmt: skip
    assert "connection: close" in ground.outside.heads[1].lower()


async def test_every_name_has_one_address_of_its_own_and_only_addresses_are_told(ground: Any) -> None:
    ground.allow(API, 80)
    ground.allow("other.example.com", 443)
    ran = await ground.run(f"""
say(ask('{API}'), ask('API.example.COM'), ask('{API}', tcp=True), ask('other.example.com'))
say([ask('{API}', kind)[:2] for kind in (28, 64, 65)])
""")
    first, second = ran.out.splitlines()
    assert read(first) == [[0, 1, "127.1.0.1"]] * 3 + [[0, 1, "127.1.0.2"]]
    assert read(second) == [[[0, 0]] * 3]
    assert ground.outside.resolved == []


async def test_a_sandbox_without_a_network_is_as_it_was(ground: Any) -> None:
    from tenantry.engines.jail.types import Spec

    said = bytearray()
    code = "print(open('/etc/resolv.conf').read(), [x.split()[1] for x in open('/proc/net/tcp')][1:])"
    spec = Spec(image=ground.host, command=("python3", "-c", code))
    _, receipt = await ground.jail.run(spec, lambda _, text: said.extend(text))
    assert said.decode() == "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n []\n"
    assert receipt.network == "none"


async def test_many_at_once(ground: Any) -> None:
    ground.allow(API, 80)
    code = f"""
import threading
def go():
    for _ in range(10):
        c = http.client.HTTPConnection('{API}'); c.request('GET', '/a'); assert c.getresponse().read() == b'hello /a'
        c.close()
t = [threading.Thread(target=go) for _ in range(8)]
[x.start() for x in t]; [x.join() for x in t]
print('done')
"""
    rans = await asyncio.gather(*(ground.run(code) for _ in range(3)))
    assert [ran.out for ran in rans] == ["done\n"] * 3
    assert [ran.gateway.usage.connections for ran in rans] == [80] * 3
