"""A sandbox with a network, whose kernel uses the sockets of its namespace: refused where that has rights outside.

What is shown of its listeners sets that one judgement aside, as it would fall with a platform that needs no such right.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.prisons import Prison

from tenantry.engines.jail.gvisor import entry, receipts
from tenantry.engines.jail.gvisor.backend import GvisorBackend
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import Ending, InputFile, Limits, Listeners, Network


@pytest.fixture(scope="module")
async def prison(docker_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    home = tmp_path_factory.mktemp("home")
    async with await GvisorBackend.open(
        home, socket=docker_socket, network_runtime="runsc-network", trial=False, spare=0
    ) as backend:
        yield Prison(backend, ImageStore(home / "images").host())


@pytest.fixture
def rightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the sentry held nothing, and were in a pid namespace of its own."""
    made = receipts.receipt_of

    def receipt_of(*given: Any, **named: Any) -> Receipt:
        receipt = made(*given, **named)
        sentry = dict(receipt.sentry) | dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), "0")
        return replace(receipt, sentry=sentry, unshared=(*receipt.unshared, "pid"))

    monkeypatch.setattr(entry, "receipt_of", receipt_of)


async def test_a_kernel_with_rights_on_the_host_is_killed_before_its_program_runs(prison: Any) -> None:
    async def attach(listeners: Listeners) -> None:
        listeners.close()

    said: list[bytes] = []
    spec = prison.spec("echo", "ran", network=Network())
    async with await prison.jail.start(spec, lambda _, text: said.append(text), attach=attach) as sandbox:
        outcome = await sandbox.wait()
        receipt = sandbox.receipt
    if "pid" in receipt.unshared:
        pytest.skip("this platform's kernels are in pid namespaces of their own")
    assert (outcome.ending, said) == (Ending.NOT_STARTED, [])
    assert "its kernel has capabilities on the host" in outcome.detail
    assert int(receipt.sentry["CapEff"], 16) == 1 << 19  # CAP_SYS_PTRACE


async def test_what_its_host_listens_on_is_its_only_network(prison: Any, rightless: None) -> None:
    held: list[Listeners] = []

    async def attach(listeners: Listeners) -> None:
        held.append(listeners)

    script = (
        "import socket; print(open('/etc/resolv.conf').read().split()[1])\n"
        "for port in (80, 8443):\n"
        "    with socket.create_connection(('127.9.9.9', port), 20) as link: print(link.recv(9).decode())\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "for address in ('10.0.0.1', '169.254.169.254', '1.1.1.1'):\n"
        "    try: socket.create_connection((address, 80), 2)\n"
        "    except OSError as error: print(error.errno)\n"
    )
    heard = bytearray()
    spec = prison.spec("/usr/bin/python3", "-I", "-S", "-c", script, network=Network(tcp_ports=frozenset({8443})))
    async with await prison.jail.start(spec, lambda _, text: heard.extend(text), attach=attach) as sandbox:
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(30):
                for port in (80, 8443):
                    link, _ = await loop.sock_accept(held[0].tcp[port])
                    with link:
                        await loop.sock_sendall(link, b"from host")
                assert (await sandbox.wait()).exit_code == 0, heard
            assert (sandbox.receipt.network, sandbox.receipt.interfaces) == ("gateway", ("lo",))
        finally:
            held[0].close()
    unreachable = ["101"] * 3
    assert heard.decode().splitlines() == ["127.0.0.1", "from host", "from host", "['lo']", *unreachable]


async def test_what_attach_raises_is_raised_and_no_program_has_run(prison: Any, rightless: None) -> None:
    said: list[bytes] = []

    async def attach(_: Listeners) -> None:
        raise LookupError("mine")

    spec = prison.spec("echo", "ran", network=Network())
    with pytest.raises(LookupError, match="mine"):
        await prison.jail.start(spec, lambda _, text: said.append(text), attach=attach)
    assert said == []


async def test_the_fewest_open_files_suffice_with_a_network_too(prison: Any, rightless: None) -> None:
    async def attach(listeners: Listeners) -> None:
        listeners.close()

    files = (InputFile("a", b"x"),)
    said: list[bytes] = []
    spec = prison.spec(
        *("sh", "-c", "ulimit -Hn"),
        limits=Limits(open_files=16),
        inputs=files,
        secret_files=files,
        network=Network(),
    )
    async with await prison.jail.start(spec, lambda _, text: said.append(text), attach=attach) as sandbox:
        assert (await sandbox.wait()).exit_code == 0
    assert b"".join(said) == b"16\n"
