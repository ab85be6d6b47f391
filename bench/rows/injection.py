"""Row 12i: a request in TLS that a secret is put into at the gateway, beside one that passes unread."""

import os
import ssl
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series
from bench.rows.outward import ASKING, NAME, PYTHON, add, ask_inside, fresh_address, serving
from tenantry.engines.egress import Authority, Injection, Injector, trusting_context
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import CERTIFICATES, Limits, Network, Spec
from tenantry.kit.hosts import parse_host

_HOST = parse_host(NAME)
_PORT = 443
_PLACEHOLDER, _VALUE = "tnt-placeholder-00112233445566778899", "a-value-of-some-length"
_DOWNLOAD = 64 << 20

_CLIENT = f"""{ASKING}
count, size = int(sys.argv[1]), int(sys.argv[2])
context = ssl.create_default_context()
view = memoryview(bytearray(1 << 18))
token = b"Authorization: Bearer %b\\r\\n" % os.environ["TOKEN"].encode()
def dial():
    return context.wrap_socket(socket.create_connection(("api.example.com", 443)), server_hostname="api.example.com")
def fresh():
    with dial() as s:
        request(s, 100, token)
for _ in range(10): fresh()
new = []
for _ in range(count):
    new.append(timed(fresh))
    time.sleep(0.02)  # no more handshakes than the gateway's hundred a second
with dial() as s:
    request(s, 100, token)
    kept = [timed(lambda: request(s, 100, token)) for _ in range(count)]
    rate = size / 1e3 / timed(lambda: request(s, size, token))
print(json.dumps([new, kept, rate]))
"""


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - every row gets one
    result = Result("12i", "request in TLS with a secret put in at the gateway — against one that passes unread")
    if os.geteuid() != 0:
        result.remarks.append("not measured: what answers listens at port 443, which is root's")
        return [result]
    kinds = ("new connection", "kept alive", "download")
    ours = [Series(f"injected, {kind}") for kind in kinds]
    theirs = [Series(f"unread, {kind}") for kind in kinds]
    ours[2].unit = theirs[2].unit = "MB/s"
    arguments = [str(20 if quick else 200), str(_DOWNLOAD >> (3 if quick else 0))]
    with tempfile.TemporaryDirectory() as home:
        outside = _Outside(Path(home))
        async with await Jail.open(Path(home)) as jail:
            for _ in range(1 if quick else 5):
                for series, injected in ((ours, True), (theirs, False)):
                    async with outside.serving(_VALUE if injected else _PLACEHOLDER):
                        add(series, await _inside(jail, outside, arguments, injected=injected))
    result.series = [*ours, *theirs]
    for mine, other, most in zip(ours[:2], theirs[:2], (10, 1), strict=True):
        added = mine.percentile(0.5) - other.percentile(0.5)
        result.bars.append(Bar(f"added to {mine.name.partition(', ')[2]}, p50", added, most, unit=" ms"))
    result.remarks.append("a new connection shakes hands twice where TLS ends at the gateway")
    return [result]


class _Outside:
    """What answers, with an authority of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address = fresh_address()
        self.authority = Authority([_HOST], seconds=3600)
        key, certificate = self.authority.issue(_HOST)
        (home / "origin.pem").write_bytes(key + certificate)
        (home / "ca.pem").write_bytes(self.authority.pem)

    @property
    def trust(self) -> ssl.SSLContext:
        return trusting_context(self.home / "ca.pem")

    def serving(self, token: str) -> AbstractAsyncContextManager[None]:
        return serving(self.address, _PORT, certificate=self.home / "origin.pem", token=f"Bearer {token}")


async def _inside(jail: Jail, outside: _Outside, arguments: list[str], *, injected: bool) -> bytes:
    """What the client says that runs in a sandbox of its own."""
    rule = Injection(name="TOKEN", host=_HOST, placeholder=_PLACEHOLDER, value=_VALUE)
    authority = Authority([_HOST], seconds=600) if injected else outside.authority
    injector = Injector([rule], authority=authority, trust=outside.trust) if injected else None
    spec = Spec(
        image=ImageStore(outside.home / "images").host(),
        command=(PYTHON, "-c", _CLIENT, *arguments),
        env={"SSL_CERT_FILE": CERTIFICATES, "TOKEN": _PLACEHOLDER},
        authority=authority.pem,
        network=Network(),
        limits=Limits(cpus=2, timeout_seconds=60),
    )
    return await ask_inside(jail, spec, place=outside.address, port=_PORT, injector=injector)
