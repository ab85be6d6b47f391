"""Row 14b: what a claim costs with a full queue, whether it ever comes back empty, and how fast one hot key enqueues.

`run()` starts its own PostgreSQL and answers plain figures; milliseconds, claims, entries per second.
"""

import asyncio
import json
import random
import secrets
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg

from tenantry.engines.fairqueue import Claim, FairQueue, Names, application_grants, ddl, dispatcher_grants
from tenantry.foundation.database.embedded import ConnectionParts, EmbeddedPostgres

if TYPE_CHECKING:
    Link: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NAMES = Names(schema="queue", levels=("first_id", "second_id", "third_id"), entry="entry_id")
COLUMNS = ("first_id", "second_id", "third_id", "entry_id", "estimate_seconds")


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="fairqueue-bench-") as home:
        server = EmbeddedPostgres(Path(home))
        server.start()
        try:
            return asyncio.run(_measure(server))
        finally:
            server.purge()


async def _measure(server: EmbeddedPostgres) -> dict[str, Any]:
    parts = await prepare(server)
    superuser = await asyncpg.connect(**asdict(server.superuser))
    results: dict[str, Any] = {"empty": await _claim_all(parts, claimers=1, rounds=1000)}
    for keys, entries in ((1_000, 10_000), (10_000, 100_000)):
        results[f"fill_{keys}x{entries}"] = await _fill(superuser, parts, keys=keys, entries=entries)
        for state in ("fresh", "vacuumed"):  # what autovacuum finds after the fill, and what it leaves
            if state == "vacuumed":
                await superuser.execute("VACUUM ANALYZE queue.entries, queue.fronts, queue.nodes")
            for claimers in (1, 8):
                name = f"claim_{keys}x{entries}_{state}_{claimers}"
                results[name] = await _claim_all(parts, claimers=claimers, rounds=1000)
    results["live_1000x10000"] = await _live(parts)
    results["claim_beside_1000_held"] = await _beside_held(superuser, parts, keys=1000)
    results["enqueue_hot_key_16"] = await _enqueue_hot(parts)
    await superuser.close()
    return results


async def prepare(server: EmbeddedPostgres) -> dict[str, ConnectionParts]:
    """Both roles as in production: fenced application, dispatcher with its policies."""
    link = await asyncpg.connect(**asdict(server.superuser))
    parts = {}
    for role in ("application", "dispatcher"):
        password = secrets.token_hex(16)
        await link.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        parts[role] = server.dsn(user=role, password=password, database="postgres")
    await link.execute("CREATE SCHEMA queue; GRANT USAGE ON SCHEMA queue TO application")
    for statement in (*ddl(NAMES), *dispatcher_grants(NAMES, role="dispatcher")):
        await link.execute(statement)
    fence = "first_id = (SELECT current_setting('queue.first')::uuid)"
    for table, grants in application_grants(NAMES).items():
        await link.execute(f"GRANT {grants} ON queue.{table} TO application")
        await link.execute(f"CREATE POLICY a ON queue.{table} TO application USING ({fence}) WITH CHECK ({fence})")
    await link.close()
    return parts


async def _fill(superuser: "Link", parts: dict[str, ConnectionParts], *, keys: int, entries: int) -> dict[str, Any]:
    """Two second-level and two third-level keys each; the time is that of taking all into the tree."""
    await superuser.execute(
        "TRUNCATE queue.entries, queue.fronts; DELETE FROM queue.nodes; UPDATE queue.lanes SET least_vt = 0"
    )
    firsts = [(uuid4(), [(uuid4(), uuid4()) for _ in range(4)]) for _ in range(keys)]
    rows = []
    for number in range(entries):
        first, below = firsts[number % keys]
        rows.append((first, *below[number // keys % 4], uuid4(), random.uniform(0.5, 2)))  # noqa: S311  # load, no secret
    await superuser.copy_records_to_table("entries", schema_name="queue", records=rows, columns=COLUMNS)
    queue, link = FairQueue(NAMES), await asyncpg.connect(**asdict(parts["dispatcher"]))
    samples, took = [], 1
    while took:
        begun = time.perf_counter()
        took = await queue.catch_up(link)
        samples.append((time.perf_counter() - begun) * 1e3)
    await link.close()
    return {"per_second": round(entries / sum(samples) * 1e3), "longest_gate_ms": round(max(samples), 1)}


async def _claim_all(parts: dict[str, ConnectionParts], *, claimers: int, rounds: int) -> dict[str, Any]:
    """One slot at a time; nothing is finished, so each empty answer is a false one unless the queue is empty."""
    queue = FairQueue(NAMES)
    links = [await asyncpg.connect(**asdict(parts["dispatcher"])) for _ in range(claimers)]
    samples: list[float] = []
    got: list[Claim] = []
    empty = 0

    async def claimer(link: "Link", worker: UUID) -> None:
        nonlocal empty
        while len(samples) < rounds:
            begun = time.perf_counter()
            claims = await queue.claim(link, worker=worker, free_slots=1, capacity=4, labels=(), lease_seconds=600)
            samples.append((time.perf_counter() - begun) * 1e3)
            got.extend(claims)
            empty += not claims

    begun = time.perf_counter()
    await asyncio.gather(*(claimer(link, uuid4()) for link in links))
    seconds = time.perf_counter() - begun
    for link in links:
        await link.close()
    duplicates = len(got) - len({claim.ticket.entry for claim in got})
    return _figures(samples) | {"per_second": round(len(samples) / seconds), "empty": empty, "duplicates": duplicates}


async def _beside_held(superuser: "Link", parts: dict[str, ConnectionParts], *, keys: int) -> dict[str, Any]:
    """One key works on while all others wait at their cap with ten entries each."""
    await superuser.execute("TRUNCATE queue.entries, queue.fronts, queue.nodes, queue.lanes, queue.shares")
    held, working = [uuid4() for _ in range(keys)], uuid4()
    await superuser.copy_records_to_table(
        "shares", schema_name="queue", records=[(key, 1) for key in held], columns=("first_id", "most_running")
    )
    firsts = [*(key for key in held for _ in range(10)), *(working for _ in range(3000))]
    rows = [(key, key, key, uuid4(), 1.0) for key in firsts]
    await superuser.copy_records_to_table("entries", schema_name="queue", records=rows, columns=COLUMNS)
    queue, link = FairQueue(NAMES), await asyncpg.connect(**asdict(parts["dispatcher"]))
    while await queue.catch_up(link):
        pass
    await queue.claim(link, worker=uuid4(), free_slots=keys + 10, capacity=4, labels=(), lease_seconds=600)
    await link.close()
    await superuser.execute("VACUUM ANALYZE queue.entries, queue.fronts, queue.nodes")
    assert await superuser.fetchval("SELECT count(DISTINCT node) FROM queue.fronts WHERE held") == keys
    return await _claim_all(parts, claimers=1, rounds=1000)


async def _live(parts: dict[str, ConnectionParts]) -> dict[str, Any]:
    """The steady state: each claim also takes in a new entry and settles a finished one."""
    queue, first, worker = FairQueue(NAMES), uuid4(), uuid4()
    link = await asyncpg.connect(**asdict(parts["dispatcher"]))
    application = await asyncpg.connect(**asdict(parts["application"]))
    samples = []
    for _ in range(1000):
        await application.execute("SELECT set_config('queue.first', $1, false)", str(first))
        await queue.enqueue(application, levels=(first, first, first), entry=uuid4(), estimate_seconds=1)
        begun = time.perf_counter()
        (claim,) = await queue.claim(link, worker=worker, free_slots=1, capacity=4, labels=(), lease_seconds=600)
        samples.append((time.perf_counter() - begun) * 1e3)
        await application.execute("SELECT set_config('queue.first', $1, false)", str(claim.ticket.first))
        assert await queue.finish(application, ticket=claim.ticket, used_slot_seconds=1.5)
    await link.close()
    await application.close()
    return _figures(samples)


async def _enqueue_hot(parts: dict[str, ConnectionParts], *, writers: int = 16, seconds: float = 3) -> dict[str, Any]:
    """One first-level key, a transaction an entry; what another role would have to count is counted at the claim."""
    queue, first = FairQueue(NAMES), uuid4()
    samples: list[float] = []
    end = time.perf_counter() + seconds

    async def writer() -> None:
        link = await asyncpg.connect(**asdict(parts["application"]), server_settings={"queue.first": str(first)})
        while (begun := time.perf_counter()) < end:
            await queue.enqueue(link, levels=(first, first, first), entry=uuid4(), estimate_seconds=1)
            samples.append((time.perf_counter() - begun) * 1e3)
        await link.close()

    await asyncio.gather(*(writer() for _ in range(writers)))
    return _figures(samples) | {"per_second": round(len(samples) / seconds)}


def _figures(samples: list[float]) -> dict[str, Any]:
    ordered = sorted(samples)
    p95, p99 = (ordered[int(len(ordered) * part)] for part in (0.95, 0.99))
    return {"p50": round(statistics.median(ordered), 3), "p95": round(p95, 3), "p99": round(p99, 3)}


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
