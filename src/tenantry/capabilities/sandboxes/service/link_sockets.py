"""Unix sockets of workers: 0600 in a directory of ours, reached by its descriptor, for any length of path.

Both ends ask the kernel who the other is: only a process of the same user is spoken to.
"""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)

SCHEME: Final = "unix:"
_CREDENTIALS: Final = struct.Struct("3i")
_BACKLOG: Final = 128
_BUFFER_BYTES: Final = 128 << 10
_LOOK_SECONDS: Final = 0.5
"""How soon it is seen that the other end is closed, where nothing is read from it."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listen(path: Path) -> socket.socket:
    """Listen at `path`, in whose place nothing else is left; blocking, for a moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with _directory(path) as reached:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            before = os.umask(0o177)
            try:
                listener.bind(reached)
            finally:
                os.umask(before)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


async def accept_loop(listener: socket.socket, serve: Serve) -> None:
    """Take connections for ever; each is served by a task of its own, and those end with this."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            accepted, _ = await loop.sock_accept(listener)
            if not is_ours(accepted):
                accepted.close()
                continue
            group.create_task(_served(accepted, serve))


async def _served(accepted: socket.socket, serve: Serve) -> None:
    """Serve one; whatever becomes of it, the others go on."""
    try:
        reader, writer = await asyncio.open_connection(sock=accepted, limit=_BUFFER_BYTES)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except OSError:
        accepted.close()
    except Exception as error:  # noqa: BLE001 - one connection that fails ends no other
        _log.exception("link.fault", kind=type(error).__name__)


async def while_there(writer: asyncio.StreamWriter, work: Coroutine[Any, Any, None]) -> None:
    """Do some work for the other end, and cancel it when that has hung up; raises ConnectionResetError then."""
    working, watching = asyncio.ensure_future(work), asyncio.create_task(_hung_up(writer))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if working.cancelled():
        raise ConnectionResetError
    working.result()


async def _hung_up(writer: asyncio.StreamWriter) -> None:
    """Wait until the other end is closed both ways, which the kernel tells also while what it has sent is not read."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), 0)
    while not writer.is_closing() and not any(event & select.POLLHUP for _, event in poll.poll(0)):  # noqa: ASYNC110 - as said
        await asyncio.sleep(_LOOK_SECONDS)


async def connect(address: str, *, seconds: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a worker; raises OSError, TimeoutError, PermissionError where somebody else listens there."""
    path = Path(address.removeprefix(SCHEME))
    loop = asyncio.get_running_loop()
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(seconds):
            with _directory(path) as reached:
                await loop.sock_connect(one, reached)
            _require_ours(one)
            return await asyncio.open_connection(sock=one, limit=_BUFFER_BYTES)
    except BaseException:
        one.close()
        raise


def is_ours(one: socket.socket) -> bool:
    """Ask the kernel whether the other end is a process of our user."""
    raw = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.geteuid())


def _require_ours(one: socket.socket) -> None:
    if not is_ours(one):
        raise PermissionError("another user listens there")


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[str]:
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
