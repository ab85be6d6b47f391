"""Values put into requests on their way out: where they go, and that they are nowhere else."""

import asyncio
import base64
import gzip
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.authority import Authority as Issuer
from tests.integration.egress.conftest import read

from tenantry.engines.egress import Authority, Decision, Injection, Injector, trusting_context
from tenantry.engines.jail.types import CERTIFICATES
from tenantry.kit.hosts import parse_host

API, OTHER = "api.example.com", "other.example.com"
PLACEHOLDER = "tnt-placeholder-0123456789abcdef"
VALUE = "canary-b5f1d2c3-value"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
SYSTEM = BUNDLE.read_text() if BUNDLE.is_file() else ""
TRUST = {"SSL_CERT_FILE": CERTIFICATES, "CURL_CA_BUNDLE": CERTIFICATES, "TOKEN": PLACEHOLDER}
CALL = f"""
import base64
T = os.environ["TOKEN"]
def call(path="/", host="{API}", **fields):
    c = http.client.HTTPSConnection(host, timeout=10)
    c.request("GET", path, headers={{k.replace("_", "-"): v for k, v in fields.items()}})
    a = c.getresponse()
    return a.status, a.read().decode("latin-1"), dict(a.getheaders())
"""


@dataclass
class Server:
    """Speaks TLS at 443 of an address; answers with what it was asked, in several ways."""

    address: str
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    shaken: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    offered: list[str | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.shaken += 1
        self.offered.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode("latin-1"))
                self.asked.set()
                lengths = [int(x[15:]) for x in self.heads[-1].split("\r\n") if x.lower().startswith("content-length:")]
                self.bodies.append(await reader.readexactly(sum(lengths)))
                for piece in answer(head.split()[1].decode(), head):
                    writer.write(piece)
                    await writer.drain()
                if head.split()[1] == b"/torn":
                    writer.transport.abort()
                if head.split()[1] in (b"/until", b"/cut"):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


OK = b"HTTP/1.1 200 OK\r\n"


def answer(path: str, head: bytes) -> list[bytes]:
    """What is said to a path: the request's head, written in one way or another."""
    if path in WAYS:
        return WAYS[path](head)
    size = int(path[7:]) if path.startswith("/bytes/") else 0
    return plainly(b"x" * size or head)


def plainly(body: bytes) -> list[bytes]:
    return [OK + b"Content-Length: %d\r\n\r\n" % len(body) + body]


def in_chunks(head: bytes) -> list[bytes]:
    chunks = [head[at : at + 7] for at in range(0, len(head), 7)]
    framed = [b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    trailer = b"0\r\nX-Trailer: %b\r\n\r\n" % VALUE.encode()
    return [OK + b"Transfer-Encoding: chunked\r\n\r\n", *framed, trailer]


def compressed(head: bytes) -> list[bytes]:
    packed = gzip.compress(head)
    return [OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed]


def in_a_header(head: bytes) -> list[bytes]:
    line = next(x for x in head.split(b"\r\n") if x.lower().startswith(b"authorization"))
    return [OK + b"X-Echo: " + line + b"\r\nContent-Length: 0\r\n\r\n"]


WAYS: dict[str, Callable[[bytes], list[bytes]]] = {
    "/chunked": in_chunks,
    "/until": lambda head: [OK + b"Connection: close\r\n\r\n", *(head[n : n + 5] for n in range(0, len(head), 5))],
    "/gzip": compressed,
    "/header": in_a_header,
    "/cut": lambda _: [OK + b"Content-Length: 100\r\n\r\nhalf"],
    "/torn": lambda _: [OK + b"Connection: close\r\n\r\nhalf"],
    "/hold": lambda _: [],
}


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("outside")


@pytest.fixture(scope="module")
async def served(outside: Any, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """It lies at the address after the ordinary outside's."""
    folder = tmp_path_factory.mktemp("injection")
    place = Server(str(parse_host(outside.address).address + 1))  # type: ignore[operator]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        *issuer.issue("api", server=True, by_address=False, names=[API, OTHER]).write(folder, "api")
    )
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = await asyncio.start_server(place.serve, place.address, 443, ssl=context)
    yield place
    server.close()


@dataclass
class Stage:
    ground: Any
    server: Server
    trust: ssl.SSLContext
    rules: list[Injection]

    def injector(self, *, until: float = 600) -> Injector:
        hosts = list({rule.host for rule in self.rules})
        return Injector(self.rules, authority=Authority(hosts, seconds=until), trust=self.trust)

    async def run(self, code: str, **fields: Any) -> Any:
        injector = fields.pop("injector", None) or self.injector()
        fields = {"env": TRUST, "authority": injector.authority.pem, **fields}
        return await self.ground.run(CALL + code, injector=injector, **fields)


@pytest.fixture
async def stage(ground: Any, served: Server, issuer: Issuer, tmp_path: Path) -> Stage:
    served.heads.clear()
    served.bodies.clear()
    served.offered.clear()
    served.shaken = 0
    served.asked.clear()
    for name in (API, OTHER):
        ground.allow(name, 443)
        ground.outside.answers[name] = [[served.address]]
    rule = Injection(name="API_TOKEN", host=parse_host(API), placeholder=PLACEHOLDER, value=VALUE)
    return Stage(ground, served, trusting_context(issuer.write(tmp_path)), [rule])


def sent(server: Server, name: str) -> list[str]:
    lines = [line for head in server.heads for line in head.split("\r\n")]
    return [line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name.lower()}:")]


async def test_a_placeholder_in_a_header_arrives_as_the_value_and_is_told_by_its_name(stage: Stage) -> None:
    ran = await stage.run("say(call(Authorization='Bearer ' + T, X_Other='a ' + T)[0])")
    assert ran.out == "[200]\n"
    assert sent(stage.server, "Authorization") == [f"Bearer {VALUE}"]
    assert sent(stage.server, "X-Other") == [f"a {VALUE}"]
    assert sent(stage.server, "Host") == [API]
    told = [(e.kind, e.host, e.port, e.injected) for e in ran.events if e.kind != "dns"]
    assert told == [("https", API, 443, ("API_TOKEN",))]
    assert VALUE not in str(ran.events) + "".join(event.line() for event in ran.events)
    assert ran.events[-1].bytes_received > 100
    assert ran.gateway.usage.connections == 1
    assert ran.gateway.usage.bytes_received >= ran.events[-1].bytes_received
    assert stage.server.offered == ["http/1.1"]


async def test_basic_is_decoded_filled_and_encoded(stage: Stage) -> None:
    code = "say(call(Authorization='Basic ' + base64.b64encode(('me:' + T).encode()).decode())[0])"
    await stage.run(code)
    assert sent(stage.server, "Authorization") == ["Basic " + base64.b64encode(f"me:{VALUE}".encode()).decode()]


async def test_a_header_may_be_set_by_the_gateway_alone_and_what_looks_like_it_is_dropped(stage: Stage) -> None:
    stage.rules = [Injection(name="K", host=parse_host(API), placeholder=PLACEHOLDER, value=VALUE, header="X-Api-Key")]
    await stage.run("call(**{'x_api-key': 'mine', 'X-Other': T}); call()")
    assert sent(stage.server, "X-Api-Key") == [VALUE, VALUE]
    assert sent(stage.server, "X-Other") == [PLACEHOLDER]
    assert "mine" not in "".join(stage.server.heads)


async def test_bodies_pass_as_they_are_and_a_placeholder_in_an_address_is_refused(stage: Stage) -> None:
    ran = await stage.run(f"""
c = http.client.HTTPSConnection('{API}')
c.request('POST', '/', body=T); say(c.getresponse().status)
say(*call('/?key=' + T)[:2])
""")
    first, second = map(read, ran.out.splitlines())
    assert first == [200]
    assert second[0] == 403
    assert "the placeholder of API_TOKEN is in the address" in second[1]
    assert stage.server.bodies == [PLACEHOLDER.encode()]
    assert ran.denials == [("https", API, 443, "inject_target")]


async def test_another_host_is_sent_the_placeholder(stage: Stage, tmp_path: Path, issuer: Issuer) -> None:
    stage.ground.allow(OTHER, 443)
    ran = await stage.run(
        f"""
c = http.client.HTTPSConnection('{OTHER}', context=ssl._create_unverified_context())
c.request('GET', '/', headers={{'Authorization': 'Bearer ' + T}}); say(c.getresponse().status)
say(c.sock.getpeercert(True) is not None)
"""
    )
    assert ran.out == "[200]\n[true]\n"
    assert sent(stage.server, "Authorization") == [f"Bearer {PLACEHOLDER}"]
    assert [(e.kind, e.host, e.injected) for e in ran.events if e.kind != "dns"] == [("tls", OTHER, ())]


async def test_the_same_host_in_clear_is_refused_with_the_remedy(stage: Stage) -> None:
    stage.ground.allow(API, 80)
    stage.ground.outside.answers.clear()
    ran = await stage.run(f"""
say(talk(('{API}', 80), get('{API}').replace(b'Connection', b'X: ' + T.encode() + b'\\r\\nConnection')))
say(talk(('127.0.0.1', 3128), f'GET http://{API}/ HTTP/1.1\\r\\nHost: {API}\\r\\nX: {{T}}\\r\\n\\r\\n'.encode()))
say(talk(('{API}', 80), get('{API}'))[:12])
""")
    first, second, third = (read(line)[0] for line in ran.out.splitlines())
    for refused in (first, second):
        assert refused.startswith("HTTP/1.1 403")
        assert f"Use https://{API}/." in refused
    assert third == "HTTP/1.1 200"
    assert len(stage.ground.outside.heads) == 1


async def test_the_proxy_is_held_to_the_same(stage: Stage) -> None:
    ran = await stage.run(f"""
c = http.client.HTTPSConnection('127.0.0.1', 3128); c.set_tunnel('{API}', 443)
for _ in range(3):
    c.request('GET', '/', headers={{'Authorization': 'Bearer ' + T}}); a = c.getresponse(); a.read(); say(a.status)
""")
    assert ran.out == "[200]\n" * 3
    assert sent(stage.server, "Authorization") == [f"Bearer {VALUE}"] * 3
    assert stage.server.shaken == 1
    assert [(e.kind, e.injected) for e in ran.events if e.injected] == [("https", ("API_TOKEN",))] * 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_curl_and_python_of_this_machine_trust_it_without_being_told(stage: Stage) -> None:
    ran = await stage.run(f"""
import subprocess
done = subprocess.run(['curl', '-sS', '-o', '/dev/null', '-w', '%{{http_code}} %{{http_version}}', '-H',
                       'Authorization: Bearer ' + T, 'https://{API}/'], capture_output=True, text=True)
say(done.stdout, done.stderr, call()[0], oct(os.stat('{CERTIFICATES}').st_mode))
try: os.chmod('{CERTIFICATES}', 0o644)
except OSError as e: say(errno.errorcode[e.errno])
say(open('{CERTIFICATES}').read().count('BEGIN CERTIFICATE'))
""")
    lines = [read(line) for line in ran.out.splitlines()]
    assert lines[0] == ["200 1.1", "", 200, "0o100444"]
    assert lines[1] == ["EROFS"]
    assert lines[2] == [len(SYSTEM.split("BEGIN CERTIFICATE"))]
    assert sent(stage.server, "Authorization") == [f"Bearer {VALUE}"]


@pytest.mark.parametrize("path", ["/echo", "/chunked", "/until", "/header"])
async def test_a_server_that_says_the_value_back_is_not_heard_saying_it(stage: Stage, path: str) -> None:
    ran = await stage.run(f"""
for scheme in ('Bearer ' + T, 'Basic ' + base64.b64encode(('u:' + T).encode()).decode()):
    status, text, fields = call('{path}', Authorization=scheme)
    said = text + fields.get('X-Echo', '')
    say(status, said)
""")
    lines = [read(line) for line in ran.out.splitlines()]
    assert [line[0] for line in lines] == [200, 200]
    assert "Authorization: Bearer " + "*" * len(VALUE) in lines[0][1]
    assert VALUE not in ran.out
    assert base64.b64encode(f"u:{VALUE}".encode()).decode()[4:-4] not in ran.out
    assert "Authorization: Basic " in lines[1][1]
    assert len(stage.server.heads) == 2


async def test_what_is_compressed_all_the_same_is_not_passed_on(stage: Stage) -> None:
    ran = await stage.run("""
say(call('/gzip', Authorization='Bearer ' + T, Accept_Encoding='gzip')[:2])
""")
    [[status, text]] = [read(line)[0] for line in ran.out.splitlines()]
    assert status == 502
    assert "compressed" in text
    assert sent(stage.server, "Accept-Encoding") == ["identity"]


async def test_an_answer_that_is_cut_is_seen_to_be_cut(stage: Stage) -> None:
    ran = await stage.run("""
try: say(call('/cut'))
except http.client.IncompleteRead as e: say('cut')
""")
    assert ran.out == '["cut"]\n'
    assert [event.kind for event in ran.events if event.kind == "failed"] == ["failed"]


@pytest.mark.parametrize(("path", "seen"), [("/until", "ended"), ("/torn", "torn")])
async def test_an_answer_without_an_end_of_its_own_ends_as_the_servers_did(stage: Stage, path: str, seen: str) -> None:
    ran = await stage.run(f"""
made = socket.create_connection(('{API}', 443), timeout=10)
context = ssl.create_default_context(); context.options &= ~getattr(ssl, 'OP_IGNORE_UNEXPECTED_EOF', 0)
tls = context.wrap_socket(made, server_hostname='{API}', suppress_ragged_eofs=False)
tls.sendall(b'GET {path} HTTP/1.1\\r\\nHost: {API}\\r\\n\\r\\n')
try:
    while tls.recv(100): pass
    say('ended')
except OSError: say('torn')
""")
    assert read(ran.out) == [seen]


async def test_much_passes_and_is_counted_and_bounded(stage: Stage) -> None:
    from tenantry.engines.egress import Caps

    ran = await stage.run("say(len(call('/bytes/3000000')[1]))")
    assert ran.out == "[3000000]\n"
    assert ran.gateway.usage.bytes_received > 3_000_000
    bounded = await stage.run(
        """
try: say(len(call('/bytes/3000000')[1]))
except (http.client.IncompleteRead, OSError): say('cut')
""",
        caps=Caps(bytes_in=1_000_000),
    )
    assert bounded.out == '["cut"]\n'
    assert ("cap", API, 443, "bytes_in") in bounded.denials
    assert bounded.gateway.usage.bytes_received <= 1_000_000


async def test_a_large_body_goes_out_as_it_is_and_is_counted_and_bounded(stage: Stage) -> None:
    from tenantry.engines.egress import Caps

    code = f"""
c = http.client.HTTPSConnection('{API}', timeout=20)
try:
    c.request('POST', '/bytes/2', body=b'ab' * 1_000_000, headers={{'Authorization': 'Bearer ' + T}})
    say(c.getresponse().status)
except OSError: say('cut')
"""
    ran = await stage.run(code)
    assert ran.out == "[200]\n"
    assert stage.server.bodies == [b"ab" * 1_000_000]
    assert ran.events[-1].bytes_sent > 2_000_000
    bounded = await stage.run(code, caps=Caps(bytes_out=500_000))
    assert bounded.out in ('["cut"]\n', "[403]\n")
    assert ("cap", API, 443, "bytes_out") in bounded.denials
    assert len(stage.server.bodies) == 1


@pytest.mark.parametrize("fault", ["another name", "expired", "unknown authority"])
async def test_a_server_that_does_not_prove_its_name_never_sees_the_value(
    stage: Stage, issuer: Issuer, tmp_path: Path, fault: str
) -> None:
    made = {
        "another name": lambda: issuer.issue("x", server=True, by_address=False, names=[OTHER, f"a.{API}"]),
        "expired": lambda: issuer.issue(
            "x", server=True, by_address=False, names=[API], until=datetime.now(UTC) - timedelta(hours=1)
        ),
        "unknown authority": lambda: Issuer("stranger").issue("x", server=True, by_address=False, names=[API]),
    }[fault]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made.write(tmp_path, "bad"))
    liar = Server(str(parse_host(stage.server.address).address + 1))  # type: ignore[operator]
    server = await asyncio.start_server(liar.serve, liar.address, 443, ssl=context)
    stage.ground.outside.answers[API] = [[liar.address]]
    try:
        ran = await stage.run("say(*call(Authorization='Bearer ' + T)[:2])")
    finally:
        server.close()
    status, text = read(ran.out)
    assert status == 502
    assert "does not prove that it is it" in text
    assert liar.heads == []
    assert [(e.kind, e.rule, e.injected) for e in ran.events if e.kind == "failed"] == [
        ("failed", "upstream_certificate", ())
    ]


async def test_a_name_in_the_hello_or_in_a_request_that_is_another_is_refused(stage: Stage) -> None:
    ran = await stage.run(f"""
def over(name, text):
    made = socket.create_connection(('{API}', 443), timeout=5)
    try: tls = ssl.create_default_context().wrap_socket(made, server_hostname=name)
    except OSError as e: return type(e).__name__
    tls.sendall(text)
    return tls.recv(65536).decode()
say(over('{OTHER}', b''))
for host in ('{OTHER}', '{API}:80', '{API}:8443', 'a.{API}', ''):
    say(over('{API}', f'GET / HTTP/1.1\\r\\nHost: {{host}}\\r\\nX: {{T}}\\r\\n\\r\\n'.encode()))
say(over('{API}', f'GET https://{OTHER}/ HTTP/1.1\\r\\nHost: {OTHER}\\r\\nX: {{T}}\\r\\n\\r\\n'.encode()))
say(over('{API}', f'CONNECT {OTHER}:443 HTTP/1.1\\r\\nHost: {OTHER}\\r\\nX: {{T}}\\r\\n\\r\\n'.encode()))
""")
    first, *others = (read(line)[0] for line in ran.out.splitlines())
    assert first == "SSLError"
    assert {said[:10] for said in others} == {"HTTP/1.1 4"}
    assert stage.server.heads == []
    assert ran.denials[0][3] == "tls_name"


SMUGGLED = [
    "Content-Length: 5\\r\\nTransfer-Encoding: chunked",
    "Content-Length: 5\\r\\nContent-Length: 6",
    "Transfer-Encoding: chunked, identity",
    "Transfer_Encoding: chunked",
    "Content-Length: +5",
    "X: a\\n b",
    "X: a\\r\\n folded",
    "Upgrade: websocket",
    f"Host: {OTHER}",
]


async def test_what_others_could_read_otherwise_does_not_reach_the_server(stage: Stage) -> None:
    ran = await stage.run(f"""
for line in {SMUGGLED!r}:
    line = line.encode().decode('unicode_escape').encode()
    made = socket.create_connection(('{API}', 443), timeout=5)
    tls = ssl.create_default_context().wrap_socket(made, server_hostname='{API}')
    tls.sendall(b'POST / HTTP/1.1\\r\\nHost: {API}\\r\\nX: ' + T.encode() + b'\\r\\n' + line + b'\\r\\n\\r\\nhello')
    say(tls.recv(65536).decode()[:10])
""")
    assert ran.out == '["HTTP/1.1 4"]\n' * len(SMUGGLED)
    assert stage.server.heads == []


async def test_each_request_of_a_connection_is_judged_anew(stage: Stage) -> None:
    ran = await stage.run(f"""
made = socket.create_connection(('{API}', 443), timeout=5)
tls = ssl.create_default_context().wrap_socket(made, server_hostname='{API}')
one = b'GET /bytes/3 HTTP/1.1\\r\\nHost: {API}\\r\\nX: ' + T.encode() + b'\\r\\n\\r\\n'
tls.sendall(one + one + one.replace(b'Host: {API}', b'Host: {OTHER}'))
got = b''
while d := tls.recv(65536): got += d
say(got.count(b'HTTP/1.1 200'), got.count(b'HTTP/1.1 403'))
""")
    assert read(ran.out)[0] <= 2
    assert sent(stage.server, "X") == [VALUE] * len(stage.server.heads)
    assert len(stage.server.heads) <= 2
    assert OTHER not in "".join(stage.server.heads)
    assert ("https", API, 443, "http_host") in ran.denials


async def test_a_client_of_http_2_alone_is_told_so(stage: Stage) -> None:
    ran = await stage.run(f"""
context = ssl.create_default_context(); context.set_alpn_protocols(['h2'])
try: context.wrap_socket(socket.create_connection(('{API}', 443), timeout=5), server_hostname='{API}')
except ssl.SSLError as e: say(e.reason)
context = ssl.create_default_context(); context.set_alpn_protocols(['h2', 'http/1.1'])
tls = context.wrap_socket(socket.create_connection(('{API}', 443), timeout=5), server_hostname='{API}')
say(tls.selected_alpn_protocol(), tls.version())
""")
    refused, taken = map(read, ran.out.splitlines())
    assert "ACCESS_DENIED" in refused[0]
    assert taken[0] == "http/1.1"
    assert ran.denials == [("tls", API, 443, "tls_alpn")]
    assert stage.server.shaken == 0


async def test_old_tls_is_not_spoken(stage: Stage) -> None:
    ran = await stage.run(f"""
import warnings
warnings.simplefilter('ignore')
context = ssl.create_default_context(); context.set_ciphers('ALL:@SECLEVEL=0')
context.minimum_version = ssl.TLSVersion.TLSv1; context.maximum_version = ssl.TLSVersion.TLSv1_1
try: context.wrap_socket(socket.create_connection(('{API}', 443), timeout=5), server_hostname='{API}'); say('spoken')
except OSError as e: say('no')
""")
    assert ran.out == '["no"]\n'


async def test_the_authority_of_another_sandbox_is_not_trusted_and_nothing_is_sent(stage: Stage) -> None:
    other = stage.injector()
    ran = await stage.run(
        """
try: say(call(Authorization='Bearer ' + T))
except ssl.SSLCertVerificationError as e: say('not trusted')
""",
        authority=other.authority.pem,
    )
    assert ran.out == '["not trusted"]\n'
    assert stage.server.shaken == 0
    assert [rule for *_, rule in ran.denials] == ["tls_handshake"]
    assert "SSL_CERT_FILE" in ran.events[-1].line()


async def test_narrowing_ends_an_intercepted_connection(stage: Stage) -> None:
    code = f"""
made = socket.create_connection(('{API}', 443), timeout=20)
tls = ssl.create_default_context().wrap_socket(made, server_hostname='{API}')
tls.sendall(b'GET /hold HTTP/1.1\\r\\nHost: {API}\\r\\n\\r\\n')
say('asked')
try: say(len(tls.recv(10)))
except OSError: say('ended')
"""
    injector = stage.injector()
    env = {"env": TRUST, "authority": injector.authority.pem}
    async with stage.ground.start(CALL + code, injector=injector, **env) as ran:
        async with asyncio.timeout(20):
            await stage.server.asked.wait()
        ran.gateway.narrow(lambda *_: Decision(allowed=False, rule="narrower"))
        await ran.sandbox.wait()
    assert ran.out.splitlines()[1] in ('["ended"]', "[0]")
    assert ("narrowed", API, 443, "narrower") in ran.denials


async def test_the_value_is_nowhere_in_the_sandbox(stage: Stage) -> None:
    """Whoever looks through all it can read, its own memory included, does not find it; the control is found."""
    ran = await stage.run(f"""
call(Authorization='Bearer ' + T); call('/chunked', Authorization='Bearer ' + T)
half, rest = {VALUE[:8]!r}, {VALUE[8:]!r}
wanted, control = (half + rest).encode(), T.encode()
found, known = [], []
def look(path, data):
    if wanted in data: found.append(path)
    if control in data: known.append(path)
for top in ('/proc/self', '/proc/1', '/run', '/tmp', '/workspace', '/dev/shm', '/etc', '/inputs'):
    for at, folders, names in os.walk(top):
        folders[:] = [x for x in folders if x not in ('task', 'map_files', 'root', 'cwd', 'fd')]
        for name in names:
            try:
                with open(os.path.join(at, name), 'rb', buffering=0) as f:
                    if os.path.basename(at) in ('self', '1') and name in ('mem', 'kmsg', 'pagemap'): continue
                    look(os.path.join(at, name), f.read(1 << 22))
            except OSError: pass
say(found, bool(known))
""")
    assert read(ran.out) == [[], True]
    assert sent(stage.server, "Authorization") == [f"Bearer {VALUE}"] * 2
