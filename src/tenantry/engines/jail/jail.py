"""The jail: starts sandboxes, keeps what they share, and clears away what dead supervisors left."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from tenantry.engines.jail import uids
from tenantry.engines.jail.backend import run_one, try_one
from tenantry.engines.jail.bringing import carry_output, check_attached, files_of, opened_pipes, rlimits_of
from tenantry.engines.jail.bubblewrap import (
    RESOLVER,
    Bubblewrap,
    build_arguments,
    find_bubblewrap,
    is_reachable,
    program_of,
)
from tenantry.engines.jail.cgroups import CgroupVersion, Hierarchy, find_hierarchy
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.exposures import Exposures, Key
from tenantry.engines.jail.furnish import Furnisher
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.keeper import build_keeper
from tenantry.engines.jail.launch import LauncherClient
from tenantry.engines.jail.owners import Owner, reclaim_orphans
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.receipt import IsolationLevel, Receipt
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.seats import Seat, Seats
from tenantry.engines.jail.supervisor import Supervisor
from tenantry.engines.jail.types import Attach, ImageRoot, OnOutput, Outcome, Spec
from tenantry.foundation.clock import Clock, SystemClock


class Jail(Supervisor):
    """Makes sandboxes of its own, by bubblewrap."""

    def __init__(
        self,
        *,
        owner: Owner,
        pool: uids.UidPool | None,
        bubblewrap: Bubblewrap,
        hierarchy: Hierarchy,
        launcher: LauncherClient,
        clock: Clock,
        spare: int,
    ) -> None:
        super().__init__(owner=owner, launcher=launcher, clock=clock, threads="jail")
        self._pool = pool
        self._bubblewrap = bubblewrap
        self._hierarchy = hierarchy
        self._exposures = _exposures_of(launcher)
        self._seats = Seats(
            hierarchy=hierarchy, instance=owner.instance, launcher=launcher, threads=self._threads, spare=spare
        )

    @classmethod
    async def open(
        cls,
        home: Path,
        *,
        bubblewrap: Path | None = None,
        hierarchy: Hierarchy | None = None,
        first_uid: int = uids.FIRST,
        uid_count: int = uids.COUNT,
        clock: Clock | None = None,
        spare: int = 2,
        trial: bool = True,
    ) -> "Jail":
        """Open the jail whose records lie in `home`/jail, reclaim what the dead left, and try one sandbox.

        As root every sandbox gets a host uid of its own, from a pool that all installations on the host share. Pass
        `hierarchy` to use that instead of looking for cgroups; `spare` is how many processes wait in a fresh cgroup for
        the next sandbox, each for one only. Raises JailUnavailable with a code and a remedy when the
        machine cannot hold a sandbox.
        """
        found = await asyncio.to_thread(find_bubblewrap, bubblewrap)
        directory = home / "jail"
        groups = hierarchy if hierarchy is not None else await asyncio.to_thread(find_hierarchy)
        await asyncio.to_thread(directory.mkdir, 0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(reclaim_orphans, directory / "owners", groups)
        is_root = os.geteuid() == 0
        pool = uids.UidPool(directory=uids.DIRECTORY, first=first_uid, count=uid_count) if is_root else None
        launcher = await LauncherClient.start(found, private=is_root)
        jail = cls(
            owner=Owner(directory / "owners"),
            pool=pool,
            bubblewrap=found,
            hierarchy=groups,
            launcher=launcher,
            clock=clock or SystemClock(),
            spare=spare,
        )
        if trial:
            try:
                await try_one(jail, await asyncio.to_thread(ImageStore(home / "images").host))
            except BaseException:
                await jail.close()
                raise
        return jail

    @property
    def name(self) -> str:
        return "jail"

    @property
    def isolation(self) -> IsolationLevel:
        return IsolationLevel.RLIMIT if self._hierarchy.version is CgroupVersion.NONE else IsolationLevel.CGROUP

    @property
    def hierarchy(self) -> Hierarchy:
        return self._hierarchy

    @property
    def bubblewrap(self) -> Bubblewrap:
        return self._bubblewrap

    async def start(self, spec: Spec, on_output: OnOutput, *, attach: Attach | None = None) -> Sandbox:
        """Start a program; returns when it runs, or has failed to, which `wait` then tells.

        `on_output(stream, data)` is called on the event loop, in order within a stream; when it returns an awaitable,
        that stream waits for it. A spec with a network needs `attach`, which is given the sandbox's listeners before
        its program may run, and owns them once it has returned, whatever comes of the start; what it raises is raised
        here, with the listeners closed, and no program has run.
        Raises JailUnavailable when nothing can be started now (retry is safe).
        """
        check_attached(spec, attach)
        if self._closed:
            raise JailUnavailable("jail_closed", "this jail is closed", remedy="open another")
        async with self._exposed(spec.image) as exposed:
            arguments = build_arguments(spec, exposed=exposed)
            seat = await self._seats.take(spec.limits)
            parts = self._take_parts(spec, seat)
            sandbox = Sandbox(seat.name, parts=parts, launcher=self._launcher)
            return await self._begun(sandbox, self._bring_up(sandbox, parts, arguments, on_output, attach))

    async def run(self, spec: Spec, on_output: OnOutput) -> tuple[Outcome, Receipt | None]:
        """Start, wait and close; for programs whose files nobody wants."""
        return await run_one(self, spec, on_output)

    async def _close_shared(self) -> None:
        await self._launcher.close()
        await self._seats.close()
        if self._pool:
            self._pool.close()

    def _take_parts(self, spec: Spec, seat: Seat) -> Parts:
        uid = self._pool.acquire() if self._pool else None

        def give_back() -> None:
            self._sandboxes.pop(seat.name, None)
            if self._pool and uid is not None:
                self._pool.release(uid)

        return Parts(
            spec=spec,
            uid=uid,
            cgroup=seat.cgroup,
            join=seat.cgroup.join_files,
            threads=self._threads,
            clock=self._clock,
            give_back=give_back,
        )

    async def _bring_up(
        self, sandbox: Sandbox, parts: Parts, arguments: bytes, on_output: OnOutput, attach: Attach | None
    ) -> None:
        parts.rlimits = self._rlimits(parts)
        contents = [json.dumps(program_of(parts.spec)).encode(), arguments]
        contents += [*([RESOLVER] if attach else []), *([build_keeper()] if parts.spec.keep else [])]
        async with opened_pipes(contents) as (pipes, files):
            parts.status_pipe, parts.barrier = pipes.status[0], pipes.barrier[1]
            death = await self._launcher.launch(
                sandbox.id,
                uid=parts.uid,
                join=parts.join,
                rlimits=parts.rlimits,
                files=files_of(parts),
                descriptors=(*files[:2], *pipes.inner, *files[2:]),
            )
        carry_output(sandbox, parts, pipes, death=death, on_output=on_output)
        furnisher = Furnisher(
            launcher=self._launcher, backend="bubblewrap", backend_version=self._bubblewrap.version_text
        )
        await furnisher.bring_up(sandbox, parts, death, attach)

    def _rlimits(self, parts: Parts) -> list[tuple[int, int]]:
        return rlimits_of(parts, isolation=self.isolation)

    @asynccontextmanager
    async def _exposed(self, image: ImageRoot) -> AsyncIterator[dict[Path, Path]]:
        """Say how the launcher reaches the image: as root, some of it lies below directories no other uid enters."""
        keys: list[Key] = []
        async with self._launcher_lock:
            if not self._launcher.alive:
                await self._launcher.close()
                self._launcher = await LauncherClient.start(self._bubblewrap, private=self._pool is not None)
                await self._seats.move_to(self._launcher)
                self._exposures = _exposures_of(self._launcher)
            exposures = self._exposures
        try:
            yield await self._reached(image, exposures, keys) if self._pool else {}
        finally:
            exposures.let_go(keys)

    async def _reached(self, image: ImageRoot, exposures: Exposures, keys: list[Key]) -> dict[Path, Path]:
        """Give for each path of an image by which one it is reached; what is held for that is added to `keys`."""
        reached: dict[Path, Path] = {}
        async with self._launcher_lock:
            for path in (image.path, *(bind.source for bind in image.binds)):
                try:
                    key, reached[path] = await exposures.hold(path, near=partial(self._is_near, path))
                except OSError as error:
                    raise JailUnavailable(
                        "image_unreachable",
                        f"cannot reach {path} of the image: {error.strerror}",
                        remedy="import it again",
                    ) from error
                keys.append(key)
        return reached

    def _is_near(self, path: Path) -> bool:
        return is_reachable(path) and not path.is_relative_to(self._launcher.shelf)


def _exposures_of(launcher: LauncherClient) -> Exposures:
    return Exposures(expose=launcher.expose, conceal=launcher.conceal)
