"""A supervisor that is no root, and on another event loop, has sandboxes with a way out, too."""

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from tests.integration.jail.test_homes import ordinary_user, run_as

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
__all__ = ["ordinary_user"]

SUPERVISOR = """
import asyncio, json, uvloop
from ipaddress import ip_network
from pathlib import Path
from tenantry.engines.egress import Decision, Gateway
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Network, Spec

CODE = '''
import http.client, socket
c = http.client.HTTPConnection("127.0.0.1", 3128)
c.request("GET", "http://api.example.com:%d/a", headers={"Host": "api.example.com:%d"}); print(c.getresponse().read())
s = socket.create_connection(("api.example.com", %d))
s.sendall(b"GET /b HTTP/1.0\\\\r\\\\nHost: x\\\\r\\\\n\\\\r\\\\n")
print(s.recv(1000).split()[-1])
try: socket.getaddrinfo("other.example.com", 80)
except socket.gaierror as e: print(e.errno)
c = http.client.HTTPConnection("127.0.0.1", 80); c.request("GET", "/"); print(c.getresponse().status)
'''

async def serve(reader, writer):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n" + head.split()[1])
    await writer.drain()
    writer.close()

async def main():
    home = Path.home() / ".tenantry"
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    events, said = [], bytearray()

    def decide(host, asked):
        return Decision((host, asked) == ("api.example.com", port), "rule", private=(ip_network("127.0.0.0/8"),))

    async def resolve(name):
        return ["127.0.0.1"]

    async with await Jail.open(home) as jail:
        spec = Spec(
            image=ImageStore(home / "images").host(),
            command=("python3", "-c", CODE % (port, port, port)),
            network=Network(tcp_ports=frozenset({port})),
        )
        gateways = []

        async def attach(listeners):
            gateways.append(Gateway.open(listeners, decide=decide, on_event=events.append, resolve=resolve))

        async with await jail.start(spec, lambda _, text: said.extend(text), attach=attach) as sandbox:
            await sandbox.wait()
            await gateways[0].close()
    denials = [[event.kind, event.host] for event in events if not event.allowed]
    print(json.dumps([said.decode(), denials, sandbox.receipt.network, sandbox.receipt.interfaces]))

uvloop.run(main())
"""


def test_an_ordinary_user_has_a_gateway_too(ordinary_user: Any) -> None:
    home = Path(mkdtemp(prefix="tenantry-user-"))
    try:
        os.chown(home, ordinary_user.pw_uid, ordinary_user.pw_gid)
        answer = run_as(ordinary_user, home, SUPERVISOR)
    finally:
        shutil.rmtree(home)
    said = "b'/a'\\nb'/b'\\n-2\\n403\\n"
    assert answer == f'["{said}", [["dns", "other.example.com"], ["direct", "127.0.0.1"]], "gateway", ["lo"]]'
