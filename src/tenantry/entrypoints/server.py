"""The server process: HTTP, and the loops that belong to it (group commit, sealer, relay of news).

`python -m tenantry.entrypoints.server HOME PORT`; `tenantry up` starts it so.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from tenantry.entrypoints.api_runtime import make_runtime
from tenantry.entrypoints.audit_followers import AuditFollowers
from tenantry.entrypoints.declared import follow_declared
from tenantry.entrypoints.due import make_due_round
from tenantry.entrypoints.embedded import Embedded, faults_of, print_faults
from tenantry.entrypoints.evidence import make_evidence_round
from tenantry.entrypoints.heap import freeze_heap
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.metering import make_metering_round
from tenantry.entrypoints.notices import NoticeLoop
from tenantry.entrypoints.operations import make_operations, tidy_operations
from tenantry.entrypoints.reconcile import make_reconcile_round
from tenantry.entrypoints.relay import Relay
from tenantry.entrypoints.rounds import Rounds, follow_moves, tidy_places
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.entrypoints.sealing import sealing_loops
from tenantry.entrypoints.tls import server_context
from tenantry.foundation import idempotency, outbox
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import PLACE_NEWS
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.files import replace_file
from tenantry.foundation.settings import Settings, load_settings, plain_settings
from tenantry.foundation.telemetry import configure_logging
from tenantry.interfaces.api.app import create_app
from tenantry.interfaces.api.protocol import SOCKET_OPTIONS, BoundedProtocol, CutStreams, SocketProtocol
from tenantry.interfaces.api.runtime import Runtime

_CROSS_SIGN_SECONDS: Final = 5.0
_NOTE_SECONDS: Final = 5.0
_OPERATION_SECONDS: Final = 1.0
_PLACES_SECONDS: Final = 5.0
_JANITOR_SECONDS: Final = 300.0

_log = structlog.get_logger(__name__)


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(settings))
        runtime = make_runtime(parts)
        await stack.enter_async_context(_background(parts, runtime))
        context = server_context(settings.server)
        config = uvicorn.Config(
            create_app(runtime),
            ssl_context_factory=(lambda *_: context) if context else None,
            loop="uvloop",
            http=BoundedProtocol,
            ws=SocketProtocol,
            **SOCKET_OPTIONS,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=65,
        )
        logging.getLogger("uvicorn.error").addFilter(CutStreams())
        server = uvicorn.Server(config)
        stack.enter_context(_announced(settings, listener))
        freeze_heap()
        # uvicorn raises the signal that ended it once more; what is held around it has yet to be put away.
        signal.signal(signal.SIGTERM, lambda *_: None)
        await server.serve(sockets=[listener])


@contextlib.contextmanager
def _announced(settings: Settings, listener: socket.socket) -> Iterator[None]:
    """Tell where the server is, for `tenantry down` and whoever waits for the start."""
    host, port = listener.getsockname()[:2]
    file = settings.home / "server.json"
    # Others of this machine may look where it is; the keys to it lie elsewhere.
    replace_file(file, json.dumps({"pid": os.getpid(), "url": f"{settings.server.scheme}://{host}:{port}"}), mode=0o644)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _background(parts: Parts, runtime: Runtime) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        work = [loop for cell in parts.cells for loop in await _loops_of(cell, parts, runtime, stack=stack)]
        operations = make_operations(parts)
        work += [
            follow_declared(runtime.declared, seconds=parts.settings.tenants_reload_seconds),
            forever("tidy-operations", partial(tidy_operations, parts), seconds=_JANITOR_SECONDS),
            forever("cross-signing", runtime.region_logs.cross_sign, seconds=_CROSS_SIGN_SECONDS),
            forever("operations", operations.run_due, seconds=_OPERATION_SECONDS),
            forever("note-uses", runtime.admission.note_uses, seconds=_NOTE_SECONDS),
        ]
        tasks = [asyncio.create_task(loop) for loop in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(TenantryError):
                await runtime.admission.note_uses()


async def _loops_of(
    cell: Cell, parts: Parts, runtime: Runtime, *, stack: contextlib.AsyncExitStack
) -> list[Coroutine[object, object, None]]:
    """Make the loops of one cell, and begin to hear its news; what they hold is put away with `stack`."""
    addresses = parts.addresses.cells[cell.region]
    dispatcher, relaying = (
        Rounds(
            addresses.dispatcher,
            region=cell.region,
            directory=parts.directory,
            clock=parts.clock,
            look_seconds=seconds,
        )
        for seconds in (1.0, 0.0)
    )
    followers = AuditFollowers(parts, cell)
    stack.push_async_callback(followers.close)
    trail = runtime.trails[cell.region]
    sealing = sealing_loops(cell, parts, runtime.region_logs, tell=followers.stir, stack=stack)
    due, reconcile = make_due_round(parts, cell), make_reconcile_round(parts, cell)
    metering = make_metering_round(parts, cell, plans=runtime.plans)
    evidence = make_evidence_round(parts, cell, lockers=runtime.lockers)
    for each in (dispatcher, relaying, due.rounds, reconcile.rounds, metering.rounds, evidence):
        stack.push_async_callback(each.close)
    for each in (relaying, due.rounds, evidence.locking):
        cell.link.subscribe(PLACE_NEWS, each.stir)
    grants = parts.grant_follower(cell)
    relay = Relay(relaying, cell=cell, stoppers=parts.stoppers, offboarding=parts.offboarding, grants=grants)
    for woken in (relay, due):
        cell.link.subscribe(outbox.CHANNEL, woken.wake)
        cell.link.subscribe(PLACE_NEWS, woken.wake)
        cell.link.on_reconnect(woken.wake)
    notices = NoticeLoop(parts, cell)
    stack.push_async_callback(notices.close)
    follow_moves(cell)
    await cell.start()
    trail.start()
    stack.push_async_callback(trail.stop)
    return [
        *sealing,
        forever("janitor", partial(_forget_old_keys, dispatcher), seconds=_JANITOR_SECONDS),
        relay.run(),
        due.run(),
        reconcile.run(),
        notices.run(),
        followers.run(),
        metering.run(),
        evidence.run(),
        forever("places", partial(tidy_places, cell, parts.directory), seconds=_PLACES_SECONDS),
    ]


async def _forget_old_keys(rounds: Rounds) -> None:
    async for place, pool, schema in rounds.waiting("idempotency_records"):
        with rounds.attempt(place, schema):
            async with platform_session(pool, schema=schema) as connection:
                await idempotency.forget_old(connection)


def main(home: Path, port: int | None) -> int:
    """Run the whole embedded installation, or a bare server where regions are configured; gives the exit code."""
    faults: list[str] = []
    try:
        settings = load_settings(home=home, port=port)
    except TenantryError as error:
        # Told with every other fault of the start, so that one try shows all there is to mend.
        faults = [f"{error.code}: {line}" for line in faults_of(error)]
        settings = plain_settings(home, port=port)
    configure_logging(settings.log_level)
    signal.signal(signal.SIGTERM, _leave)
    with Embedded(settings, faults=faults) as embedded:
        embedded.start()
        uvicorn_loop = asyncio.Runner(loop_factory=_loop)
        with uvicorn_loop as runner:
            runner.run(_with_workers(settings, embedded))
    return 0


def _leave(number: int, _frame: object) -> None:
    """End a start half way by the path that puts away what was started, PostgreSQL above all."""
    raise SystemExit(128 + number)


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _with_workers(settings: Settings, embedded: Embedded) -> None:
    watch = asyncio.create_task(embedded.watch_workers())
    try:
        await serve(settings, embedded.listener)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _, home_text, *port_text = sys.argv
    try:
        sys.exit(main(Path(home_text), int(port_text[0]) if port_text else None))
    except TenantryError as fault:
        print_faults(fault)
        sys.exit(1)
