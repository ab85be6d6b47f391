"""The link over TLS: servers are let in and workers spoken to, by the names in their certificates, and nobody else."""

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.authority import Authority, Issued
from tests.unit.capabilities.link_ends import (
    SERVER,
    WORKER,
    Ends,
    Room,
    expired,
    intruded,
    open_room,
    opened,
    said,
    stranger,
)

from tenantry.capabilities.sandboxes.errors import link_lost
from tenantry.capabilities.sandboxes.service import link_tls
from tenantry.capabilities.sandboxes.service.link_sockets import while_there
from tenantry.capabilities.sandboxes.service.link_tls import LinkCaller, LinkIdentity, TlsDoor
from tenantry.capabilities.sandboxes.service.live_client import LiveClient
from tenantry.capabilities.sandboxes.types.living import LivePlace
from tenantry.foundation.errors import Fault, Invalid, Unavailable
from tenantry.foundation.ids import new_id
from tenantry.foundation.link_settings import WorkerLinkSettings

OTHER = Authority("another root")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return Ends(tmp_path_factory.mktemp("link"))


@pytest.fixture(scope="module")
async def room(ends: Ends) -> AsyncIterator[Room]:
    async with open_room(ends) as here:
        yield here


@pytest.fixture
def heard(room: Room) -> list[bytes]:
    room.heard.clear()
    return room.heard


async def test_a_server_is_let_in_and_answered(ends: Ends, room: Room) -> None:
    assert await said(ends.caller(), room.door.address) == b"asked\n"


async def test_a_stranger_with_a_servers_certificate_would_be_heard(ends: Ends, room: Room) -> None:
    """What the refusals below are held against."""
    assert await intruded(room.door.address, ends.context(ends.server())) == b"asked\n"


NO_SERVERS: dict[str, Callable[[Ends], Issued | None]] = {
    "no certificate": lambda _: None,
    "another authority's": lambda _: OTHER.issue("a server", names=[SERVER]),
    "a worker's": lambda ends: ends.worker(),
    "a worker's for any use": lambda ends: ends.authority.issue("a worker", both=True, names=[WORKER]),
    "another's": lambda ends: ends.authority.issue("robot", names=["robot.example"]),
    "without a name": lambda ends: ends.authority.issue(SERVER),
    "a name below": lambda ends: ends.authority.issue("x", names=[f"a.{SERVER}", "*.tenantry"]),
    "no client's": lambda ends: ends.authority.issue("a server", server=True, names=[SERVER]),
    "expired": lambda ends: ends.authority.issue("a server", names=[SERVER], until=expired()),
}


@pytest.mark.parametrize("shown", NO_SERVERS.values(), ids=NO_SERVERS)
async def test_no_server_is_not_heard(
    ends: Ends, room: Room, heard: list[bytes], shown: Callable[[Ends], Issued | None]
) -> None:
    with capture_logs() as logs:
        assert await intruded(room.door.address, ends.context(shown(ends))) == b""
    assert heard == []
    assert [each["event"] for each in logs] == ["link.refused"]


async def test_an_older_tls_is_refused(ends: Ends, room: Room, heard: list[bytes]) -> None:
    context = ends.context(ends.server())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await intruded(room.door.address, context) == b""
    assert heard == []


async def test_without_tls_nothing_is_heard_and_nothing_said(ends: Ends, room: Room, heard: list[bytes]) -> None:
    assert b"asked" not in await intruded(room.door.address, None)
    assert heard == []
    assert await said(ends.caller(), room.door.address) == b"asked\n"


NO_WORKERS: dict[str, Callable[[Ends], Issued]] = {
    "another authority's": lambda _: OTHER.issue("a worker", server=True, names=[WORKER]),
    "a server's": lambda ends: ends.authority.issue("a server", both=True, names=[SERVER]),
    "a web server's": lambda ends: ends.authority.issue("web", server=True, names=["localhost"]),
    "a wildcard": lambda ends: ends.authority.issue("web", server=True, names=["*.tenantry", f"a.{WORKER}"]),
    "without a name": lambda ends: ends.authority.issue(WORKER, server=True, names=[]),
    "no server's": lambda ends: ends.authority.issue("a worker", names=[WORKER]),
    "expired": lambda ends: ends.authority.issue("a worker", server=True, names=[WORKER], until=expired()),
}


def serving(ends: Ends, issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(ends.folder, f"w{time.monotonic_ns()}"))
    return context


async def test_whoever_proves_to_be_a_worker_would_hear_what_is_said(ends: Ends) -> None:
    """What the refusals below are held against."""
    async with stranger(serving(ends, ends.worker())) as (address, heard):
        assert await said(ends.caller(), address) == b""
        assert heard == [b"asked\n"]


@pytest.mark.parametrize("shown", NO_WORKERS.values(), ids=NO_WORKERS)
async def test_nothing_is_said_to_who_is_no_worker(ends: Ends, shown: Callable[[Ends], Issued]) -> None:
    async with stranger(serving(ends, shown(ends))) as (address, heard):
        with pytest.raises(OSError, match=r"certificate|name"):
            await said(ends.caller(), address)
        assert b"".join(heard) == b""


async def test_nothing_is_said_in_an_older_tls(ends: Ends) -> None:
    context = serving(ends, ends.worker())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with stranger(context) as (address, heard):
        with pytest.raises(OSError, match="cut off"):
            await said(ends.caller(), address)
        assert b"".join(heard) == b""


async def test_nothing_is_said_without_tls(ends: Ends) -> None:
    async with stranger(None) as (address, heard):
        with pytest.raises(ssl.SSLError):
            await said(ends.caller(), address)
        assert b"asked" not in b"".join(heard)


async def test_who_answers_nothing_is_waited_for_a_while(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        await said(ends.caller(), f"tls:127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)


@pytest.mark.parametrize(
    "form",
    [
        "tcp:127.0.0.1:{port}", "TLS:127.0.0.1:{port}", "127.0.0.1:{port}", "tls:127.0.0.1", "tls:127.0.0.1:0{port}",
        "tls:127.0.0.1:{port}/x", "tls:x@127.0.0.1:{port}", "tls://127.0.0.1:{port}", "tls:127.1:{port}",
        "tls:0x7f000001:{port}", "tls:2130706433:{port}", "tls:127.0.0.1:{port}\n", " tls:127.0.0.1:{port}",
        "tls:[::ffff:127.0.0.1]:{port}", "tls:LOCALHOST:{port}", "tls:127.0.0.1:9{port}", "http://127.0.0.1:{port}", "",
    ],
)  # fmt: skip
async def test_an_address_that_no_worker_writes_is_not_gone_to(ends: Ends, form: str) -> None:
    async with stranger(serving(ends, ends.worker())) as (address, heard):
        wrong = form.format(port=address.rpartition(":")[2])
        with pytest.raises(PermissionError):
            await said(ends.caller(), wrong)
        with pytest.raises(Unavailable) as refused:
            await LiveClient(ends.caller()).ask(LivePlace(new_id(), new_id(), wrong), "list", path="")
        assert refused.value.code == link_lost().code
        assert heard == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_outside_of_the_networks_of_workers_is_not_gone_to(ends: Ends, host: str) -> None:
    async with stranger(serving(ends, ends.worker())) as (address, heard):
        elsewhere = ends.caller(networks=["10.20.0.0/16"])
        with pytest.raises(PermissionError, match="networks"):
            await said(elsewhere, address.replace("127.0.0.1", host))
        assert heard == []


async def test_a_server_without_certificates_goes_to_no_other_machine() -> None:
    async with stranger(None) as (address, heard):
        with pytest.raises(Unavailable):
            await LiveClient().ask(LivePlace(new_id(), new_id(), address), "list", path="")
        assert heard == []


async def test_a_worker_is_reached_by_the_name_it_tells(ends: Ends) -> None:
    async with open_room(ends, advertise="localhost") as room:
        assert room.door.address.startswith("tls:localhost:")
        assert await said(ends.caller(), room.door.address) == b"asked\n"


async def test_names_are_what_is_set(ends: Ends) -> None:
    named = {"server_name": "control.example", "worker_name": "node.example"}
    issued = ends.authority.issue("node", server=True, names=["node.example"])
    settings = ends.settings(issued, listen="127.0.0.1:0", **named)
    assert LinkIdentity(settings, serves=True).peer == "control.example"
    with pytest.raises(Invalid, match=r"worker_name") as refused:
        LinkIdentity(ends.settings(issued, listen="127.0.0.1:0"), serves=True)
    assert refused.value.code == "tls_unusable"
    with pytest.raises(Invalid, match=r"control\.example.*server_name"):
        LinkIdentity(settings, serves=False)


async def test_files_that_cannot_be_used_are_told_with_their_setting(ends: Ends, tmp_path: Path) -> None:
    fine = ends.settings(ends.server())
    (tmp_path / "empty").write_text("")
    for name, file in (
        ("ca_file", tmp_path / "empty"),
        ("certificate_file", tmp_path / "gone"),
        ("key_file", Path("/")),
    ):
        with pytest.raises(Invalid, match=f"worker_link.*{name}") as refused:
            LinkIdentity(fine.model_copy(update={name: file}), serves=False)
        assert refused.value.code == "tls_unusable"
    with pytest.raises(Invalid, match="key_file"):
        LinkIdentity(fine.model_copy(update={"key_file": ends.settings(ends.server()).key_file}), serves=False)


async def test_a_renewed_certificate_counts_at_once_and_a_broken_one_not(ends: Ends, room: Room) -> None:
    old = ends.authority.issue("a server", names=[SERVER], until=expired())
    settings = ends.settings(old)
    assert settings.certificate_file is not None
    caller = LinkCaller(LinkIdentity(settings, serves=False), settings)
    with contextlib.suppress(OSError):
        assert await said(caller, room.door.address) == b""
    ends.server().write(ends.folder, settings.certificate_file.stem)
    assert await said(caller, room.door.address) == b"asked\n"
    settings.certificate_file.write_text("half of a certificate")
    with capture_logs() as logs:
        assert await said(caller, room.door.address) == b"asked\n"
        assert await said(caller, room.door.address) == b"asked\n"
    assert [each["event"] for each in logs] == ["link.certificate_unusable"]


async def test_certificates_made_as_the_page_says_are_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/configure-a-region.md").read_text()
    (script,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    made = await asyncio.create_subprocess_exec(
        *("bash", "-euc", script), cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    _, errors = await made.communicate()
    assert made.returncode == 0, errors

    def of(name: str) -> dict[str, Path]:
        files = {"certificate_file": tmp_path / f"{name}.pem", "key_file": tmp_path / f"{name}.key"}
        return {"ca_file": tmp_path / "link-ca.pem", **files}

    worker = WorkerLinkSettings.model_validate({**of("worker-7"), "listen": "127.0.0.1:0"})
    server = WorkerLinkSettings.model_validate(of("server-1"))
    async with opened(worker) as room:
        assert await said(LinkCaller(LinkIdentity(server, serves=False), server), room.door.address) == b"asked\n"


async def test_who_hangs_up_is_missed_while_nothing_is_read_and_who_only_ends_is_not(ends: Ends) -> None:
    async with open_room(ends) as room:
        gone, begun = asyncio.Event(), asyncio.Event()

        async def work(reader: asyncio.StreamReader) -> None:
            await reader.read(1)
            begun.set()
            await asyncio.Event().wait()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await while_there(writer, work(reader))
            except ConnectionResetError:
                gone.set()

        room.answer = serve
        _, writer = await ends.caller().connect(room.door.address, seconds=5)
        writer.write(bytes(400_000))
        writer.write_eof()
        await begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await gone.wait()
        writer.close()
        async with asyncio.timeout(5):
            await gone.wait()


async def test_handshakes_that_do_not_end_hold_up_nobody(ends: Ends, room: Room) -> None:
    host, _, port = room.door.address.removeprefix("tls:").rpartition(":")
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(link_tls.MOST_SHAKING + 6)]
    assert await said(ends.caller(), room.door.address) == b"asked\n"
    async with asyncio.timeout(link_tls.SHAKE_SECONDS - 1):
        for reader, _ in idle[:6]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
    for _, writer in idle:
        writer.transport.abort()


async def test_a_handshake_that_does_not_end_is_ended(ends: Ends, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_tls, "SHAKE_SECONDS", 0.1)
    host, _, port = room.door.address.removeprefix("tls:").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(4):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.transport.abort()
    monkeypatch.undo()
    assert await said(ends.caller(), room.door.address) == b"asked\n"


async def test_of_several_ports_the_first_that_is_free_is_taken(ends: Ends) -> None:
    async with open_room(ends) as first:
        port = int(first.door.address.rpartition(":")[2])
        async with open_room(ends, listen=f"127.0.0.1:{port}-{min(port + 50, 65535)}") as second:
            assert port < int(second.door.address.rpartition(":")[2]) <= port + 50
            assert await said(ends.caller(), second.door.address) == b"asked\n"
        settings = ends.settings(ends.worker(), listen=f"127.0.0.1:{port}")
        with pytest.raises(Fault) as refused:
            await TlsDoor(LinkIdentity(settings, serves=True), settings).open()
        assert refused.value.code == "link_port_taken"
