"""Containers under gVisor: made, looked at, kept ready and taken away; each is for one sandbox only."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.engines.jail.cgroups import Hierarchy
from tenantry.engines.jail.docker.engine import Engine, EngineRefusedError
from tenantry.engines.jail.docker.groups import group_of, join_files_of
from tenantry.engines.jail.docker.rooms import is_running, refused
from tenantry.engines.jail.docker.waiting import WaitingRooms
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.gvisor.container import WORKSPACE, Shape, container_config
from tenantry.engines.jail.gvisor.folders import Folders, sweep
from tenantry.engines.jail.gvisor.group import SentryGroup
from tenantry.engines.jail.gvisor.sentry import Sentry, find_gofer, find_sentry
from tenantry.engines.jail.uids import UidPool

_HOST_NETWORK: Final = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A running container: its kernel and a handle of it, its group, its files, and the line that keeps it alive.

    `uid` is whose its files are. `gofer` is the process that serves them, whose root is what programs see.
    """

    shape: Shape
    container: str
    sentry: Sentry
    gofer: int
    handle: int
    hierarchy: Hierarchy
    join: tuple[str, ...]
    uid: int
    folders: Folders
    line: asyncio.StreamWriter

    @property
    def cgroup(self) -> SentryGroup:
        return SentryGroup(self.hierarchy, self.container)

    @property
    def alive(self) -> bool:
        return is_running(self.handle)


class Rooms(WaitingRooms[Shape, Room]):
    """Containers of one engine; `directory` is where their files are lent from."""

    def __init__(
        self, engine: Engine, *, pool: UidPool, labels: Mapping[str, str], directory: Path, spare: int
    ) -> None:
        super().__init__(spare=spare)
        self._engine = engine
        self._pool = pool
        self._labels = labels
        self._directory = directory

    def prepare(self) -> None:
        """Make the directory; raises OSError."""
        self._directory.mkdir(0o700, parents=True)

    async def close(self) -> None:
        """Give up those that wait, and the directory."""
        await super().close()
        await asyncio.to_thread(sweep, self._directory)

    async def give_up(self, room: Room) -> None:
        """Take the container away, with whatever is left in it; raises JailUnavailable when the engine does not.

        Its kernel is killed by us: that needs no engine.
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
            await asyncio.to_thread(room.folders.close)

    async def _make(self, shape: Shape) -> Room:
        uid = self._pool.acquire()
        container, line, folders = "", None, None
        try:
            folders = await asyncio.to_thread(Folders.make, self._directory, shape, uid=uid)
            container = await self._engine.create(
                container_config(shape, uid=uid, labels=self._labels, folders=folders.paths)
            )
            line = await self._engine.hold(container)
            await self._engine.start(container)
            state = await self._engine.state(container)
            pid = int(state.get("Pid") or 0)
            return await asyncio.to_thread(
                _taken_over, shape, container=container, pid=pid, uid=uid, folders=folders, line=line
            )
        except BaseException as error:
            if line is not None:
                line.close()
            with contextlib.suppress(JailUnavailable, EngineRefusedError):
                if container:
                    await self._engine.remove(container)
                self._pool.release(uid)
            if folders is not None:
                await asyncio.to_thread(folders.close)
            if isinstance(error, EngineRefusedError):
                raise refused(error) from error
            if isinstance(error, OSError):
                raise JailUnavailable("gvisor_files", f"no place for its files: {error}", remedy="see dmesg") from error
            raise


def _taken_over(
    shape: Shape, *, container: str, pid: int, uid: int, folders: Folders, line: asyncio.StreamWriter
) -> Room:
    """Find the container's kernel among this machine's processes, and see that it has the files it was lent."""
    handle = -1
    try:
        handle = os.pidfd_open(pid)
        sentry = find_sentry(pid, container)
        _check_network(shape, sentry)
        hierarchy, group = group_of(pid)
        if group != container:
            raise LookupError(f"the container's group is {group}")  # noqa: TRY301 - one remedy for all
        gofer = find_gofer(SentryGroup(hierarchy, group).members(), container)
        seen = Path(f"/proc/{gofer}/root{WORKSPACE}").stat().st_dev
        if seen != folders.device("workspace"):
            raise LookupError("the engine has other mounts than this process")  # noqa: TRY301 - the same
        folders.lend_no_more()
        return Room(
            shape=shape,
            container=container,
            sentry=sentry,
            gofer=gofer,
            handle=handle,
            hierarchy=hierarchy,
            join=join_files_of(pid),
            uid=uid,
            folders=folders,
            line=line,
        )
    except BaseException as error:
        if handle >= 0:
            os.close(handle)
        if isinstance(error, (OSError, LookupError)):
            raise JailUnavailable(
                "docker_remote",
                f"the engine's container cannot be reached from here: {str(error) or type(error).__name__}",
                remedy="use the engine of this machine, as root, in its own mount namespace and outside any container",
            ) from error
        raise


def _check_network(shape: Shape, sentry: Sentry) -> None:
    """See that a sealed sandbox has its kernel's network, which leads nowhere, and one with listeners its host's."""
    if shape.networked != (sentry.network == _HOST_NETWORK):
        raise JailUnavailable(
            "gvisor_network",
            f"the runtime {shape.runtime} is started with --network={sentry.network}",
            remedy=f"have its `runtimeArgs` name --network={_HOST_NETWORK if shape.networked else 'none'}",
        )
