"""The worker process: runs the jobs of exactly one cell. `python -m tenantry.entrypoints.worker HOME REGION`."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from tenantry.capabilities.evidence.service import LegalHolds
from tenantry.capabilities.sandboxes.service import (
    Dispatcher,
    JobRunner,
    LiveLink,
    LiveRoom,
    QueueRelay,
    SecretOpener,
    Workshop,
    sweep_images,
    worker_identity,
)
from tenantry.capabilities.sandboxes.types import JOBS, QUEUE_NEWS, SANDBOXES
from tenantry.capabilities.tenants.ports import ContentKind
from tenantry.capabilities.tenants.service import purge_due
from tenantry.engines.jail.backend import Backend
from tenantry.engines.jail.receipt import IsolationLevel
from tenantry.entrypoints.backends import open_backend
from tenantry.entrypoints.heap import freeze_heap
from tenantry.entrypoints.link import link_door
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds, follow_moves, tidy_places
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import PLACE_NEWS, SHARED
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.errors import Fault, TenantryError
from tenantry.foundation.settings import Settings, load_settings
from tenantry.foundation.telemetry import configure_logging

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_PURGE_SECONDS: Final = 5.0
_IMAGE_SECONDS: Final = 600.0
_RELAY_SECONDS: Final = 1.0
_PLACES_SECONDS: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
SERVER_PID: Final = "TENANTRY_SERVER_PID"
"""Environment variable by which an embedded server tells its workers whose they are."""

_log = structlog.get_logger(__name__)


async def work(settings: Settings, region: str) -> None:
    """Run jobs until SIGTERM or SIGINT; what runs then is killed and reported."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(settings, regions=(region,), serves=False))
        cell = parts.cells.get(region)
        jail = await stack.enter_async_context(await open_backend(settings))
        _require_isolation(jail, settings)
        dsn = parts.addresses.cells[region].dispatcher
        pool = await open_pool(dsn, search_path="queue", max_size=4)
        stack.push_async_callback(pool.close)
        rounds, purging = (
            Rounds(dsn, region=region, directory=parts.directory, clock=parts.clock, lock_seconds=None)
            for _ in range(2)
        )
        stack.push_async_callback(rounds.close)
        stack.push_async_callback(purging.close)
        relay = QueueRelay(cell=cell, databases=rounds)
        workshop = await _workshop(parts, region, jail=jail, relay=relay, stack=stack)
        dispatchers = _dispatchers(parts, region, pool=pool, workshop=workshop, stack=stack)
        news = asyncio.Event()
        cell.link.subscribe(PLACE_NEWS, rounds.stir)
        cell.link.subscribe(PLACE_NEWS, lambda _place: news.set())
        for dispatcher in dispatchers:
            cell.link.subscribe(QUEUE_NEWS, dispatcher.wake)
            cell.link.on_reconnect(dispatcher.recover)
        follow_moves(cell)
        await cell.start()
        for dispatcher in dispatchers:
            await dispatcher.start()
        stack.push_async_callback(_stop, dispatchers)
        janitors = _janitors(parts, region, queue=pool, rounds=purging)
        janitors.append(asyncio.create_task(forever("queue-relay", relay.relay, seconds=_RELAY_SECONDS, wake=news)))
        freeze_heap()
        _log.info(
            "worker.ready",
            region=region,
            slots=settings.jobs.slots,
            sandboxes=settings.sandboxes.slots,
            backend=jail.name,
        )
        await stop.wait()
        for janitor in janitors:
            janitor.cancel()
        await asyncio.gather(*janitors, return_exceptions=True)


def _dispatchers(
    parts: Parts, region: str, *, pool: "Pool", workshop: Workshop, stack: contextlib.AsyncExitStack
) -> list[Dispatcher]:
    """Make one for jobs and one for sandboxes, each a worker of its own to the queue."""
    settings = parts.settings
    return [
        Dispatcher(
            pool=pool,
            runner=JobRunner(workshop),
            worker=stack.enter_context(worker_identity(settings.home / region / "workers")),
            boot=parts.content[region].transient.holder,
            settings=settings.jobs,
            clock=parts.clock,
            lane=lane,
            slots=slots,
        )
        for lane, slots in ((JOBS, settings.jobs.slots), (SANDBOXES, settings.sandboxes.slots))
        if slots
    ]


async def _stop(dispatchers: Sequence[Dispatcher]) -> None:
    await asyncio.gather(*(dispatcher.stop() for dispatcher in dispatchers))


async def _workshop(
    parts: Parts, region: str, *, jail: Backend, relay: QueueRelay, stack: contextlib.AsyncExitStack
) -> Workshop:
    """Make what attempts work with, and open the link to the sandboxes that live here."""
    socket = parts.settings.home / region / "workers" / f"{parts.content[region].transient.holder.hex}.sock"
    room = LiveRoom(content=parts.kept[region], clock=parts.clock)
    link = LiveLink(room, link_door(parts.settings.worker_link, socket))
    await link.open()
    stack.push_async_callback(link.close)
    return Workshop(
        cell=parts.cells.get(region),
        jail=jail,
        content=parts.content[region],
        secrets=SecretOpener(cell=parts.cells.get(region), keyring=parts.keyrings[region], clock=parts.clock),
        library=parts.libraries[region],
        relay=relay,
        settings=parts.settings.jobs,
        clock=parts.clock,
        room=room,
    )


def _janitors(parts: Parts, region: str, *, queue: "Pool", rounds: Rounds) -> "list[asyncio.Task[None]]":
    """Start what tidies the cell from time to time."""
    cell = parts.cells.get(region)
    purge = partial(_purge, rounds, queue=queue, cell=cell, kinds=parts.content_kinds(region), clock=parts.clock)
    sweep = partial(sweep_images, parts.libraries[region], cell=cell)
    return [
        asyncio.create_task(forever("purge", purge, seconds=_PURGE_SECONDS)),
        asyncio.create_task(forever("images", sweep, seconds=_IMAGE_SECONDS)),
        asyncio.create_task(forever("places", partial(tidy_places, cell, parts.directory), seconds=_PLACES_SECONDS)),
    ]


def _require_isolation(jail: Backend, settings: Settings) -> None:
    """Refuse to work below the isolation asked for: there is no silent downgrade."""
    if jail.isolation.reaches(settings.jobs.min_isolation):
        return
    if jail.isolation is not IsolationLevel.RLIMIT:
        raise Fault(
            "isolation_too_low",
            f"jobs.min_isolation is {settings.jobs.min_isolation}, and sandboxes of the backend {jail.name} have "
            f"{jail.isolation}: set sandboxes.backend = 'gvisor', or ask for less",
            layer="jail",
        )
    raise Fault(
        "isolation_too_low",
        "this machine offers no cgroups, so memory and processes of a sandbox are not bounded: delegate cgroups, "
        "or set jobs.min_isolation = 'rlimit' where all tenants trust each other",
        layer="jail",
    )


async def _purge(rounds: Rounds, *, queue: "Pool", cell: Cell, kinds: Mapping[str, ContentKind], clock: Clock) -> int:
    """Forget what is due, in each database of the cell."""
    purged = 0
    async for place, pool, _ in rounds.databases():
        with rounds.attempt(place, SHARED):
            purged += await purge_due(pool, queue=queue, cell=cell, kinds=kinds, clock=clock, keeping=LegalHolds())
    return purged


def main(home: Path, region: str) -> None:
    # A worker of an embedded server ends with it; one whose server died before it could ask to be told does not begin.
    if server := os.environ.get(SERVER_PID):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(server):
            return
    settings = load_settings(home=home)
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(work(settings, region))


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except TenantryError as fault:
        _log.error("worker.fault", code=fault.code, detail=fault.message, remedy=str(fault.fields.get("remedy", "")))
        sys.exit(1)
