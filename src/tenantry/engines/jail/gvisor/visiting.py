"""Programs that are put into a living sandbox under gVisor: by the stepper too, each looked at before it begins."""

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from tenantry.engines.jail.cgroups import Cgroup
from tenantry.engines.jail.docker.rooms import is_running
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.exec_types import ExecOutcome, ExecSpec
from tenantry.engines.jail.gvisor.guest import Guest
from tenantry.engines.jail.gvisor.rooms import Room
from tenantry.engines.jail.gvisor.steps import Bounds, ReadBack, steps_of_exec, steps_of_signal
from tenantry.engines.jail.output import readable
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import Ending, Spec

_SECONDS: Final = 30.0
_KILL: Final = 9
_DEATH_SECONDS: Final = 1.0
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_MISSING: Final = frozenset({2, 20})  # ENOENT, ENOTDIR


class Visitor:
    """Somebody put in: `left` is of a wait status, made of what the runtime tells; `refusal` may come as late."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.pid = 0  # it has no number on the host
        self.terminal = -1
        self.left: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.refusal: ExecOutcome | None = None
        self.inside = 0
        """Its number inside, that of its process group too."""

    def refuse(self, detail: str, exit_code: int | None = None) -> None:
        if self.refusal is None:
            self.refusal = ExecOutcome(ending=Ending.NOT_STARTED, exit_code=exit_code, detail=detail)


class Hall:
    """The way into one sandbox, as long as it lives; `close` waits for what is still on its way."""

    def __init__(self, room: Room, spec: Spec, *, cgroup: Cgroup, rlimits: Bounds, files: Bounds) -> None:
        self._room = room
        self._spec = spec
        self._rlimits, self._files = rlimits, files
        self._visitors: dict[int, Visitor] = {}
        self._tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.cgroup = cgroup
        self.receipt: Receipt | None = None

    async def bring_in(self, wanted: ExecSpec, *, streams: Sequence[int]) -> Visitor:
        """Start a program with these as its input, output and errors; whatever goes wrong is its `refusal`.

        Raises JailUnavailable `gvisor_no_terminal` for one that wants a terminal.
        """
        if wanted.terminal is not None:
            raise JailUnavailable(
                "gvisor_no_terminal",
                "no program under gVisor has a terminal",
                remedy="leave the terminal out, or have it run by a worker with sandboxes.backend = 'jail' or 'docker'",
            )
        self._tokens += 1
        visitor = self._visitors[self._tokens] = Visitor(self._tokens)
        steps = steps_of_exec(self._spec, wanted, uid=self._room.uid, rlimits=self._rlimits, files=self._files)
        held = [os.dup(stream) for stream in streams]
        bringing = asyncio.create_task(Guest.bring(self._room, steps, outputs=held))
        self._later(self._attend(visitor, bringing))
        try:
            guest = await asyncio.shield(bringing)
        except OSError as error:
            visitor.refuse(f"the runtime could not start it: {error}")
        except asyncio.CancelledError:
            bringing.add_done_callback(_given_up)
            raise
        else:
            await self._admit(visitor, guest)
        return visitor

    def strike(self, token: int, number: int) -> None:
        """Send a signal to its process group; nothing once it has ended."""
        visitor = self._visitors.get(token)
        if visitor is not None and visitor.inside:
            self._later(self._signal(visitor.inside, number))

    async def close(self) -> None:
        """Wait until nobody is on the way in or out; the sandbox is dead."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _admit(self, visitor: Visitor, guest: Guest) -> None:
        """Wait for it at the barrier, compare it with the receipt, let it go on; whoever is refused is killed."""
        try:
            async with asyncio.timeout(_SECONDS):
                told = await guest.at_barrier()
        except TimeoutError:
            visitor.refuse(f"it was not ready within {_SECONDS:g} s")
            guest.give_up()
            return
        except BaseException:
            guest.give_up()
            raise
        if told is None:
            return  # its end says why
        faults = self._faults(told)
        if faults:
            visitor.refuse("this is not in its sandbox: " + "; ".join(faults))
            guest.give_up()
            return
        visitor.inside = int(told.status["Pid"])
        await guest.release()

    def _faults(self, told: ReadBack) -> list[str]:
        """List what makes it something else than the program that the sandbox began with."""
        receipt = self.receipt
        if receipt is None:
            return ["the sandbox has no receipt"]
        held = {name: told.status.get(name) for name in receipt.capabilities}
        checks = {
            "it holds other capabilities": held == dict(receipt.capabilities),
            "it has another seccomp filter": told.status.get("Seccomp") == receipt.seccomp_mode,
            "it has another uid": told.uid_map == receipt.uid_map,
            "it has other limits": dict(told.rlimits) == dict(receipt.rlimits),
        }
        return [fault for fault, found in checks.items() if not found]

    async def _attend(self, visitor: Visitor, bringing: "asyncio.Task[Guest]") -> None:
        try:
            guest = await asyncio.shield(bringing)
        except OSError:
            self._visitors.pop(visitor.token, None)
            visitor.left.set_result(None)
            return
        await guest.ended()
        if guest.may_be_lost():  # then the sandbox's kernel is gone in a moment
            await self._gone()
        told = guest.told() if is_running(self._room.handle) else {}
        if visitor.inside and is_running(self._room.handle):
            await self._signal(visitor.inside, _KILL)  # what it has left in its group goes with it
        self._visitors.pop(visitor.token, None)
        visitor.left.set_result(self._judged(visitor, told))
        await asyncio.to_thread(guest.close)

    async def _gone(self) -> None:
        """Wait a moment for the end of the sandbox."""
        with suppress(OSError, TimeoutError):
            handle = os.dup(self._room.handle)
            try:
                async with asyncio.timeout(_DEATH_SECONDS):
                    await readable(asyncio.get_running_loop(), handle)
            finally:
                os.close(handle)

    def _judged(self, visitor: Visitor, told: Mapping[str, object]) -> int | None:
        """Make a wait status of what the runtime and the stepper have told, or a refusal."""
        if isinstance(code := told.get("exit-code"), int):
            return _KILL if code == 128 + _KILL else code << 8  # wait(2)'s
        if isinstance(number := told.get("exec-errno"), int):
            missing = number in _MISSING
            told_so = "command not found" if missing else f"command cannot be executed ({os.strerror(number)})"
            visitor.refuse(told_so, _NOT_FOUND if missing else _NOT_EXECUTABLE)
        elif "launch-error" in told:
            visitor.refuse(str(told["launch-error"]))
        return None

    async def _signal(self, group: int, number: int) -> None:
        with suppress(OSError):
            guest = await Guest.bring(self._room, steps_of_signal(group, number), outputs=[])
            await guest.ended()
            await asyncio.to_thread(guest.close)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _given_up(bringing: "asyncio.Task[Guest]") -> None:
    """Keep one that nobody waits for any more from becoming a program."""
    if not bringing.cancelled() and bringing.exception() is None:
        bringing.result().give_up()
