"""The socket of a worker: its user's alone, at any length of path, and one connection that fails ends no other."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenantry.capabilities.sandboxes.service.link_sockets import UnixDoor, accept_loop, connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Longer than the address of a Unix socket can be."""
    return tmp_path / ("d" * 120) / "worker.sock"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    said = await reader.readline()
    if said == b"fail\n":
        raise RuntimeError("as asked")
    writer.write(said)


@pytest.fixture
async def serving(path: Path) -> AsyncIterator[str]:
    door = UnixDoor(path)
    listener = await door.open()
    task = asyncio.create_task(accept_loop(listener, door, echo))
    yield door.address
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    listener.close()


async def said(address: str, text: bytes) -> bytes:
    reader, writer = await connect(address, seconds=5)
    writer.write(text)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_it_answers_at_any_length_of_path_and_goes_on_after_a_failure(serving: str) -> None:
    assert await said(serving, b"first\n") == b"first\n"
    assert await said(serving, b"fail\n") == b""
    assert await said(serving, b"second\n") == b"second\n"


async def test_only_its_user_may_open_it_and_what_lay_there_is_replaced(path: Path) -> None:
    for _ in range(2):
        listener = await UnixDoor(path).open()
        assert [os.stat(each).st_mode & 0o777 for each in (path, path.parent)] == [0o600, 0o700]
        listener.close()


async def test_another_users_process_is_neither_heard_nor_spoken_to(
    serving: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    here, there = socket.socketpair()
    with here, there, pytest.raises(PermissionError):
        await UnixDoor(path).admit(here)
    with pytest.raises(PermissionError):
        await connect(serving, seconds=5)
