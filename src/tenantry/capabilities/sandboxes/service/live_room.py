"""The sandboxes that live in one worker, and who speaks with them at the moment."""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import UUID

from tenantry.capabilities.sandboxes.errors import sandbox_not_running, watch_limit
from tenantry.capabilities.sandboxes.service.bridging import Writing
from tenantry.capabilities.sandboxes.service.live_content import LiveContent
from tenantry.capabilities.sandboxes.types.living import KeptTree, LiveState
from tenantry.engines.jail.backend import Running
from tenantry.engines.jail.watching import fair_share
from tenantry.foundation.clock import Clock
from tenantry.foundation.threads import Lines, Turns
from tenantry.kit.masking.stream import Mask

_FAREWELL_SECONDS: Final = 1.0
"""How long who speaks with a dead sandbox has for the last words."""
_THREADS: Final = 16
_EACH: Final = 2
"""Threads that all have for files of running sandboxes, and one tenant."""
_SAVES: Final = 4
"""Trees of one tenant that are saved at a time."""

_Got = TypeVar("_Got")


@dataclass(slots=True, kw_only=True)
class LiveEntry:
    """One that runs. `touch` it at traffic; while something is `busy` in it, it is not idle."""

    tenant_id: UUID
    workspace_id: UUID
    sandbox_id: UUID
    job_id: UUID
    place: str
    keeps: bool
    most_kept_bytes: int
    sandbox: Running
    mask: Mask
    clock: Clock
    touched: float = 0.0
    _busy: int = 0
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.touch()

    def touch(self) -> None:
        self.touched = self.clock.monotonic()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.touch()

    @contextlib.contextmanager
    def spoken_with(self) -> Iterator[None]:
        """Note that the present task speaks with it: its end waits for that a moment, then cancels it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("outside of a task")
        self._tasks.add(task)
        self.touch()
        try:
            yield
        finally:
            self._tasks.discard(task)

    def idle_for(self) -> float:
        """Seconds since the last traffic."""
        return 0.0 if self._busy else self.clock.monotonic() - self.touched

    async def part(self) -> None:
        """End what still speaks with it."""
        if not self._tasks:
            return
        _, left = await asyncio.wait(set(self._tasks), timeout=_FAREWELL_SECONDS)
        for task in left:
            task.cancel()


class LiveRoom:
    """One for each worker process."""

    def __init__(self, *, content: LiveContent, clock: Clock) -> None:
        self.content = content
        self.address = ""
        """Where the link of this worker listens, as jobs tell it, once it does."""
        self.clock = clock
        self._entries: dict[UUID, LiveEntry] = {}
        self._turns = Turns(threads=_THREADS, each=_EACH, name="live-files")
        self._saves = Lines(each=_SAVES)
        self._watches: Counter[UUID] = Counter()

    async def in_thread(self, entry: LiveEntry, call: Callable[[], _Got]) -> _Got:
        """Do something with the files of one, which may take long and waits for nobody outside of this machine."""
        return await self._turns.run(entry.tenant_id, call)

    def enter(self, entry: LiveEntry) -> None:
        self._entries[entry.job_id] = entry

    async def leave(self, entry: LiveEntry) -> None:
        """Let nobody speak with it any more."""
        self._entries.pop(entry.job_id, None)
        await entry.part()

    def find(self, sandbox_id: UUID, job_id: UUID) -> LiveEntry:
        """Raise Conflict `sandbox_not_running` for one that does not run here, or by another job."""
        entry = self._entries.get(job_id)
        if entry is None or entry.sandbox_id != sandbox_id:
            raise sandbox_not_running(LiveState.STOPPED)
        return entry

    @contextlib.contextmanager
    def watched(self, entry: LiveEntry) -> Iterator[None]:
        """Count a watch of its tenant; raises Exhausted `watch_limit` for one more than its share of this machine's."""
        tenant_id, most = entry.tenant_id, fair_share()
        if self._watches[tenant_id] >= most:
            raise watch_limit(most)
        self._watches[tenant_id] += 1
        try:
            yield
        finally:
            self._watches[tenant_id] -= 1
            self._watches += Counter()  # keeps those that have any

    async def keep(self, entry: LiveEntry, tree_id: UUID) -> KeptTree:
        """Seal and store /workspace as it is, alive or dead; the row is the caller's to write.

        Nothing is left of what fails. Raises what the engine and the object store raise.
        """
        async with self._saves.turn(entry.tenant_id):
            return await self._kept(entry, tree_id)

    async def _kept(self, entry: LiveEntry, tree_id: UUID) -> KeptTree:
        key, wrapped = await self.content.make_tree_key(tenant_id=entry.tenant_id, tree_id=tree_id)
        bridge = Writing(asyncio.get_running_loop())
        storing = asyncio.create_task(
            self.content.put_tree(
                key,
                bridge.pieces(),
                tenant_id=entry.tenant_id,
                place=entry.place,
                sandbox_id=entry.sandbox_id,
                tree_id=tree_id,
            ),
            name="kept-tree",
        )
        try:
            saved = await self._save(entry, bridge, storing)
            size, digest = await storing
        finally:
            bridge.abandon()
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
        return KeptTree(
            tree_id=tree_id,
            workspace_id=entry.workspace_id,
            sandbox_id=entry.sandbox_id,
            place=entry.place,
            content_key=wrapped,
            size_bytes=size,
            files=saved,
            sha256=digest,
            created_at=self.clock.now(),
        )

    async def _save(self, entry: LiveEntry, bridge: Writing, storing: "asyncio.Task[Any]") -> int:
        storing.add_done_callback(lambda _: bridge.abandon())
        target = bridge.buffered()
        try:
            saved = await entry.sandbox.save(target, max_bytes=entry.most_kept_bytes)
        except BaseException as error:
            if storing.done() and not storing.cancelled() and (failed := storing.exception()) is not None:
                raise failed from error
            await bridge.fail(error)
            raise
        await bridge.end()
        return saved.files


def told_tree(tree: KeptTree) -> dict[str, Any]:
    return {
        "place": tree.place,
        "content_key": base64.b64encode(tree.content_key).decode(),
        "size_bytes": tree.size_bytes,
        "files": tree.files,
        "sha256": tree.sha256.hex(),
        "created_at": tree.created_at.isoformat(),
    }
