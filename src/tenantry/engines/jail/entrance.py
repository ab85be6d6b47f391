"""From a fork that enters a sandbox to a program that runs there: let in only once it has been looked at.

The fork (entering.py) ends at the door (keeper.py), where it is already everything the program will be. There it is
read back from the kernel, compared with the sandbox's receipt, and either let in or killed.
"""

import asyncio
import errno
import json
import os
import resource
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tenantry.engines.jail import keeper, kernel
from tenantry.engines.jail.bubblewrap import environment_of
from tenantry.engines.jail.cgroups import OVERHEAD_NPROC, Cgroup
from tenantry.engines.jail.exec_types import ExecOutcome, ExecSpec
from tenantry.engines.jail.launch import LauncherClient, memory_file
from tenantry.engines.jail.output import readable
from tenantry.engines.jail.receipt import Receipt
from tenantry.engines.jail.types import Ending, Spec

_SECONDS: Final = 10.0
_MESSAGE_BYTES: Final = 1 << 16
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_GO: Final = b"\1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The sandbox that is entered; `init` is a handle of its process 1, `init_pid` its number on the host."""

    sandbox_id: str
    spec: Spec
    uid: int | None
    cgroup: Cgroup
    join: Sequence[str]
    in_container: bool
    rlimits: Sequence[tuple[int, int]]
    init: int
    init_pid: int
    receipt: Receipt
    launcher: LauncherClient

    async def bring_in(self, wanted: ExecSpec, *, streams: Sequence[int]) -> "Guest":
        """Start a program with these as its input, output and errors (none with a terminal).

        Raises JailUnavailable when the launcher is gone; everything else that goes wrong is the guest's `refusal`.
        """
        return await bring_in(self, wanted, streams=streams)

    def strike(self, token: int, number: int) -> None:
        """Send a signal to a guest's process group; nothing once it has ended."""
        self.launcher.strike(token, number)


@dataclass(frozen=True, slots=True)
class Ends:
    """Our ends of channel and door; `theirs` are closed by the stack they were opened with."""

    channel: socket.socket
    door: socket.socket
    theirs: tuple[int, int]

    @classmethod
    def open(cls, theirs: ExitStack) -> "Ends":
        pairs = []
        for _ in range(2):
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair[0].setblocking(False)
            theirs.enter_context(pair[1])
            pairs.append(pair)
        return cls(pairs[0][0], pairs[1][0], (pairs[0][1].fileno(), pairs[1][1].fileno()))

    def close(self) -> None:
        self.channel.close()
        self.door.close()


class Guest:
    """Somebody on the way in: `refusal` is the outcome of one that never ran, `left` is of another's wait status."""

    def __init__(
        self, place: Place, wanted: ExecSpec, ends: "Ends", token: int, left: asyncio.Future[int | None]
    ) -> None:
        self._place = place
        self._wanted = wanted
        self._ends = ends
        self.token = token
        self.left = left
        self.pid = 0
        self.terminal = -1
        self.refusal: ExecOutcome | None = None

    async def come_in(self) -> None:
        """Wait for it at the door, look at it, let it in; whoever is refused is killed."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._arrive()
                if self.refusal is None:
                    self._look_at()
                if self.refusal is None:
                    await self._pass()
        except TimeoutError:
            self._refuse(f"it was not at its door within {_SECONDS:g} s")
        except BaseException:
            self._refuse("its start was given up")
            raise
        finally:
            self._ends.close()
            if self.refusal is not None:
                self._turn_away()

    def _refuse(self, detail: str, exit_code: int | None = None) -> None:
        if self.refusal is None:
            self.refusal = ExecOutcome(ending=Ending.NOT_STARTED, exit_code=exit_code, detail=detail)

    def _turn_away(self) -> None:
        if self.pid:
            self._place.launcher.strike(self.token, signal.SIGKILL)
        else:
            self._place.launcher.forget(self.token)
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1

    async def _arrive(self) -> None:
        """Hear what the launcher's forks say until the last of them is gone, then who is at the door."""
        while body := await self._hear(self._ends.channel, most_descriptors=1):
            answer = json.loads(body)
            if "error" in answer:
                self._refuse(answer["error"], answer.get("exit_code"))
                return
            if "pid" in answer:
                self.pid = answer["pid"]
                await self._place.launcher.admit(self.token, sandbox_id=self._place.sandbox_id, pid=self.pid)
        if not self.pid or await self._hear(self._ends.door) != keeper.HERE:
            self._refuse("it ended on its way into the sandbox")

    async def _hear(self, source: socket.socket, *, most_descriptors: int = 0) -> bytes:
        """Wait for a message; a descriptor that comes along is its terminal. None takes one from the door."""
        while True:
            try:
                body, descriptors, _, _ = socket.recv_fds(source, _MESSAGE_BYTES, most_descriptors)
            except BlockingIOError:
                await readable(asyncio.get_running_loop(), source.fileno())
                continue
            except ConnectionResetError:
                return b""
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
                os.set_blocking(descriptor, False)
                self.terminal = descriptor
            return body

    def _look_at(self) -> None:
        try:
            faults = faults_of(self.pid, self._place)
        except (OSError, KeyError, ValueError, IndexError) as error:
            faults = (f"it cannot be looked at: {error}",)
        if self._wanted.terminal and self.terminal < 0:
            faults = (*faults, "it has no terminal")
        if faults:
            self._refuse("this is not in its sandbox: " + "; ".join(faults))

    async def _pass(self) -> None:
        try:
            self._ends.door.send(_GO)
        except OSError:
            return  # it was killed at the door, and `left` says how
        answer = await self._hear(self._ends.door)
        if answer:
            number = answer[0]
            missing = number in {errno.ENOENT, errno.ENOTDIR}
            told = "command not found" if missing else f"command cannot be executed ({os.strerror(number)})"
            self._refuse(told, _NOT_FOUND if missing else _NOT_EXECUTABLE)


async def bring_in(place: Place, wanted: ExecSpec, *, streams: Sequence[int]) -> Guest:
    """Start a program, as `Place.bring_in` says."""
    with ExitStack() as theirs:
        ends = Ends.open(theirs)
        try:
            payload = memory_file(json.dumps(_payload(place, wanted)).encode())
            theirs.callback(os.close, payload)
            token, left = await place.launcher.enter(
                place.sandbox_id,
                uid=place.uid,
                join=place.join,
                descriptors=(*ends.theirs, payload, place.init, *streams),
            )
        except BaseException:
            ends.close()
            raise
    guest = Guest(place, wanted, ends, token, left)
    await guest.come_in()
    return guest


def _payload(place: Place, wanted: ExecSpec) -> dict[str, object]:
    size = wanted.terminal
    limits = place.spec.limits
    rlimits = dict(place.rlimits) | {
        resource.RLIMIT_NPROC: limits.pids + OVERHEAD_NPROC,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    return {
        "pid": place.init_pid,
        "namespaces": dict(place.receipt.namespaces),
        "in_container": place.in_container,
        "command": wanted.command,
        "env": environment_of(place.spec) | dict(wanted.env),
        "workdir": wanted.workdir or place.spec.workdir,
        "terminal": [size.rows, size.columns] if size else None,
        "rlimits": list(rlimits.items()),
    }


def faults_of(pid: int, place: Place) -> tuple[str, ...]:
    """List what makes process `pid` something else than a program of that sandbox; raises OSError when it is gone."""
    receipt = place.receipt
    status, first = kernel.read_status(pid), kernel.read_status(place.init_pid)
    groups = {path.name for path in place.cgroup.directories}
    own_groups = tuple(line for line in kernel.read_cgroups(pid) if line.rpartition("/")[2] in groups)
    checks = {
        "it is no child of the launcher": status["PPid"] == str(place.launcher.pid),
        "it has another uid": set(status["Uid"].split()) == {str(receipt.uid)},
        "it has another gid": set(status["Gid"].split()) == {str(receipt.gid)},
        "it has other groups": status["Groups"] == first["Groups"],
        "it has capabilities": not any(int(status[name], 16) for name in _CAPABILITIES),
        "no-new-privileges is off": status["NoNewPrivs"] == "1",
        "it has another seccomp filter": status["Seccomp"] == receipt.seccomp_mode
        and status.get("Seccomp_filters", "0") == str(receipt.seccomp_filters),
        "it is in another namespace": kernel.read_namespaces(pid) == dict(receipt.namespaces),
        "it is in another cgroup": own_groups == receipt.cgroup_paths,
        "it has other limits": kernel.read_limits(pid) == dict(receipt.rlimits),
        "it leads no session": status["NSsid"].split()[-1] == status["NSpid"].split()[-1],
        "it holds signals back": not int(status["SigBlk"], 16) and not int(status["SigIgn"], 16),
        "it has another umask": status["Umask"] == first["Umask"],
    }
    return tuple(fault for fault, held in checks.items() if not held)
