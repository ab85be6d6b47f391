"""Row 8: events of one hot tenant appended by 16 writers, each waiting until its own is kept, beside plain inserts.

An event without an effect, a read or a refusal, is appended by the trail, which writes what waits together; one with an
effect in the effect's transaction (row 2), here in one with nothing else. Of the plain inserts of the same row one goes
through the same fence into the same table, and is no event; one as the superuser into a table of its own.

Row 8s, the soak: events at the highest rate for ten minutes, while two more sealers race with the server's own and are
killed again and again; then every event that was acknowledged has its place, there is no gap, and each checkpoint is of
the one history.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from bench.installation import REGION, Installation
from bench.report import Bar, Result, Series, paired_ratio
from tenantry.capabilities.audit.service import AuditService, AuditTrail, collecting
from tenantry.capabilities.audit.types import AuditEvent, Outcome, canonical_bytes
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import Note
from tenantry.engines.merkle.tree import Frontier, leaf_hash
from tenantry.entrypoints.runtime import open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.settings import load_settings

_WRITERS = 16
_CLOCK = SystemClock()
_DETAILS = {"name": "a note", "size": "12"}
_PLAIN = """create table public.bench_plain (
    tenant_id uuid, event_id uuid, workspace_id uuid, occurred_at timestamptz, actor_type text, actor_id text,
    action text, resource_type text, resource_id text, outcome text, canonical bytea, leaf bytea,
    primary key (tenant_id, event_id)
)"""
_INSERT = "insert into {} values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

Write = Callable[[], Awaitable[None]]


async def append(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 8."""
    blocks, seconds = (3, 1.0) if quick else (12, 4.0)
    result = Result("8", f"audit append, one hot tenant, {_WRITERS} writers — against plain inserts of the same row")
    rates: dict[str, list[float]] = {}
    async with (
        _cells(installation) as cells,
        _plain_pool(installation) as pool,
        _noting(cells, parse_id(Prefix.TENANT, installation.tenant)) as noting,
    ):
        tenant = parse_id(Prefix.TENANT, installation.tenant)
        ways = {
            "append": noting,
            "append, a transaction each": _appending(cells, tenant, []),
            "plain insert, same fence": _inserting_fenced(cells, tenant),
            "plain insert, no fence": _inserting(pool, tenant),
        }
        result.series += [Series(name) for name in ways]
        for _ in range(blocks):
            for series, write in zip(result.series, ways.values(), strict=True):
                block = await _block(write, seconds=seconds)
                rates.setdefault(series.name, []).append(block.rate or 0.0)
                series.add(block)
    noted, appended, fenced, bare = rates.values()
    result.bars += [
        Bar("append over a plain insert behind the same fence", paired_ratio(noted, fenced), 0.95, least=True),
        Bar("append in a transaction each over the same", paired_ratio(appended, fenced), 0.95, least=True),
    ]
    result.remarks += [
        f"over one without a fence: {paired_ratio(noted, bare):.2f}x and {paired_ratio(appended, bare):.2f}x",
        "every writer waits until its event is kept; the server seals and signs all the while",
    ]
    return [result]


async def soak(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 8s."""
    seconds = 20.0 if quick else 600.0
    result = Result("8s", f"{seconds:.0f} s at the highest rate, two sealers more that race and are killed")
    tenant = parse_id(Prefix.TENANT, installation.tenant)
    acknowledged: list[UUID] = []
    async with _cells(installation) as cells:
        killing = asyncio.create_task(_kill_sealers(installation, until=time.monotonic() + seconds))
        result.series.append(await _block(_appending(cells, tenant, acknowledged), seconds=seconds, name="append"))
        killed = await killing
    found = await _sealed(installation, tenant)
    result.bars += [
        Bar("lost of those acknowledged", len(set(acknowledged) - found.events), 0, unit=""),
        Bar("gaps in the sequence", found.gaps, 0, unit=""),
        Bar("checkpoints of another history", found.forks, 0, unit=""),
    ]
    result.remarks.append(f"{len(acknowledged)} events, {found.checkpoints} checkpoints, sealers killed {killed} times")
    return [result]


@asynccontextmanager
async def _cells(installation: Installation) -> AsyncIterator[Cells]:
    settings = load_settings(home=installation.home)
    database = settings.database.model_copy(update={"pool_size": _WRITERS * 2})
    async with open_parts(settings.model_copy(update={"database": database}), regions=(REGION,), serves=False) as parts:
        for cell in parts.cells:
            await cell.link.start()
        yield parts.cells


@asynccontextmanager
async def _plain_pool(installation: Installation) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    async with asyncpg.create_pool(installation.superuser_dsn, min_size=_WRITERS, max_size=_WRITERS) as pool:
        await pool.execute(_PLAIN)
        try:
            yield pool
        finally:
            await pool.execute("drop table public.bench_plain")


@asynccontextmanager
async def _noting(cells: Cells, tenant: UUID) -> AsyncIterator[Write]:
    """Append by the trail, as the server does with reads and refusals; who has noted waits for the flush after it."""

    async def gone(_tenant: UUID) -> None:
        return None

    trail = AuditTrail(
        region=REGION, open_session=cells.session, find_region=gone, clock=_CLOCK, flush_seconds=0, capacity=_WRITERS
    )
    scope = TenantScope(tenant_id=tenant, region=REGION, actor=SYSTEM)
    loop, noted = asyncio.get_running_loop(), asyncio.Event()
    kept = [loop.create_future()]

    async def write() -> None:
        trail.note(scope, action="note.made", resource_type="note", resource_id="note-1", details=_DETAILS)
        noted.set()
        await asyncio.shield(kept[-1])

    async def flush() -> None:
        while True:
            await noted.wait()
            noted.clear()
            kept.append(loop.create_future())
            if await trail.flush():
                kept.pop(0).set_result(None)
            else:
                kept.pop(0).set_exception(RuntimeError("a flush has failed"))

    flushing = asyncio.create_task(flush())
    try:
        yield write
    finally:
        flushing.cancel()


def _appending(cells: Cells, tenant: UUID, acknowledged: list[UUID]) -> Write:
    scope = TenantScope(tenant_id=tenant, region=REGION, actor=SYSTEM)

    async def write() -> None:
        with collecting() as recorded:
            async with cells.session(scope) as session:
                await AuditService(session=session, clock=_CLOCK).record(
                    "note.made", resource_type="note", resource_id="note-1", details=_DETAILS
                )
        acknowledged.extend(one.event_id for one in recorded)

    return write


def _inserting_fenced(cells: Cells, tenant: UUID) -> Write:
    scope = TenantScope(tenant_id=tenant, region=REGION, actor=SYSTEM)
    row, statement = _row(tenant), _INSERT.format("audit_events")

    async def write() -> None:
        async with cells.session(scope) as session:
            await session.execute(statement, tenant, new_id(), None, *row)

    return write


def _inserting(pool: "asyncpg.Pool[asyncpg.Record]", tenant: UUID) -> Write:
    row, statement = _row(tenant), _INSERT.format("public.bench_plain")

    async def write() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(statement, tenant, new_id(), None, *row)

    return write


def _row(tenant: UUID) -> tuple[object, ...]:
    """What an event's row has behind its ids."""
    event = AuditEvent(
        tenant, new_id(), _CLOCK.now(), SYSTEM, "note.made", "note", "note-1", Outcome.SUCCESS,
        details=_DETAILS,
    )  # fmt: skip
    canonical = canonical_bytes(event)
    told = ("system", "tenantry", event.action, "note", "note-1", "success")
    return event.occurred_at, *told, canonical, leaf_hash(canonical)


async def _block(write: Write, *, seconds: float, name: str = "") -> Series:
    """Let all writers write for so long."""
    series, begun = Series(name), time.perf_counter()

    async def writer() -> None:
        while (at := time.perf_counter()) < begun + seconds:
            await write()
            series.samples.append((time.perf_counter() - at) * 1e3)

    await asyncio.gather(*(writer() for _ in range(_WRITERS)))
    series.seconds = time.perf_counter() - begun
    return series


async def _kill_sealers(installation: Installation, *, until: float) -> int:
    """Keep two sealers more, and kill one of them every half a second to three; tells how many were."""
    chance, killed = random.Random(8), 0  # noqa: S311 - the same each time
    sealers = [await _sealer(installation) for _ in range(2)]
    try:
        while time.monotonic() < until:
            await asyncio.sleep(chance.uniform(0.5, 3.0))
            at = chance.randrange(len(sealers))
            sealers[at].kill()
            await sealers[at].wait()
            killed += 1
            sealers[at] = await _sealer(installation)
    finally:
        for one in sealers:
            one.kill()
            await one.wait()
    return killed


async def _sealer(installation: Installation) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.sealer", str(installation.home))


@dataclass(frozen=True, slots=True)
class _Log:
    events: set[UUID]
    gaps: int
    forks: int
    checkpoints: int


async def _sealed(installation: Installation, tenant: UUID) -> _Log:
    """Wait until all is sealed and signed, then read the log as it lies there."""
    connection = await asyncpg.connect(installation.superuser_dsn)
    try:
        for table in ("audit_unsealed", "audit_unsigned"):
            waiting = f"select count(*) from tenantry.{table} where tenant_id = $1"  # noqa: S608 - a table's name
            while await connection.fetchval(waiting, tenant):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.2)
        rows = await connection.fetch(
            "select sequence, event_id, leaf from tenantry.audit_sequence where tenant_id = $1 order by sequence",
            tenant,
        )
        notes = await connection.fetch(
            "select note from tenantry.audit_checkpoints where tenant_id = $1 order by size", tenant
        )
    finally:
        await connection.close()
    signed = [Checkpoint.parse(Note.parse(row["note"]).text) for row in notes]
    edge, forks = Frontier(), 0
    for one in signed:
        edge = edge.append_many(row["leaf"] for row in rows[edge.size : one.size]).frontier
        forks += (edge.size, edge.root) != (one.size, one.root)
    gaps = sum(row["sequence"] != place for place, row in enumerate(rows, 1))
    return _Log({row["event_id"] for row in rows}, gaps, forks, len(signed))
