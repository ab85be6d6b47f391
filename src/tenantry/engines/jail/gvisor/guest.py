"""A program on its way into a container under gVisor: the runtime's `exec` beside it, and what the stepper tells."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tenantry.engines.jail.gvisor.container import STEPPER
from tenantry.engines.jail.gvisor.rooms import Room
from tenantry.engines.jail.gvisor.stepper import REPORT
from tenantry.engines.jail.gvisor.steps import (
    AT_BARRIER,
    BEGUN,
    GAVE_UP,
    READ_BACK_BYTES,
    ReadBack,
    Steps,
    refusal_of,
)
from tenantry.engines.jail.launch import memory_file
from tenantry.engines.jail.output import readable

_MOST_SAID: Final = 4096
#: How runsc ends when it cannot do what it was told; it then says why.
_FAILED, _KILLED = 128, 128 + signal.SIGKILL
_SEND_SECONDS: Final = 30.0
_MOST_REPORTS: Final = 1 << 16


class Guest:
    """Made by `bring`. Wait for the barrier, `release` it, wait for its end; always `close`.

    Of the program the runtime is told nothing: it starts the stepper, which gets all else over a socket of ours.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", *, link: socket.socket, words: int, steps: Steps) -> None:
        self._process = process
        self._handle = os.pidfd_open(process.pid)
        self._link = link
        self._words = words
        self._steps = steps
        self._refusals: list[tuple[int, int]] = []

    @classmethod
    async def bring(cls, room: Room, steps: Steps, *, outputs: Sequence[int]) -> "Guest":
        """Start the stepper there, with `outputs`, which are closed here, as its output and errors; raises OSError."""
        return await asyncio.to_thread(cls._brought, room, steps, outputs)

    @classmethod
    def _brought(cls, room: Room, steps: Steps, outputs: Sequence[int]) -> "Guest":
        ours, theirs = socket.socketpair()
        words = os.memfd_create("runsc", os.MFD_CLOEXEC)
        asked = memory_file(json.dumps(_process(room.uid)).encode())
        try:
            with theirs:
                process = subprocess.Popen(
                    [str(room.sentry.program), f"--root={room.sentry.root}", "exec",
                     "--process", f"/proc/self/fd/{asked}", room.container],
                    stdin=theirs.fileno(), stdout=words, stderr=words, pass_fds=(asked,), cwd="/", env={},
                    start_new_session=True,
                )  # fmt: skip
            guest = cls(process, link=ours, words=words, steps=steps)
        except BaseException:
            ours.close()
            os.close(words)
            raise
        else:
            ours.settimeout(_SEND_SECONDS)
            with suppress(OSError):  # it has ended already, or will not read: its end, or the want of one, tells
                ours.sendall(steps.encoded())
                socket.send_fds(ours, [b"+"], list(outputs))
            ours.setblocking(False)
            return guest
        finally:
            for descriptor in (asked, *outputs):
                os.close(descriptor)

    async def at_barrier(self) -> ReadBack | None:
        """Wait until it has become all that the program will be; None when it will not come to that."""
        while (report := await self._report()) is not None:
            if report == AT_BARRIER:
                told = await self._read(READ_BACK_BYTES)
                return None if told is None else ReadBack.parsed(told)
            self._refusals.append(report)
        return None

    async def release(self) -> None:
        """Let it become the program."""
        with suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.get_running_loop().sock_sendall(self._link, b"+")

    async def ended(self) -> None:
        """Wait for the end of the program, as the runtime tells it."""
        await readable(asyncio.get_running_loop(), self._handle)

    def may_be_lost(self) -> bool:
        """Say whether it has ended as it would with its container: by SIGKILL, or by an error of the runtime's own."""
        code = self._process.poll()
        return code == _KILLED or (code == _FAILED and os.fstat(self._words).st_size > 0)

    def told(self) -> dict[str, object]:
        """Tell how it ended, in the words of a monitor (containing.py). Only once it has ended by itself."""
        code = self._process.wait()
        with suppress(OSError):
            while piece := self._link.recv(_MOST_REPORTS):
                self._refusals += REPORT.iter_unpack(piece[: len(piece) // REPORT.size * REPORT.size])
        if GAVE_UP in self._refusals:
            answers = [-answer for address, answer in self._refusals if address > GAVE_UP[0]]
            return {"exec-errno": refusal_of(answers)}
        if BEGUN in self._refusals:
            return {"exit-code": code}
        return {"launch-error": self._why()}

    def give_up(self) -> None:
        """Keep it from ever becoming the program: it ends where it waits."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Kill what is left of the runtime's part, and give back what was held."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self._process.wait()
        self._link.close()
        for descriptor in (self._handle, self._words):
            os.close(descriptor)

    def _why(self) -> str:
        if self._refusals:
            address, answer = self._refusals[-1]
            return f"{self._steps.told(address)}: {os.strerror(-answer) if answer < 0 else answer}"
        said = os.pread(self._words, _MOST_SAID, 0).decode(errors="replace").strip()
        return said or "the stepper ended without a word"

    async def _report(self) -> tuple[int, int] | None:
        found = await self._read(REPORT.size)
        return None if found is None else REPORT.unpack(found)

    async def _read(self, size: int) -> bytes | None:
        loop, found = asyncio.get_running_loop(), b""
        while len(found) < size:
            try:
                piece = await loop.sock_recv(self._link, size - len(found))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            found += piece
        return found


def _process(uid: int) -> dict[str, object]:
    """Give what an OCI runtime is told of a process: the stepper, as whose files they are, with no right."""
    return {
        "args": [f"/{STEPPER}"],
        "env": [],
        "cwd": "/",
        "user": {"uid": uid, "gid": uid},
        "capabilities": {},
        "noNewPrivileges": True,
    }
