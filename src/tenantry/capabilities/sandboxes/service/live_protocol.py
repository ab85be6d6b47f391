"""What an API process and a worker say to each other of a running sandbox: one connection an operation.

- all    → REQUEST {op, sandbox, job, …}    ← OK {…} or ERROR {kind, code, message, layer, fields}
- exec   → STDIN* STDIN_END RESIZE SIGNAL    ← STDOUT* STDERR* EXIT; who hangs up kills what runs
- read   ← DATA* END
- write  → DATA* END, then ← OK
- watch  ← EVENT*
- dial   after OK the connection is the bytes of what was dialled, both ways, without frames
"""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from tenantry.capabilities.sandboxes.errors import link_lost
from tenantry.engines.jail.exec_types import ExecOutcome
from tenantry.engines.jail.file_types import ChangeKind, FileChange, FileInfo, FileKind
from tenantry.engines.jail.types import Ending
from tenantry.foundation.errors import (
    Conflict,
    Denied,
    Exhausted,
    Fault,
    Gone,
    Invalid,
    NotFound,
    TenantryError,
    Unavailable,
)
from tenantry.kit.frames import HEAD_BYTES, Frame, FrameError, pack, unpack_head

PIECE_BYTES: Final = 64 << 10
"""Most that one frame of content holds."""
_ERRORS: Final = {
    each.kind.value: each for each in (Conflict, Denied, Exhausted, Fault, Gone, Invalid, NotFound, Unavailable)
}


class Kind(IntEnum):
    REQUEST = 1
    OK = 2
    ERROR = 3
    STDIN = 4
    STDIN_END = 5
    RESIZE = 6
    SIGNAL = 7
    STDOUT = 8
    STDERR = 9
    EXIT = 10
    DATA = 11
    END = 12
    EVENT = 13


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Read one frame; None when the other side has ended. Raises FrameError."""
    try:
        kind, length = unpack_head(await reader.readexactly(HEAD_BYTES))
        return Frame(kind, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def send(writer: asyncio.StreamWriter, kind: Kind, payload: bytes = b"") -> None:
    """Send one frame and wait until there is room for more; raises ConnectionError."""
    await send_bytes(writer, pack(kind, payload))


async def send_bytes(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write to a connection that may be gone, which not every event loop tells alike."""
    if writer.is_closing():
        raise ConnectionResetError("the other side is gone")
    writer.write(data)
    await writer.drain()


def pack_json(kind: Kind, told: Mapping[str, Any]) -> bytes:
    return pack(kind, json.dumps(told).encode())


async def send_json(writer: asyncio.StreamWriter, kind: Kind, told: Mapping[str, Any]) -> None:
    await send(writer, kind, json.dumps(told).encode())


def read_json(frame: Frame) -> dict[str, Any]:
    """Read an object; raises FrameError for anything else."""
    try:
        found = json.loads(frame.payload)
    except ValueError as error:
        raise FrameError("not JSON") from error
    if not isinstance(found, dict):
        raise FrameError("not an object")
    return found


def told_of(error: TenantryError) -> dict[str, Any]:
    plain = (str, int, float, list, tuple)
    fields = {name: value for name, value in error.fields.items() if isinstance(value, plain)}
    kind = error.kind.value if error.kind.value in _ERRORS else Fault.kind.value
    return {"kind": kind, "code": error.code, "message": error.message, "layer": error.layer, "fields": fields}


def error_of(told: Mapping[str, Any]) -> TenantryError:
    """Make the error again that the other side refused with."""
    made = _ERRORS.get(str(told.get("kind")), Fault)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in told["fields"].items()}
    return made(str(told["code"]), str(told["message"]), layer=str(told["layer"]), **fields)


async def answered(reader: asyncio.StreamReader, *, seconds: float | None) -> dict[str, Any]:
    """Wait for OK; raises what the other side refused with, Unavailable `sandbox_away`."""
    try:
        async with asyncio.timeout(seconds):
            frame = await read_frame(reader)
        if frame is None:
            raise link_lost()
        if frame.kind == Kind.ERROR:
            raise error_of(read_json(frame))
        if frame.kind != Kind.OK:
            raise link_lost()
        return read_json(frame)
    except (TimeoutError, FrameError) as error:
        raise link_lost() from error


def told_file(found: FileInfo) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "modified_at": found.modified_at.isoformat()}


def file_of(told: Mapping[str, Any]) -> FileInfo:
    return FileInfo(
        path=str(told["path"]),
        kind=FileKind(told["kind"]),
        size_bytes=int(told["size_bytes"]),
        mode=int(told["mode"]),
        modified_at=datetime.fromisoformat(told["modified_at"]),
    )


def change_of(told: Mapping[str, Any]) -> FileChange:
    return FileChange(kind=ChangeKind(told["kind"]), path=str(told["path"]), moved_from=str(told["moved_from"]))


def outcome_of(told: Mapping[str, Any]) -> ExecOutcome:
    return ExecOutcome(ending=Ending(told["ending"]), exit_code=told["exit_code"], detail=str(told["detail"]))
