"""The API process's side of the link to running sandboxes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, Final

import structlog

from tenantry.capabilities.sandboxes.errors import link_lost
from tenantry.capabilities.sandboxes.service.link_sockets import SCHEME, connect
from tenantry.capabilities.sandboxes.service.link_tls import LinkCaller
from tenantry.capabilities.sandboxes.service.live_protocol import (
    PIECE_BYTES,
    Kind,
    answered,
    change_of,
    error_of,
    file_of,
    outcome_of,
    pack_json,
    read_frame,
    read_json,
    send,
    send_json,
)
from tenantry.capabilities.sandboxes.types.living import ExecWanted, LivePlace
from tenantry.engines.jail.exec_types import ExecOutcome, TerminalSize
from tenantry.engines.jail.file_types import FileChange, FileInfo
from tenantry.engines.jail.types import Stream
from tenantry.foundation.tls_streams import Streams
from tenantry.kit.frames import FrameError, pack

_log = structlog.get_logger(__name__)

_CONNECT_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 30.0
_SAVE_SECONDS: Final = 1800.0


class _Line:
    """One connection, one operation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class LiveExecution:
    """A program that runs in a sandbox; for one reader and one writer. `close` it always: that kills what is left."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._end: ExecOutcome | None = None

    async def read(self) -> tuple[Stream, bytes] | None:
        """Wait for more output; None when it has ended. With a terminal all of it is stdout.

        Raises Unavailable `sandbox_away` when the sandbox or its worker has gone meanwhile.
        """
        while self._end is None:
            try:
                frame = await read_frame(self._line.reader)
                if frame is None:
                    raise link_lost()
                if frame.kind == Kind.STDOUT:
                    return Stream.STDOUT, frame.payload
                if frame.kind == Kind.STDERR:
                    return Stream.STDERR, frame.payload
                if frame.kind == Kind.EXIT:
                    self._end = outcome_of(read_json(frame))
                elif frame.kind == Kind.ERROR:
                    raise error_of(read_json(frame))
            except FrameError as error:
                raise link_lost() from error
        return None

    async def write(self, data: bytes) -> None:
        """Give it input; waits while it takes none. What comes after its end is nobody's."""
        for at in range(0, len(data), PIECE_BYTES):
            await self._send(Kind.STDIN, data[at : at + PIECE_BYTES])

    def close_stdin(self) -> None:
        self._say(pack(Kind.STDIN_END))

    def resize(self, size: TerminalSize) -> None:
        """Give its terminal another size; without effect on one that has none."""
        self._say(pack_json(Kind.RESIZE, asdict(size)))

    def signal(self, number: int) -> None:
        """Send a signal to its process group; without effect once it has ended, and where it is none."""
        self._say(pack_json(Kind.SIGNAL, {"number": int(number)}))

    def _say(self, frame: bytes) -> None:
        if not self._line.writer.is_closing():
            self._line.writer.write(frame)

    async def wait(self) -> ExecOutcome:
        """Wait for its end; output that nobody has read is dropped."""
        while await self.read() is not None:
            pass
        if self._end is None:
            raise link_lost()
        return self._end

    async def close(self) -> None:
        """Hang up; what still runs of it is killed, and input that it has not taken is dropped."""
        self._line.writer.transport.abort()
        await self._line.close()

    async def _send(self, kind: Kind, payload: bytes = b"") -> None:
        with contextlib.suppress(ConnectionError):
            await send(self._line.writer, kind, payload)


class LiveFiles:
    """Files of one running sandbox, paths as inside; what is refused is refused as the sandbox would be."""

    def __init__(self, client: "LiveClient", place: LivePlace) -> None:
        self._client = client
        self._place = place

    async def list(self, path: str) -> list[FileInfo]:
        told = await self._client.ask(self._place, "list", path=path)
        return [file_of(each) for each in told["items"]]

    async def stat(self, path: str) -> FileInfo:
        return file_of((await self._client.ask(self._place, "stat", path=path))["file"])

    async def read(self, path: str) -> tuple[FileInfo, AsyncIterator[bytes]]:
        """Open a file; the content is to be read to its end, or closed (`aclose`)."""
        line, told = await self._client.open(self._place, "read", path=path)
        return file_of(told["file"]), _content(line)

    async def write(
        self, path: str, content: AsyncIterator[bytes], mode: int = 0o644, *, most_bytes: int | None = None
    ) -> FileInfo:
        """Write a file, whole or not at all; gives what is there then."""
        line, _ = await self._client.open(self._place, "write", path=path, mode=mode, most_bytes=most_bytes)
        answer = asyncio.create_task(answered(line.reader, seconds=None))
        try:
            with contextlib.suppress(ConnectionError):  # refused meanwhile: the answer says why
                async for chunk in content:
                    for at in range(0, len(chunk), PIECE_BYTES):
                        await send(line.writer, Kind.DATA, chunk[at : at + PIECE_BYTES])
                    if answer.done():
                        break
                else:
                    await send(line.writer, Kind.END)
            return file_of((await _soon(answer))["file"])
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            await line.close()

    async def make_directory(self, path: str) -> None:
        await self._client.ask(self._place, "make_directory", path=path)

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        await self._client.ask(self._place, "delete", path=path, recursive=recursive)

    async def move(self, source: str, target: str) -> None:
        await self._client.ask(self._place, "move", path=source, target=target)

    async def watch(self, path: str) -> AsyncIterator[FileChange]:
        """Tell what changes below a directory from now on, until closed (`aclose`) or the sandbox ends."""
        line, _ = await self._client.open(self._place, "watch", path=path)
        return _changes(line)


class LiveClient:
    """One for each process; holds nothing between two operations."""

    def __init__(self, caller: LinkCaller | None = None) -> None:
        """Take the way to workers of other machines; without it those of this machine alone are spoken to."""
        self._caller = caller

    async def exec(self, place: LivePlace, wanted: ExecWanted) -> LiveExecution:
        """Start a program; raises Unavailable `sandbox_away` and what the worker refuses with."""
        asked = asdict(wanted)
        line, _ = await self.open(place, "exec", **asked)
        return LiveExecution(line)

    async def files(self, place: LivePlace) -> LiveFiles:
        return LiveFiles(self, place)

    async def dial(self, place: LivePlace, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to 127.0.0.1:port inside; raises Conflict `port_refused`."""
        line, _ = await self.open(place, "dial", port=port)
        return line.reader, line.writer

    async def ask(self, place: LivePlace, op: str, /, **asked: Any) -> dict[str, Any]:
        """Ask for what one answer tells."""
        line, told = await self.open(place, op, **asked)
        await line.close()
        return told

    async def open(self, place: LivePlace, op: str, /, **asked: Any) -> tuple[_Line, dict[str, Any]]:
        """Begin an operation: the connection, which is the caller's to close, and the first answer."""
        try:
            line = _Line(*await self._connect(place.address))
        except (OSError, TimeoutError) as error:
            raise link_lost() from error
        request = {"op": op, "sandbox": place.sandbox_id.hex, "job": place.job_id.hex, **asked}
        try:
            with contextlib.suppress(ConnectionError):  # the answer says why, if there is one
                await send_json(line.writer, Kind.REQUEST, request)
            return line, await answered(line.reader, seconds=_SAVE_SECONDS if op == "save" else _ANSWER_SECONDS)
        except BaseException:
            await line.close()
            raise

    async def _connect(self, address: str) -> Streams:
        if address.startswith(SCHEME):
            return await connect(address, seconds=_CONNECT_SECONDS)
        if self._caller is None:
            _log.warning("link.refused", why="the worker is on another machine, and worker_link is not set here")
            raise PermissionError("there is no way to that worker")
        return await self._caller.connect(address, seconds=_CONNECT_SECONDS)


async def _soon(answer: "asyncio.Task[dict[str, Any]]") -> dict[str, Any]:
    """Wait for the answer to what has been sent whole, however long that took."""
    try:
        async with asyncio.timeout(_SAVE_SECONDS):
            return await answer
    except TimeoutError as error:
        raise link_lost() from error


async def _content(line: _Line) -> AsyncIterator[bytes]:
    try:
        while True:
            frame = await read_frame(line.reader)
            if frame is None:
                raise link_lost()
            if frame.kind == Kind.ERROR:
                raise error_of(read_json(frame))
            if frame.kind != Kind.DATA:
                return
            yield frame.payload
    except FrameError as error:
        raise link_lost() from error
    finally:
        await line.close()


async def _changes(line: _Line) -> AsyncIterator[FileChange]:
    try:
        while (frame := await read_frame(line.reader)) is not None and frame.kind == Kind.EVENT:
            yield change_of(read_json(frame))
    except FrameError as error:
        raise link_lost() from error
    finally:
        await line.close()
