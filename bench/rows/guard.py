"""Rows 1 and 2: what the whole guard costs over HTTP, beside the same application without it."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

from bench.installation import Installation, clean_environment
from bench.load import Load, request
from bench.report import Bar, Result, Series, paired_ratio

_SETTLE_SECONDS = 0.4  # the audit trail of a block is flushed (20 ms) and sealed (250 ms) before the next begins
CONNECTIONS = (8, 16)


async def read(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 1: GET one workspace."""
    path = f"/api/v1/workspaces/{installation.workspace}"
    guarded = request("GET", path, key=installation.key)
    bare = request("GET", path)
    result = Result("1", "point read: key, tenant, decide, signed RLS, audit — against the same app without the guard")
    await _compare(result, installation, lambda: guarded, lambda: bare, quick=quick, least=0.80, p99=1.30)
    return [result]


async def write(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 2: POST a service account, whose row commits with its audit event."""
    numbers = itertools.count()
    path = f"/api/v1/workspaces/{installation.workspace}/service-accounts"

    def make(key: str | None) -> bytes:
        return request("POST", path, key=key, body=json.dumps({"name": f"account {next(numbers)}"}).encode())

    result = Result("2", "write with its audit row — against the bare insert route")
    await _compare(
        result, installation, lambda: make(installation.key), lambda: make(None), quick=quick, least=0.70, p99=None
    )
    return [result]


async def _compare(
    result: Result,
    installation: Installation,
    guarded: Callable[[], bytes],
    bare: Callable[[], bytes],
    *,
    quick: bool,
    least: float,
    p99: float | None,
) -> None:
    pairs, seconds = (2, 0.5) if quick else (8, 1.2)
    async with _bare_server(installation) as url:
        for connections in CONNECTIONS:
            ours = await Load.open(installation.url, guarded, connections=connections)
            theirs = await Load.open(url, bare, connections=connections)
            series = (Series(f"guarded, {connections} at once"), Series(f"bare, {connections} at once"))
            rates: tuple[list[float], list[float]] = ([], [])
            for load in (ours, theirs):
                await load.block(seconds=0.5)  # connections of the pools, plans, caches
            for number in range(pairs):
                for side in (0, 1) if number % 2 else (1, 0):
                    await asyncio.sleep(_SETTLE_SECONDS)
                    block = await (ours, theirs)[side].block(seconds=seconds)
                    series[side].add(block)
                    rates[side].append(block.rate or 0.0)
            ours.close()
            theirs.close()
            result.series += series
            name = f"throughput at {connections}"
            result.bars.append(Bar(name, paired_ratio(*rates), least, least=True))
            if p99 is not None:
                tail = series[0].percentile(0.99) / series[1].percentile(0.99)
                result.bars.append(Bar(f"p99 at {connections}", tail, p99))


@contextlib.asynccontextmanager
async def _bare_server(installation: Installation) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_app", str(installation.home), installation.tenant),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=clean_environment(),
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()
