"""Streams over TLS: each side ends alone, a cut is no end, who reads nothing holds up the other and can be dropped."""

import asyncio
import contextlib
import functools
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from tests.authority import Authority

from tenantry.foundation.tls_streams import Streams, shake

PEERS = ("here.example", "there.example")
PIECE = bytes(range(256)) * 256


@dataclass(frozen=True)
class Ground:
    """A pair of peers, and the event loop that they run on."""

    serving: ssl.SSLContext
    calling: ssl.SSLContext
    loop: Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder, authority = tmp_path_factory.mktemp("pair"), Authority()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context, name in zip(made, PEERS, strict=True):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.write(folder))
        context.load_cert_chain(*authority.issue(name, both=True, names=[name]).write(folder, name))
    return Ground(*made, request.param)


def on_its_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*, ground: Ground, **given: object) -> None:
        with asyncio.Runner(loop_factory=ground.loop) as runner:
            runner.run(test(ground=ground, **given))

    return run


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    for each in (here, there):
        each.setblocking(False)
    return here, there


@contextlib.asynccontextmanager
async def pair(ground: Ground) -> AsyncIterator[tuple[Streams, Streams]]:
    here, there = tcp_pair()
    async with asyncio.timeout(20):
        made = await asyncio.gather(
            shake(here, ground.serving, serves=True, peer=PEERS[1], buffer=1 << 17),
            shake(there, ground.calling, serves=False, peer=PEERS[0], buffer=1 << 17),
        )
        try:
            yield made
        finally:
            for _, writer in made:
                writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


async def to_its_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(len(PIECE)):
        pass


async def flood(writer: asyncio.StreamWriter, *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            writer.write(PIECE)
            await writer.drain()


@on_its_loop
async def test_each_side_ends_alone_and_the_other_goes_on(ground: Ground) -> None:
    for turned in (False, True):
        async with pair(ground) as made:
            (reader, writer), (far_reader, far_writer) = made[::-1] if turned else made
            writer.write(b"asked")
            writer.write_eof()
            assert await far_reader.read() == b"asked"
            for _ in range(20):
                far_writer.write(PIECE)
                await far_writer.drain()
            far_writer.write_eof()
            assert await reader.read() == PIECE * 20
            with pytest.raises(RuntimeError):
                writer.write(b"more")


@on_its_loop
async def test_an_end_that_crosses_what_comes_loses_none_of_it(
    ground: Ground,
) -> None:
    async with pair(ground) as ((reader, writer), (far_reader, far_writer)):

        async def answer() -> None:
            for _ in range(200):
                far_writer.write(PIECE)
                await far_writer.drain()
            far_writer.close()

        answering = asyncio.create_task(answer())
        assert await reader.readexactly(len(PIECE) // 2)
        writer.write_eof()
        assert len(await reader.read()) == len(PIECE) * 200 - len(PIECE) // 2
        await answering
        assert await far_reader.read() == b""


@on_its_loop
async def test_a_close_is_told_with_the_last_that_was_written(
    ground: Ground,
) -> None:
    async with pair(ground) as ((_, writer), (far_reader, _)):
        writer.write(b"last")
        writer.close()
        await writer.wait_closed()
        assert await far_reader.read() == b"last"


@on_its_loop
async def test_what_has_ended_can_be_dropped_and_ended_again(ground: Ground) -> None:
    async with pair(ground) as ((_, writer), (far_reader, _)):
        for _ in range(100):
            writer.write(PIECE)
        writer.close()
        assert writer.transport.get_write_buffer_size() > 0
        await to_its_end(far_reader)
        await writer.wait_closed()
        writer.transport.abort()
        writer.close()
        assert writer.is_closing()
        assert writer.transport.get_write_buffer_size() == 0


@on_its_loop
async def test_what_is_cut_off_is_no_end(ground: Ground) -> None:
    async with pair(ground) as ((_, writer), (far_reader, _)):
        writer.write(b"half")
        await asyncio.sleep(0)
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)  # as somebody on the way would end it
        with pytest.raises(ConnectionResetError):
            await to_its_end(far_reader)


@on_its_loop
async def test_who_reads_nothing_holds_up_the_other_and_hears_when_he_is_dropped(
    ground: Ground,
) -> None:
    async with pair(ground) as ((_, writer), (far_reader, far_writer)):
        with pytest.raises(TimeoutError):
            await flood(writer, seconds=1)
        assert writer.transport.get_write_buffer_size() < 1 << 20
        writer.transport.abort()
        hung_up = select.poll()
        hung_up.register(far_writer.get_extra_info("socket").fileno(), 0)
        assert await asyncio.to_thread(hung_up.poll, 5000), "the kernel tells it before anything more is read"
        with pytest.raises(ConnectionResetError):
            await to_its_end(far_reader)
        assert far_writer.is_closing()


@on_its_loop
async def test_what_has_been_changed_on_its_way_is_not_read(
    ground: Ground,
) -> None:
    async with pair(ground) as ((_, writer), (far_reader, _)):
        writer.transport.get_extra_info("socket").send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ConnectionResetError):
            await far_reader.read()


@pytest.mark.parametrize("wrong", [0, 1])
@on_its_loop
async def test_a_name_that_is_not_the_peers_ends_the_handshake(ground: Ground, wrong: int) -> None:
    here, there = tcp_pair()
    expected = [PEERS[1], PEERS[0]]
    expected[wrong] = "other.example"
    async with asyncio.timeout(10):
        done = await asyncio.gather(
            shake(here, ground.serving, serves=True, peer=expected[0], buffer=1 << 17),
            shake(there, ground.calling, serves=False, peer=expected[1], buffer=1 << 17),
            return_exceptions=True,
        )
        for each in done:
            if isinstance(each, tuple):
                with pytest.raises(ConnectionResetError):
                    await each[0].read()
    assert isinstance(done[wrong], OSError)


@on_its_loop
async def test_a_handshake_that_is_given_up_leaves_nothing_open(
    ground: Ground,
) -> None:
    here, there = tcp_pair()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await shake(here, ground.serving, serves=True, peer=PEERS[1], buffer=1 << 17)
    async with asyncio.timeout(10):
        with there, contextlib.suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(there, 1) == b""
