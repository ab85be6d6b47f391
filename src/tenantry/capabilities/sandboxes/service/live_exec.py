"""One program in a running sandbox, over its connection: input and wishes one way, masked output the other."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from tenantry.capabilities.sandboxes.service.live_protocol import Kind, read_frame, read_json, send, send_json
from tenantry.capabilities.sandboxes.service.live_room import LiveEntry
from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.exec_types import ExecSpec, TerminalSize
from tenantry.engines.jail.execution import Execution
from tenantry.engines.jail.types import Stream
from tenantry.kit.frames import FrameError
from tenantry.kit.masking.known import secrets_of
from tenantry.kit.masking.stream import Mask

_FLUSH_SECONDS: Final = 0.05
"""Output that may yet become a secret waits so long for more: a prompt must not wait for the next line."""
_OUTPUT: Final = {Stream.STDOUT: Kind.STDOUT, Stream.STDERR: Kind.STDERR}
_PIECE_BYTES: Final = 512 << 10


async def serve_exec(
    entry: LiveEntry, asked: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Run what was asked for until it ends or the other side hangs up, which kills it.

    A program without a terminal is work, whether it says anything or not; a terminal is idle while nobody types.
    """
    terminal = TerminalSize(**asked["terminal"]) if asked["terminal"] else None
    wanted = ExecSpec(
        command=tuple(asked["command"]),
        env=asked["env"],
        workdir=asked["workdir"],
        terminal=terminal,
        timeout_seconds=asked["timeout_seconds"],
        output_bytes=int(asked["output_bytes"]),
    )
    own = secrets_of(wanted.env)
    masks = (entry.mask, Mask(own)) if own else (entry.mask,)
    with contextlib.nullcontext() if terminal else entry.busy():
        execution = await entry.sandbox.exec(wanted)
        try:
            await send_json(writer, Kind.OK, {})
            heard = asyncio.create_task(_hear(execution, entry, reader), name="exec-input")
            try:
                await _tell(execution, entry, writer, masks=masks)
            finally:
                heard.cancel()
                await asyncio.gather(heard, return_exceptions=True)
            outcome = await execution.wait()
            told = {"ending": outcome.ending, "exit_code": outcome.exit_code, "detail": entry.mask.text(outcome.detail)}
            await send_json(writer, Kind.EXIT, told)
        finally:
            await execution.close()


async def _hear(execution: Execution, entry: LiveEntry, reader: asyncio.StreamReader) -> None:
    """Pass on input, sizes and signals; the end of the connection, or what is no frame, kills the program."""
    try:
        while (frame := await read_frame(reader)) is not None:
            entry.touch()
            if frame.kind == Kind.STDIN:
                with contextlib.suppress(BrokenPipeError):
                    await execution.write(frame.payload)
            elif frame.kind == Kind.STDIN_END:
                execution.close_stdin()
            elif frame.kind == Kind.RESIZE:
                told = read_json(frame)
                with contextlib.suppress(SpecInvalid):
                    execution.resize(TerminalSize(int(told["rows"]), int(told["columns"])))
            elif frame.kind == Kind.SIGNAL:
                with contextlib.suppress(SpecInvalid):
                    execution.signal(int(read_json(frame)["number"]))
            else:
                break
    except (FrameError, KeyError, TypeError, ValueError, OSError):
        pass
    await execution.close()


class _Masked:
    """Both streams, masked by what the sandbox holds and by what this one program was given."""

    def __init__(self, masks: tuple[Mask, ...]) -> None:
        self._masks = masks
        self._maskers = {stream: self._fresh() for stream in Stream}

    def _fresh(self) -> list[Any]:
        return [mask.stream() for mask in self._masks]

    def feed(self, stream: Stream, data: bytes) -> bytes:
        for masker in self._maskers[stream]:
            data = masker.feed(data)
        return data

    def flush(self, stream: Stream) -> bytes:
        """Give what was held back; what had begun to be a secret is masked, its rest begins anew."""
        data = b""
        for masker in self._maskers[stream]:
            data = masker.feed(data) + masker.finish()
        self._maskers[stream] = self._fresh()
        return data


async def _tell(
    execution: Execution, entry: LiveEntry, writer: asyncio.StreamWriter, *, masks: tuple[Mask, ...]
) -> None:
    masked, held = _Masked(masks), set[Stream]()
    coming = asyncio.ensure_future(execution.read())
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=_FLUSH_SECONDS if held else None)
            if not done:
                await _flush(masked, held, writer)
                continue
            piece = await coming
            if piece is None:
                break
            entry.touch()
            stream, data = piece
            held.add(stream)
            await _send(writer, stream, masked.feed(stream, data))
            coming = asyncio.ensure_future(execution.read())
        await _flush(masked, held, writer)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _flush(masked: _Masked, held: set[Stream], writer: asyncio.StreamWriter) -> None:
    for stream in sorted(held):
        await _send(writer, stream, masked.flush(stream))
    held.clear()


async def _send(writer: asyncio.StreamWriter, stream: Stream, data: bytes) -> None:
    for at in range(0, len(data), _PIECE_BYTES):
        await send(writer, _OUTPUT[stream], data[at : at + _PIECE_BYTES])
