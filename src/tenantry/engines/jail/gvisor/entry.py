"""From a container under gVisor to a running program: furnished, looked at from both sides, admitted by its receipt."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from tenantry.engines.jail import kernel
from tenantry.engines.jail.bringing import files_of
from tenantry.engines.jail.certificates import write_certificates
from tenantry.engines.jail.docker.rooms import is_running
from tenantry.engines.jail.errors import TreeInvalid
from tenantry.engines.jail.furnish import write_files
from tenantry.engines.jail.gvisor.group import SentryGroup
from tenantry.engines.jail.gvisor.guest import Guest
from tenantry.engines.jail.gvisor.receipts import receipt_of
from tenantry.engines.jail.gvisor.rooms import Room
from tenantry.engines.jail.gvisor.steps import ReadBack, Steps, steps_of
from tenantry.engines.jail.launch import Death, LauncherClient
from tenantry.engines.jail.listening import open_listeners
from tenantry.engines.jail.output import readable
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.trees import SavedTree
from tenantry.engines.jail.types import MIB, Attach, Ending, Listeners
from tenantry.foundation.threads import in_own_thread

_SETUP_SECONDS: Final = 60.0
_DEATH_SECONDS: Final = 1.0


class Entry:
    """Brings one program into one room, and tells of its end by `death`, when nothing of it is left."""

    def __init__(self, room: Room, parts: Parts, *, launcher: LauncherClient, version: str) -> None:
        """`version` is the engine's; a seat in the room's group keeps that until it has been read."""
        loop = asyncio.get_running_loop()
        self.death: asyncio.Future[Death] = loop.create_future()
        self._room = room
        self._parts = parts
        self._launcher = launcher
        self._version = version
        self._guest: asyncio.Future[Guest] = loop.create_future()
        self._bringing: asyncio.Task[Guest] | None = None
        self._handle = os.dup(room.handle)
        parts.init, parts.init_pid = os.dup(room.handle), room.sentry.pid
        launcher.prepare(room.container, join=parts.join)

    def attend(self, status: int) -> None:
        """Look after it until its end, which is written to `status` and closes that."""
        self._attending = asyncio.create_task(self._attend(status))

    async def bring_up(self, sandbox: Sandbox, outputs: list[int], attach: Attach | None) -> None:
        """Furnish the room, put the program in and admit it; `outputs` are taken, and closed.

        What goes wrong inside ends the sandbox `not_started`; it raises only what the supervisor itself cannot do, and
        what `attach` raises.
        """
        try:
            listeners = await self._furnished(sandbox)
            if listeners and attach:
                try:
                    await attach(listeners)
                except BaseException:
                    listeners.close()
                    raise
            parts = self._parts
            steps = steps_of(parts.spec, uid=self._room.uid, rlimits=parts.rlimits, files=files_of(parts))
            self._bringing = asyncio.create_task(self._bring(steps, tuple(outputs)))
            outputs.clear()
            guest = await asyncio.shield(self._bringing)
        except OSError as error:
            sandbox.end(Ending.NOT_STARTED, f"it could not be furnished: {error}")
            return
        except TreeInvalid as error:
            sandbox.end(Ending.NOT_STARTED, error.message)
            return
        finally:
            for descriptor in outputs:
                os.close(descriptor)
        told = await self._at_barrier(sandbox, guest)
        if told is not None:
            await self._admit(sandbox, guest, told)

    async def _furnished(self, sandbox: Sandbox) -> Listeners | None:
        """Write what it is given, carry its tree in, open its listeners; raises OSError, TreeInvalid."""
        parts, room = self._parts, self._room
        parts.workspace = room.folders.opened("workspace")
        await self._in_thread(self._write)
        sandbox.filled = await self._fill()
        if parts.spec.network is None:
            return None
        inode = await self._in_thread(lambda: kernel.read_namespaces(room.sentry.pid)["net"])
        return await open_listeners(self._launcher, parts.spec.network, pid=room.sentry.pid, inode=inode, raised=True)

    def _write(self) -> None:
        spec, room = self._parts.spec, self._room
        if spec.inputs:
            write_files(room.folders.opened("inputs"), spec.inputs, room.uid, private=False)
        if spec.secret_files:
            write_files(room.folders.opened("secrets"), spec.secret_files, room.uid, private=True)
        if spec.authority is not None:
            folder = room.folders.opened("authority")
            try:
                seen = f"/proc/{room.gofer}/root"
                write_certificates(seen, f"/proc/self/fd/{folder}/.", spec.authority, uid=room.uid)
            finally:
                os.close(folder)

    async def _fill(self) -> SavedTree | None:
        parts = self._parts
        if parts.spec.workspace is None:
            return None
        most = parts.spec.limits.disk_mib * MIB
        work = parts.spec.workspace.ready(parts.workspace, uid=parts.uid, max_bytes=most)
        return await asyncio.shield(in_own_thread(work))  # once both ends are held, it has to come to its end

    async def _bring(self, steps: Steps, outputs: Sequence[int]) -> Guest:
        """Go on to the end even if nobody waits for it any more: half of a guest nobody could close."""
        guest = await Guest.bring(self._room, steps, outputs=outputs)
        self._guest.set_result(guest)
        return guest

    async def _at_barrier(self, sandbox: Sandbox, guest: Guest) -> ReadBack | None:
        standing = asyncio.ensure_future(guest.at_barrier())
        try:
            either: set[asyncio.Future[Any]] = {standing, self.death}
            await asyncio.wait(either, timeout=_SETUP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not standing.done() and not self.death.done():
                sandbox.end(Ending.NOT_STARTED, f"it was not ready within {_SETUP_SECONDS:g} s")
            return standing.result() if standing.done() else None
        finally:
            standing.cancel()

    async def _admit(self, sandbox: Sandbox, guest: Guest, told: ReadBack) -> None:
        spec = self._parts.spec
        try:
            receipt = await self._in_thread(partial(receipt_of, self._room, spec, told, engine=self._version))
        except OSError:
            return  # its kernel is gone, and its end is told by whoever attends it
        sandbox.admit(receipt)
        faults = receipt.faults(supervisor_uid=os.geteuid())
        if faults:
            sandbox.end(Ending.NOT_STARTED, "this is no sandbox: " + "; ".join(faults))
            return
        sandbox.start_clock()
        sandbox.verified = True
        await guest.release()

    async def _attend(self, status: int) -> None:
        gone = asyncio.ensure_future(readable(asyncio.get_running_loop(), self._handle))
        left = asyncio.ensure_future(self._left())
        await asyncio.wait({gone, left}, return_when=asyncio.FIRST_COMPLETED)
        guest = self._guest.result() if self._guest.done() else None
        if guest is not None and guest.may_be_lost():  # then the sandbox's kernel is gone in a moment
            await asyncio.wait({gone}, timeout=_DEATH_SECONDS)
        lost = not is_running(self._handle)
        left.cancel()
        if guest is not None and not lost:
            os.write(status, json.dumps(guest.told()).encode() + b"\n")
        os.close(status)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)  # whatever the program has left there
        await gone
        os.close(self._handle)
        if self._bringing is not None:
            with suppress(OSError):
                await self._in_thread((await self._bringing).close)
        await self._in_thread(self._settle)
        self._launcher.dismiss(self._room.container)
        self.death.set_result(Death(0, room_lost=lost))

    def _settle(self) -> None:
        if isinstance(self._parts.cgroup, SentryGroup):
            self._parts.cgroup.settle()

    async def _left(self) -> None:
        await (await asyncio.shield(self._guest)).ended()

    def _in_thread(self, call: Any) -> Any:
        return asyncio.get_running_loop().run_in_executor(self._parts.threads, call)
