"""`GvisorBackend`: the port of sandboxes by containers of an engine on this machine whose kernel is gVisor's."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tenantry.engines.jail import uids
from tenantry.engines.jail.backend import run_one, try_one
from tenantry.engines.jail.bringing import carry_output, check_attached, opened_pipes, rlimits_of
from tenantry.engines.jail.cgroups import CgroupVersion, Hierarchy
from tenantry.engines.jail.docker.backend import (
    HOME_LABEL,
    OWNER_LABEL,
    check_engine,
    reclaim_containers,
    require_root,
)
from tenantry.engines.jail.docker.engine import Engine, EngineRefusedError
from tenantry.engines.jail.docker.keeper import keeper
from tenantry.engines.jail.docker.rooms import IMAGE_GONE
from tenantry.engines.jail.docker.roots import Roots
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.gvisor.container import KEEPER, STEPPER, Shape
from tenantry.engines.jail.gvisor.entry import Entry
from tenantry.engines.jail.gvisor.folders import sweep
from tenantry.engines.jail.gvisor.receipts import NAME
from tenantry.engines.jail.gvisor.rooms import Room, Rooms
from tenantry.engines.jail.gvisor.sandbox import GvisorSandbox
from tenantry.engines.jail.gvisor.stepper import build_stepper
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.owners import Owner
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import IsolationLevel, Receipt
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.supervisor import Supervisor
from tenantry.engines.jail.types import Attach, OnOutput, Outcome, Spec
from tenantry.foundation.clock import Clock, SystemClock

RUNTIME: Final = "runsc"
_ROOMS: Final = "rooms"


class GvisorBackend(Supervisor):
    """Makes sandboxes of an engine's containers, each with a kernel of its own."""

    def __init__(
        self,
        *,
        owner: Owner,
        engine: Engine,
        pool: uids.UidPool,
        launcher: LauncherClient,
        rooms: Rooms,
        runtimes: tuple[str, str | None],
        clock: Clock,
    ) -> None:
        super().__init__(owner=owner, launcher=launcher, clock=clock, threads=NAME)
        self._engine = engine
        self._pool = pool
        self._rooms = rooms
        self._runtimes = runtimes
        self._roots = Roots(engine, {KEEPER: keeper(), STEPPER: build_stepper()})
        self._hierarchy = Hierarchy(CgroupVersion.NONE, reason="no container has been made yet")

    @classmethod
    async def open(
        cls,
        home: Path,
        *,
        socket: Path,
        runtime: str = RUNTIME,
        network_runtime: str | None = None,
        first_uid: int = uids.FIRST,
        uid_count: int = uids.COUNT,
        clock: Clock | None = None,
        spare: int = 2,
        trial: bool = True,
    ) -> "GvisorBackend":
        """Reach the engine at `socket`, remove what dead supervisors of `home` left there, and try one sandbox.

        `runtime` is the engine's name of runsc, `network_runtime` that of a runsc with --network=host, for sandboxes
        with a network; without it these are refused. `spare` containers wait for the next sandbox. Raises
        JailUnavailable with a code and a remedy when this machine, or its engine, cannot hold a sandbox.
        """
        require_root()
        directory, names = home / NAME, [name for name in (runtime, network_runtime) if name is not None]
        engine, launcher = await _reached(socket, directory, names)
        owner = Owner(directory / "owners")
        labels = {OWNER_LABEL: owner.instance, HOME_LABEL: str(home)}
        pool = uids.UidPool(directory=uids.DIRECTORY, first=first_uid, count=uid_count)
        rooms = Rooms(engine, pool=pool, labels=labels, directory=directory / _ROOMS / owner.instance, spare=spare)
        backend = cls(
            owner=owner,
            engine=engine,
            pool=pool,
            launcher=launcher,
            rooms=rooms,
            runtimes=(runtime, network_runtime),
            clock=clock or SystemClock(),
        )
        try:
            await asyncio.to_thread(rooms.prepare)
            await backend._roots.sweep()
            if trial:
                await try_one(backend, await asyncio.to_thread(ImageStore(home / "images").host))
        except BaseException:
            await backend.close()
            raise
        return backend

    @property
    def name(self) -> str:
        return NAME

    @property
    def isolation(self) -> IsolationLevel:
        return IsolationLevel.GVISOR

    @property
    def hierarchy(self) -> Hierarchy:
        return self._hierarchy

    async def start(self, spec: Spec, on_output: OnOutput, *, attach: Attach | None = None) -> Sandbox:
        """Start a program, as the port says (backend.py).

        Raises JailUnavailable also for what is not to be had here: `gvisor_no_network`.
        """
        check_attached(spec, attach)
        if self._closed:
            raise JailUnavailable("jail_closed", "this backend is closed", remedy="open another")
        runtime = self._runtime_of(spec)
        await self._relaunch()
        room = await self._room_for(spec, runtime)
        self._hierarchy = room.hierarchy
        parts = self._parts(spec, room)
        sandbox = GvisorSandbox(room, parts=parts, launcher=self._launcher)
        return await self._begun(sandbox, self._bring_up(sandbox, parts, room, on_output, attach))

    async def run(self, spec: Spec, on_output: OnOutput) -> tuple[Outcome, Receipt | None]:
        """Start, wait and close; for programs whose files nobody wants."""
        return await run_one(self, spec, on_output)

    def _runtime_of(self, spec: Spec) -> str:
        if spec.network is None:
            return self._runtimes[0]
        if self._runtimes[1] is None:
            raise JailUnavailable(
                "gvisor_no_network",
                "this worker gives no network to sandboxes under gVisor",
                remedy="set sandboxes.docker_network_runtime to a runtime of the engine: runsc with --network=host",
            )
        return self._runtimes[1]

    async def _room_for(self, spec: Spec, runtime: str) -> Room:
        """Take a room with the image of that spec, which somebody may have removed from the engine meanwhile."""
        image = await self._roots.image_of(spec.image)
        try:
            return await self._rooms.take(Shape.of(image, spec, runtime=runtime))
        except JailUnavailable as error:
            if error.code != IMAGE_GONE:
                raise
        self._roots.forget(image)
        image = await self._roots.image_of(spec.image)
        return await self._rooms.take(Shape.of(image, spec, runtime=runtime))

    async def _relaunch(self) -> None:
        async with self._launcher_lock:
            if not self._launcher.alive:
                await self._launcher.close()
                self._launcher = await LauncherClient.start(None, private=False)

    def _parts(self, spec: Spec, room: Room) -> Parts:
        async def clear() -> None:
            try:
                await self._rooms.give_up(room)
            except JailUnavailable as error:
                raise OSError(16, f"its container stays: {error.message}") from error

        def give_back() -> None:
            self._sandboxes.pop(room.container, None)

        return Parts(
            spec=spec,
            uid=room.uid,
            cgroup=room.cgroup,
            join=room.cgroup.join_files,
            in_container=True,
            threads=self._threads,
            clock=self._clock,
            give_back=give_back,
            clear=clear,
        )

    async def _bring_up(
        self, sandbox: Sandbox, parts: Parts, room: Room, on_output: OnOutput, attach: Attach | None
    ) -> None:
        parts.rlimits = rlimits_of(parts, isolation=self.isolation)
        engine = f"{self._engine.kind} {self._engine.version}"
        async with opened_pipes([]) as (pipes, _):
            parts.status_pipe, parts.barrier = pipes.status[0], pipes.barrier[1]
            status, *outputs = (os.dup(inner) for inner in (pipes.status[1], pipes.out[1], pipes.err[1]))
        entry = Entry(room, parts, launcher=self._launcher, version=engine)
        entry.attend(status)
        carry_output(sandbox, parts, pipes, death=entry.death, on_output=on_output)
        await entry.bring_up(sandbox, outputs, attach)

    async def _close_shared(self) -> None:
        await self._rooms.close()
        await self._launcher.close()
        await self._engine.close()
        self._pool.close()


async def _reached(socket: Path, directory: Path, runtimes: Sequence[str]) -> tuple[Engine, LauncherClient]:
    """Reach an engine that has these runtimes, clear away what the dead left, and start a launcher."""
    engine = await Engine.connect(socket)
    try:
        _require_docker(engine, socket)
        info = await engine.info()
        for name in runtimes:
            check_engine(info, runtime=name)
        await asyncio.to_thread(directory.mkdir, 0o700, parents=True, exist_ok=True)
        await reclaim_containers(engine, directory / "owners", forget=lambda name: sweep(directory / _ROOMS / name))
        return engine, await LauncherClient.start(None, private=False)
    except EngineRefusedError as error:
        await engine.close()
        raise JailUnavailable("docker_refused", f"the engine says: {error}", remedy="see its log") from error
    except BaseException:
        await engine.close()
        raise


def _require_docker(engine: Engine, socket: Path) -> None:
    if engine.kind != "docker":
        raise JailUnavailable(
            "gvisor_other_engine",
            f"gVisor is run by Docker here, and the engine at {socket} is {engine.kind}",
            remedy="set sandboxes.docker_socket to Docker's, or sandboxes.backend = 'docker' for this engine",
        )
