"""Connections from outside to what listens inside a living sandbox."""

import asyncio
import socket
from typing import Any

import pytest
from tests.integration.jail.living import heard, kept

from tenantry.engines.jail.errors import SandboxEnded
from tenantry.engines.jail.exec_types import ExecSpec
from tenantry.engines.jail.execution import Execution
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.selftest import with_python
from tenantry.engines.jail.types import Listeners, Network, Spec

ECHO = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    one, where = server.accept()
    one.sendall(b"%s said " % where[0].encode() + one.recv(100))
    one.close()
"""


async def listening(sandbox: Sandbox, python: str, port: int) -> Execution:
    execution = await sandbox.exec(ExecSpec(command=(python, "-I", "-S", "-c", ECHO, str(port))))
    await heard(execution, "ready")
    return execution


async def ask(connection: socket.socket) -> bytes:
    reader, writer = await asyncio.open_connection(sock=connection)
    writer.write(b"hello")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_what_listens_inside_answers(prison: Any) -> None:
    image, python, env = with_python(prison.host)
    async with kept(prison, image=image, env=env) as room:
        execution = await listening(room.sandbox, python, 8000)
        connections = await asyncio.gather(*(room.sandbox.dial(8000) for _ in range(5)))
        assert not any(one.getblocking() or one.get_inheritable() for one in connections)
        assert await asyncio.gather(*map(ask, connections)) == [b"127.0.0.1 said hello"] * 5
        await execution.close()
        with pytest.raises(ConnectionRefusedError):
            await room.sandbox.dial(8000)


async def test_it_reaches_nothing_of_the_host_or_of_another(prison: Any) -> None:
    image, python, env = with_python(prison.host)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with kept(prison, image=image, env=env) as one, kept(prison) as other:
            execution = await listening(one.sandbox, python, 8001)
            for room, wrong in ((one, port), (other, port), (other, 8001)):
                with pytest.raises(ConnectionRefusedError):
                    await room.sandbox.dial(wrong)
            await execution.close()


@pytest.mark.parametrize("port", [0, -1, 65_536, 1])
async def test_a_port_where_nobody_listens_refuses(prison: Any, port: int) -> None:
    async with kept(prison) as room:
        with pytest.raises(ConnectionRefusedError):
            await room.sandbox.dial(port)


async def test_where_its_host_listens_nothing_answers(prison: Any) -> None:
    held: list[Listeners] = []

    async def attach(listeners: Listeners) -> None:
        held.append(listeners)

    spec = Spec(image=prison.host, keep=True, network=Network(tcp_ports=frozenset({5432})))
    async with await prison.jail.start(spec, lambda *_: None, attach=attach) as sandbox:
        assert sandbox.verified
        for port in (53, 80, 443, 3128, 5432):
            with pytest.raises(ConnectionRefusedError):
                await sandbox.dial(port)
        execution = await sandbox.exec(ExecSpec(command=("cat", "/etc/resolv.conf")))
        assert "127.0.0.1" in await heard(execution, "\n")
        await execution.close()
    held[0].close()


async def test_a_dead_one_is_not_dialled(prison: Any) -> None:
    async with kept(prison) as room:
        room.sandbox.kill()
        with pytest.raises(SandboxEnded):
            await room.sandbox.dial(80)
