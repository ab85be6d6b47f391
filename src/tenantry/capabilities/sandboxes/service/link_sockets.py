"""Sockets of workers, by which servers speak with their sandboxes: a Unix socket, and what is the same of any.

The Unix socket is 0600 in a directory of ours, reached by its descriptor, for any length of path. Both ends ask the
kernel who the other is: only a process of the same user is spoken to.
"""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from tenantry.foundation.tls_streams import Streams

_log = structlog.get_logger(__name__)

SCHEME: Final = "unix:"
BACKLOG: Final = 128
BUFFER_BYTES: Final = 128 << 10
_CREDENTIALS: Final = struct.Struct("3i")
_LOOK_SECONDS: Final = 0.5
"""How soon it is seen that the other end is closed, where nothing is read from it."""
_AGAIN_SECONDS: Final = 0.1
"""When it is tried again to take a connection, where this machine could not."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door(Protocol):
    """Where a worker listens, and whom it lets in."""

    @property
    def address(self) -> str:
        """How jobs tell where it is, once it is open."""
        ...

    async def open(self) -> socket.socket: ...

    async def admit(self, accepted: socket.socket) -> Streams:
        """Let one in; raises OSError for one that is not, whose socket is the caller's to close."""
        ...

    async def close(self) -> None: ...


class UnixDoor:
    """A socket for processes of this machine and user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def address(self) -> str:
        return f"{SCHEME}{self._path}"

    async def open(self) -> socket.socket:
        return await asyncio.to_thread(_listen, self._path)

    async def admit(self, accepted: socket.socket) -> Streams:
        _require_ours(accepted)
        return await asyncio.open_connection(sock=accepted, limit=BUFFER_BYTES)

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._path.unlink, missing_ok=True)


def _listen(path: Path) -> socket.socket:
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
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


async def accept_loop(listener: socket.socket, door: Door, serve: Serve) -> None:
    """Take connections for ever; each is let in and served by a task of its own, and those end with this."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # too many files are open, or who came is gone
                _log.warning("link.fault", reason=error.strerror)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            group.create_task(_served(accepted, door, serve))


async def _served(accepted: socket.socket, door: Door, serve: Serve) -> None:
    """Serve one; whatever becomes of it, the others go on."""
    try:
        reader, writer = await door.admit(accepted)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except OSError:
        accepted.close()
    except Exception as error:  # noqa: BLE001 - one connection that fails ends no other
        accepted.close()
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
    """Wait until the other end is closed both ways, which the kernel tells also while what it has sent is not read.

    Of TCP it tells each way by itself; over TLS the end of one way does not show there.
    """
    one, poll = writer.get_extra_info("socket"), select.poll()
    gone = select.POLLHUP if one.family == socket.AF_UNIX else select.POLLHUP | select.POLLRDHUP
    poll.register(one.fileno(), gone)
    while not writer.is_closing() and not any(event & (gone | select.POLLERR) for _, event in poll.poll(0)):  # noqa: ASYNC110 - as said
        await asyncio.sleep(_LOOK_SECONDS)


async def connect(address: str, *, seconds: float) -> Streams:
    """Connect to a worker; raises OSError, TimeoutError, PermissionError where somebody else listens there."""
    path = Path(address.removeprefix(SCHEME))
    loop = asyncio.get_running_loop()
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(seconds):
            with _directory(path) as reached:
                await loop.sock_connect(one, reached)
            _require_ours(one)
            return await asyncio.open_connection(sock=one, limit=BUFFER_BYTES)
    except BaseException:
        one.close()
        raise


def _require_ours(one: socket.socket) -> None:
    """Ask the kernel whether the other end is a process of our user; raises PermissionError."""
    raw = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    if _CREDENTIALS.unpack(raw)[1] != os.geteuid():
        raise PermissionError("the other end is another user's")


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[str]:
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
