"""Containers that wait for a sandbox: made, held and taken away; each is for one sandbox only."""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tenantry.engines.jail.cgroups import Cgroup, Hierarchy
from tenantry.engines.jail.docker.container import Shape, container_config
from tenantry.engines.jail.docker.engine import Engine, EngineRefusedError
from tenantry.engines.jail.docker.groups import group_of, join_files_of
from tenantry.engines.jail.docker.keeper import PLACE
from tenantry.engines.jail.docker.waiting import WaitingRooms
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.kernel import read_cgroups, read_status
from tenantry.engines.jail.uids import UidPool

IMAGE_GONE: Final = "docker_image_gone"
_NOT_FOUND: Final = 404
_KEEPER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A running container: its keeper by number and handle, its group, its uid, and the line that keeps it alive."""

    shape: Shape
    container: str
    keeper: int
    handle: int
    hierarchy: Hierarchy
    group: str
    join: tuple[str, ...]
    uid: int
    line: asyncio.StreamWriter

    @property
    def cgroup(self) -> Cgroup:
        return Cgroup(self.hierarchy, self.group)

    @property
    def alive(self) -> bool:
        return is_running(self.handle)


class Rooms(WaitingRooms[Shape, Room]):
    """Containers, one a room."""

    def __init__(
        self, engine: Engine, *, pool: UidPool, labels: Mapping[str, str], runtime: str | None, spare: int
    ) -> None:
        super().__init__(spare=spare)
        self._engine = engine
        self._pool = pool
        self._labels = labels
        self._runtime = runtime

    async def give_up(self, room: Room) -> None:
        """Take the container away, with whatever is left in it; raises JailUnavailable when the engine does not.

        Its processes are killed by us: that needs no engine.
        """
        room.line.close()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(room.handle, signal.SIGKILL)
        try:
            await self._engine.remove(room.container)
            self._pool.release(room.uid)
        except EngineRefusedError as error:
            raise refused(error) from error
        finally:
            os.close(room.handle)

    async def _make(self, shape: Shape) -> Room:
        uid = self._pool.acquire()
        container, line = "", None
        try:
            container = await self._engine.create(
                container_config(shape, uid=uid, labels=self._labels, runtime=self._runtime)
            )
            line = await self._engine.hold(container)
            await self._engine.start(container)
            state = await self._engine.state(container)
            return await _entered(shape, container=container, keeper=int(state.get("Pid") or 0), uid=uid, line=line)
        except BaseException as error:
            if line is not None:
                line.close()
            with contextlib.suppress(JailUnavailable, EngineRefusedError):
                if container:
                    await self._engine.remove(container)
                self._pool.release(uid)
            if isinstance(error, EngineRefusedError):
                raise refused(error) from error
            raise


def is_running(handle: int) -> bool:
    """Say whether the process of a pidfd has not ended."""
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return not waiting.poll(0)


async def _entered(shape: Shape, *, container: str, keeper: int, uid: int, line: asyncio.StreamWriter) -> Room:
    """Find the container's process among those of this machine; raises JailUnavailable `docker_remote`."""
    handle = -1
    try:
        handle = os.pidfd_open(keeper)
        if not any(container in group for group in read_cgroups(keeper)):
            raise LookupError(f"process {keeper} is not the container's")  # noqa: TRY301 - one remedy for all
        await _until_it_keeps(keeper, uid)
        hierarchy, group = group_of(keeper)
        join = join_files_of(keeper)
    except (OSError, LookupError, TimeoutError) as error:
        if handle >= 0:
            os.close(handle)
        raise JailUnavailable(
            "docker_remote",
            f"the engine's container cannot be entered from here: {str(error) or type(error).__name__}",
            remedy="use the engine of this machine, as root outside of any container, with runtime runc or crun; "
            "what has a kernel of its own cannot be entered (for runsc set sandboxes.backend = 'gvisor')",
        ) from error
    return Room(
        shape=shape,
        container=container,
        keeper=keeper,
        handle=handle,
        hierarchy=hierarchy,
        group=group,
        join=join,
        uid=uid,
        line=line,
    )


async def _until_it_keeps(keeper: int, uid: int) -> None:
    """Wait until the runtime has become the keeper: the engine says started a moment before; raises TimeoutError."""
    program, pause = "", 0.001
    deadline = asyncio.get_running_loop().time() + _KEEPER_SECONDS
    while program != f"/{PLACE}" or int(read_status(keeper)["Uid"].split()[0]) != uid:
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"process {keeper} is {program}, not the keeper")
        program = os.readlink(f"/proc/{keeper}/exe")  # noqa: PTH115 - a number of the kernel's, no file of a disk
        await asyncio.sleep(0 if program == f"/{PLACE}" else pause)
        pause = min(pause * 2, 0.05)


def refused(error: EngineRefusedError) -> JailUnavailable:
    """Tell what the engine has said."""
    if error.status == _NOT_FOUND:
        return JailUnavailable("docker_image_gone", f"the engine has lost the image: {error}", remedy="try again")
    return JailUnavailable(
        "docker_refused", f"the engine refused a container: {error}", remedy="see the engine's log; a retry is safe"
    )
