"""`DockerBackend`: the port of sandboxes by containers of an engine on this machine."""

import asyncio
import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from posixpath import dirname
from typing import Final

from tenantry.engines.jail import keeper, uids
from tenantry.engines.jail.backend import run_one, try_one
from tenantry.engines.jail.bringing import carry_output, check_attached, files_of, opened_pipes, rlimits_of
from tenantry.engines.jail.bubblewrap import RESOLVER, RUN_BYTES, environment_of, program_of, room_for
from tenantry.engines.jail.certificates import MOST_CERTIFICATES
from tenantry.engines.jail.cgroups import CgroupVersion, Hierarchy
from tenantry.engines.jail.docker.container import Shape
from tenantry.engines.jail.docker.engine import Engine, EngineRefusedError
from tenantry.engines.jail.docker.rooms import IMAGE_GONE, Room, Rooms
from tenantry.engines.jail.docker.roots import Roots
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.furnish import Furnisher
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.owners import Owner, abandoned
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import IsolationLevel, Receipt
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.supervisor import Supervisor
from tenantry.engines.jail.types import CERTIFICATES, MIB, Attach, OnOutput, Outcome, Spec
from tenantry.foundation.clock import Clock, SystemClock

OWNER_LABEL: Final = "tenantry.owner"
HOME_LABEL: Final = "tenantry.home"


class DockerBackend(Supervisor):
    """Makes sandboxes of an engine's containers."""

    def __init__(
        self, *, owner: Owner, engine: Engine, pool: uids.UidPool, launcher: LauncherClient, rooms: Rooms, clock: Clock
    ) -> None:
        super().__init__(owner=owner, launcher=launcher, clock=clock, threads="docker")
        self._engine = engine
        self._pool = pool
        self._rooms = rooms
        self._roots = Roots(engine)
        self._hierarchy = Hierarchy(CgroupVersion.NONE, reason="no container has been made yet")

    @classmethod
    async def open(
        cls,
        home: Path,
        *,
        socket: Path,
        runtime: str | None = None,
        first_uid: int = uids.FIRST,
        uid_count: int = uids.COUNT,
        clock: Clock | None = None,
        spare: int = 2,
        trial: bool = True,
    ) -> "DockerBackend":
        """Reach the engine at `socket`, remove what dead supervisors of `home` left there, and try one sandbox.

        `runtime` is one of the engine's, which must put containers into namespaces of this kernel (runc, crun). `spare`
        containers wait for the next sandbox. Raises JailUnavailable with a code and a remedy when this machine, or its
        engine, cannot hold a sandbox.
        """
        require_root()
        engine = await Engine.connect(socket)
        try:
            check_engine(await engine.info(), runtime=runtime)
            directory = home / "docker"
            await asyncio.to_thread(directory.mkdir, 0o700, parents=True, exist_ok=True)
            await reclaim_containers(engine, directory / "owners")
            launcher = await LauncherClient.start(None, private=False)
        except EngineRefusedError as error:
            await engine.close()
            raise JailUnavailable("docker_refused", f"the engine says: {error}", remedy="see its log") from error
        except BaseException:
            await engine.close()
            raise
        owner = Owner(directory / "owners")
        labels = {OWNER_LABEL: owner.instance, HOME_LABEL: str(home)}
        pool = uids.UidPool(directory=uids.DIRECTORY, first=first_uid, count=uid_count)
        rooms = Rooms(engine, pool=pool, labels=labels, runtime=runtime, spare=spare)
        backend = cls(
            owner=owner, engine=engine, pool=pool, launcher=launcher, rooms=rooms, clock=clock or SystemClock()
        )
        try:
            await backend._roots.sweep()
            if trial:
                await try_one(backend, await asyncio.to_thread(ImageStore(home / "images").host))
        except BaseException:
            await backend.close()
            raise
        return backend

    @property
    def name(self) -> str:
        return "docker"

    @property
    def isolation(self) -> IsolationLevel:
        return IsolationLevel.CGROUP

    @property
    def hierarchy(self) -> Hierarchy:
        return self._hierarchy

    async def start(self, spec: Spec, on_output: OnOutput, *, attach: Attach | None = None) -> Sandbox:
        """Start a program, as the port says (backend.py)."""
        check_attached(spec, attach)
        if self._closed:
            raise JailUnavailable("jail_closed", "this backend is closed", remedy="open another")
        await self._relaunch()
        room = await self._room_for(spec)
        self._hierarchy = room.hierarchy
        parts = self._parts(spec, room)
        sandbox = Sandbox(room.group, parts=parts, launcher=self._launcher)
        return await self._begun(sandbox, self._bring_up(sandbox, parts, room, on_output, attach))

    async def run(self, spec: Spec, on_output: OnOutput) -> tuple[Outcome, Receipt | None]:
        """Start, wait and close; for programs whose files nobody wants."""
        return await run_one(self, spec, on_output)

    async def _close_shared(self) -> None:
        await self._rooms.close()
        await self._launcher.close()
        await self._engine.close()
        self._pool.close()

    async def _room_for(self, spec: Spec) -> Room:
        """Take a room with the image of that spec, which somebody may have removed from the engine meanwhile."""
        image = await self._roots.image_of(spec.image)
        try:
            return await self._rooms.take(Shape.of(image, spec.image.binds, spec.limits))
        except JailUnavailable as error:
            if error.code != IMAGE_GONE:
                raise
        self._roots.forget(image)
        image = await self._roots.image_of(spec.image)
        return await self._rooms.take(Shape.of(image, spec.image.binds, spec.limits))

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
            self._sandboxes.pop(room.group, None)

        return Parts(
            spec=spec,
            uid=room.uid,
            cgroup=room.cgroup,
            join=room.join,
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
        contents = [json.dumps(program_of(parts.spec)).encode(), json.dumps(_plan(parts.spec)).encode()]
        async with opened_pipes(contents) as (pipes, files):
            parts.status_pipe, parts.barrier = pipes.status[0], pipes.barrier[1]
            death = await self._launcher.launch(
                sandbox.id,
                uid=parts.uid,
                join=parts.join,
                rlimits=parts.rlimits,
                files=files_of(parts),
                descriptors=(*files, *pipes.inner, room.handle),
                keeper=room.keeper,
            )
        carry_output(sandbox, parts, pipes, death=death, on_output=on_output)
        engine = self._engine
        version = engine.version if engine.kind == "docker" else f"{engine.kind} {engine.version}"
        furnisher = Furnisher(launcher=self._launcher, backend="docker", backend_version=version, folder=_folder)
        await furnisher.bring_up(sandbox, parts, death, attach)


def require_root() -> None:
    """Raise JailUnavailable for a supervisor that is not."""
    if os.geteuid() != 0:
        raise JailUnavailable(
            "docker_needs_root",
            "only root can put a program into a container as this backend does",
            remedy="run the worker as root, or set sandboxes.backend = 'jail', which needs no root",
        )


def check_engine(info: Mapping[str, object], *, runtime: str | None) -> None:
    """Refuse an engine whose containers would not be what is asked for; raises JailUnavailable."""
    options = info.get("SecurityOptions")
    if any("rootless" in str(option) for option in (options if isinstance(options, list) else ())):
        raise JailUnavailable(
            "docker_rootless",
            "this engine runs without root: its containers are in a user namespace of its own",
            remedy="use the system's engine (/run/docker.sock), or set sandboxes.backend = 'jail'",
        )
    runtimes = info.get("Runtimes")
    if runtime is not None and runtime not in (runtimes if isinstance(runtimes, dict) else ()):
        raise JailUnavailable(
            "docker_runtime_unknown",
            f"the engine has no runtime {runtime}",
            remedy="configure it in the engine (/etc/docker/daemon.json, `runtimes`), or leave docker_runtime out",
        )
    unbounded = [name for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if info.get(name) is False]
    if unbounded:
        raise JailUnavailable(
            "docker_no_cgroups",
            f"this engine does not bound its containers: no {', '.join(unbounded)}",
            remedy="give the engine the memory, pids and cpu controllers",
        )


def _plan(spec: Spec) -> dict[str, object]:
    """Tell the entrant what to make of its room (containing.py); it goes by a file in memory, for it holds secrets."""
    limits = spec.limits
    rooms: list[tuple[str, int, int, bool]] = [
        ("/workspace", limits.disk_mib * MIB, 0o755, not spec.workspace_writable),
        ("/run", RUN_BYTES, 0o755, False),
        ("/dev/shm", limits.shm_mib * MIB, 0o1777, False),  # noqa: S108 - the sandbox's
        ("/tmp", limits.tmp_mib * MIB, 0o1777, False),  # noqa: S108 - the same
    ]
    if spec.inputs:
        rooms.append(("/inputs", room_for(spec.inputs), 0o755, True))
    if spec.secret_files:
        rooms.append(("/run/secrets", room_for(spec.secret_files), 0o700, True))
    if spec.authority is not None:
        rooms.append((dirname(CERTIFICATES), MOST_CERTIFICATES + MIB, 0o755, True))
    shown: list[tuple[str, str, int]] = []
    if spec.network:
        shown.append(("/etc/resolv.conf", base64.b64encode(RESOLVER).decode(), 0o644))
    if spec.keep:
        shown.append((keeper.PLACE, base64.b64encode(keeper.build_keeper()).decode(), 0o555))
    return {
        "rooms": rooms,
        "env": {"PWD": spec.workdir, **environment_of(spec)},
        "workdir": spec.workdir,
        "shown": shown,
    }


def _folder(parts: Parts, place: str) -> str:
    folders = parts.init_report.get("folders")
    if isinstance(folders, dict) and place in folders:
        return f"/proc/{parts.init_pid}/fd/{folders[place]}/."  # no link to whoever follows none
    return f"/proc/{parts.init_pid}/root{place}"


async def reclaim_containers(engine: Engine, directory: Path, *, forget: Callable[[str], None] = lambda _: None) -> int:
    """Remove the containers of supervisors that died, and have each forgotten; returns how many there were."""
    dead = 0
    marks = await asyncio.to_thread(lambda: list(abandoned(directory)))
    for path, descriptor in marks:
        try:
            for container in await engine.labelled(f"{OWNER_LABEL}={path.name.lstrip('.')}"):
                await engine.remove(str(container["Id"]))
            await asyncio.to_thread(forget, path.name.lstrip("."))
            await asyncio.to_thread(path.unlink, missing_ok=True)
            dead += 1
        finally:
            os.close(descriptor)
    return dead
