"""The worker's side of the link: answers for the sandboxes of its room, one connection an operation."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog

from tenantry.capabilities.sandboxes.errors import content_not_kept, link_lost, port_refused
from tenantry.capabilities.sandboxes.service.link_sockets import Door, accept_loop, while_there
from tenantry.capabilities.sandboxes.service.live_exec import serve_exec
from tenantry.capabilities.sandboxes.service.live_protocol import (
    PIECE_BYTES,
    Kind,
    read_frame,
    read_json,
    send,
    send_bytes,
    send_json,
    told_file,
    told_of,
)
from tenantry.capabilities.sandboxes.service.live_room import LiveEntry, LiveRoom, told_tree
from tenantry.foundation.errors import Fault, Invalid, TenantryError
from tenantry.kit.frames import FrameError

_REQUEST_SECONDS: Final = 5.0
_MOST_FILE_BYTES: Final = 1 << 40
_WATCH_SECONDS: Final = 0.05
"""How long a watch has to begin before it is answered."""

_log = structlog.get_logger(__name__)


class LiveLink:
    """One for each worker process; `open` it, which gives the room its address, and `close` it before the room."""

    def __init__(self, room: LiveRoom, door: Door) -> None:
        self._room = room
        self._door = door
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        listener = await self._door.open()
        self._room.address = self._door.address
        self._serving = asyncio.create_task(accept_loop(listener, self._door, self._serve), name="live-link")
        self._serving.add_done_callback(lambda _: listener.close())

    async def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._door.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one operation; what is wrong with it is told, and ends nothing else."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                frame = await read_frame(reader)
            if frame is None or frame.kind != Kind.REQUEST:
                return
            asked = read_json(frame)
            entry = self._room.find(UUID(hex=asked["sandbox"]), UUID(hex=asked["job"]))
            with entry.spoken_with():
                operation = _OPERATIONS[asked["op"]]
                await while_there(writer, operation(self._room, entry, asked, reader, writer))
        except TenantryError as error:
            await _refuse(writer, error)
        except (ConnectionError, TimeoutError):
            return
        except (FrameError, KeyError, TypeError, ValueError):
            refused = Invalid("link_request_invalid", "the request is none of this link", layer="sandboxes")
            await _refuse(writer, refused)
        except OSError as error:
            _log.warning("link.fault", reason=error.strerror)
            await _refuse(writer, link_lost())
        except Exception as error:  # noqa: BLE001 - one operation that fails ends no other
            _log.exception("link.fault", kind=type(error).__name__)
            await _refuse(writer, Fault("internal", "an error of ours in the worker", layer="sandboxes"))
        await _part(reader, writer)


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that this was all, and take what still comes: were it left unread, the last words would be lost with it."""
    if writer.is_closing():
        return
    with contextlib.suppress(TimeoutError, OSError):
        writer.write_eof()
        async with asyncio.timeout(_REQUEST_SECONDS):
            while await reader.read(PIECE_BYTES):
                pass


async def _refuse(writer: asyncio.StreamWriter, error: TenantryError) -> None:
    with contextlib.suppress(ConnectionError):
        await send_json(writer, Kind.ERROR, told_of(error))


async def _exec(
    _room: LiveRoom,
    entry: LiveEntry,
    asked: Mapping[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    await serve_exec(entry, asked, reader, writer)


async def _list(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    found = await room.in_thread(entry, partial(entry.sandbox.files.list, asked["path"]))
    await send_json(writer, Kind.OK, {"items": [told_file(each) for each in found]})


async def _stat(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    found = await room.in_thread(entry, partial(entry.sandbox.files.stat, asked["path"]))
    await send_json(writer, Kind.OK, {"file": told_file(found)})


async def _read(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    files, path = entry.sandbox.files, asked["path"]
    source = await room.in_thread(entry, partial(files.open, path))
    with contextlib.closing(source):
        found = await room.in_thread(entry, partial(files.stat, path))
        await send_json(writer, Kind.OK, {"file": told_file(found)})
        while piece := await room.in_thread(entry, partial(source.read, PIECE_BYTES)):
            entry.touch()
            await send(writer, Kind.DATA, piece)
        await send(writer, Kind.END)


async def _write(
    room: LiveRoom,
    entry: LiveEntry,
    asked: Mapping[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Write each piece by a call of its own: no thread waits for what is still to come."""
    most = int(asked["most_bytes"] or _MOST_FILE_BYTES)
    target = entry.sandbox.files.writer(asked["path"], mode=int(asked["mode"]), most_bytes=most)
    await send_json(writer, Kind.OK, {})
    try:
        await room.in_thread(entry, target.begin)
        async for piece in _pieces(reader):
            entry.touch()
            await room.in_thread(entry, partial(target.write, piece))
        found = await room.in_thread(entry, target.finish)
    finally:
        await asyncio.shield(room.in_thread(entry, target.discard))
    await send_json(writer, Kind.OK, {"file": told_file(found)})


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        frame = await read_frame(reader)
        if frame is None or frame.kind not in (Kind.DATA, Kind.END):
            raise link_lost()  # what broke off is not a file
        if frame.kind == Kind.END:
            return
        yield frame.payload


async def _make_directory(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    await room.in_thread(entry, partial(entry.sandbox.files.make_directory, asked["path"]))
    await send_json(writer, Kind.OK, {})


async def _delete(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    recursive = bool(asked["recursive"])
    await room.in_thread(entry, partial(entry.sandbox.files.delete, asked["path"], recursive=recursive))
    await send_json(writer, Kind.OK, {})


async def _move(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    await room.in_thread(entry, partial(entry.sandbox.files.move, asked["path"], asked["target"]))
    await send_json(writer, Kind.OK, {})


async def _watch(
    room: LiveRoom,
    entry: LiveEntry,
    asked: Mapping[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Tell of changes until the other side hangs up; a watch by itself is no traffic, what it tells is."""
    with room.watched(entry):
        await _watched(entry, asked, reader, writer)


async def _watched(
    entry: LiveEntry, asked: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    changes = aiter(entry.sandbox.files.watch(asked["path"]))
    gone = asyncio.create_task(read_frame(reader))
    coming = asyncio.ensure_future(anext(changes, None))
    try:
        await asyncio.wait({coming}, timeout=_WATCH_SECONDS)
        if not coming.done() or coming.exception() is None:
            await send_json(writer, Kind.OK, {})
        while True:
            await asyncio.wait({gone, coming}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or (change := await coming) is None:
                return
            entry.touch()
            told = {"kind": change.kind, "path": change.path, "moved_from": change.moved_from}
            await send_json(writer, Kind.EVENT, told)
            coming = asyncio.ensure_future(anext(changes, None))
    finally:
        for task in (gone, coming):
            task.cancel()
        await asyncio.gather(gone, coming, return_exceptions=True)
        if (close := getattr(changes, "aclose", None)) is not None:
            await close()


async def _dial(
    _room: LiveRoom,
    entry: LiveEntry,
    asked: Mapping[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until both sides have ended, or one is gone."""
    port = int(asked["port"])
    try:
        inner = await entry.sandbox.dial(port)
    except OSError as error:
        raise port_refused(port, error.strerror or "it cannot be reached") from error
    far_reader, far_writer = await asyncio.open_connection(sock=inner)
    try:
        await send_json(writer, Kind.OK, {})
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(reader, far_writer, entry))
            group.create_task(_carry(far_reader, writer, entry))
    except* ConnectionError:
        pass
    finally:
        far_writer.close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, entry: LiveEntry) -> None:
    while piece := await source.read(PIECE_BYTES):
        entry.touch()
        await send_bytes(target, piece)
    if not target.is_closing():
        target.write_eof()


async def _save(
    room: LiveRoom, entry: LiveEntry, asked: Mapping[str, Any], _reader: object, writer: asyncio.StreamWriter
) -> None:
    if not entry.keeps:
        raise content_not_kept()
    with entry.busy():
        tree = await room.keep(entry, UUID(hex=asked["tree"]))
    await send_json(writer, Kind.OK, told_tree(tree))


_OPERATIONS: Final[Mapping[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    "exec": _exec,
    "list": _list,
    "stat": _stat,
    "read": _read,
    "write": _write,
    "make_directory": _make_directory,
    "delete": _delete,
    "move": _move,
    "watch": _watch,
    "dial": _dial,
    "save": _save,
}
