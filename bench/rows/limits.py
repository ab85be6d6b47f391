"""Rows 6 and 7: rate limits in a real Redis (`redis-server` on loopback)."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as ConnectionBroken

from bench.installation import Installation
from bench.report import Bar, Result, Series, paired_ratio
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.caches.leased_limiter import LeasedRateLimiter
from tenantry.foundation.caches.ports import RateLimit, Standing, Verdict
from tenantry.foundation.caches.redis_adapters import RedisRateLimiter
from tenantry.foundation.caches.redis_link import RedisLink
from tenantry.foundation.clock import SystemClock

_PROCESSES, _TASKS, _SECONDS = 4, 8, 4.0
_MAX, _WINDOW_MS = 200, 1000


async def cost(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    """Row 6: three limits in one call."""
    result = Result("6", "three rate limits in one call, real Redis over TCP — against one PING")
    tenant = uuid4()
    limits = [RateLimit(tenant, name, 10**6, 60_000) for name in ("requests", "jobs", "tokens")]
    async with _redis() as url:
        link, plain = RedisLink(url), Redis.from_url(url, protocol=2)
        waits = dict.fromkeys(("timeout", "socket_timeout", "socket_connect_timeout"), 0.5)
        bounded = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=32, protocol=2, **waits))
        asked = RedisRateLimiter(link)
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "admit, three limits": lambda: asked.admit(limits),
            "PING, redis-py with a bounded pool and time-outs": bounded.ping,
            "PING, redis-py without": plain.ping,
            "PING, as the limiter asks": lambda: link.command("PING"),
        }
        result.series = [Series(name) for name in ways]
        medians: list[list[float]] = [[] for _ in ways]
        for number in range(6 if quick else 41):
            for series, median, call in zip(result.series, medians, ways.values(), strict=True):
                block = Series("")
                for _ in range(100):
                    begun = time.perf_counter()
                    block.failures += not await call()
                    block.samples.append((time.perf_counter() - begun) * 1e3)
                if number:  # the first block connects and loads the script
                    series.add(block)
                    median.append(block.percentile(0.5))
        result.series.append(await _from_leases(asked, limits, count=500 if quick else 5_000))
        for client in (plain, bounded):
            await client.aclose()
        await link.close()
    ratios = [paired_ratio(medians[0], median) for median in medians[1:]]
    result.bars.append(Bar("p50, to redis-py with the same bounds", ratios[0], 1.2))
    result.bars.append(Bar("lease, p50", result.series[-1].percentile(0.5), 0.003, unit=" ms"))
    result.remarks += [
        f"one round trip without a lease; to redis-py without bounds {ratios[1]:.2f}x",
        f"to a PING over the limiter's own link {ratios[2]:.2f}x",
        "quotas ask Redis nothing: they are reserved in the transaction of the work (row 15)",
    ]
    return [result]


async def _from_leases(asked: RedisRateLimiter, limits: Sequence[RateLimit], *, count: int) -> Series:
    """Time `count` calls that took no round trip, one after the other; those that did are left out."""
    series, trips = Series("admit from a lease"), 0

    class Counted:
        async def admit(self, limits: Sequence[RateLimit]) -> Verdict:
            nonlocal trips
            trips += 1
            return await asked.admit(limits)

        async def look(self, limits: Sequence[RateLimit]) -> Sequence[Standing]:
            return await asked.look(limits)

    limiter = LeasedRateLimiter(Counted(), SystemClock())
    while len(series.samples) < count:
        before, begun = trips, time.perf_counter()
        verdict = await limiter.admit(limits)
        took = time.perf_counter() - begun
        if trips == before:
            series.samples.append(took * 1e3)
            series.failures += not verdict
    return series


async def admissions(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    """Row 7: four processes with eight tasks each ask as fast as they can."""
    seconds = 1.0 if quick else _SECONDS
    result = Result("7", f"admissions of {_MAX} a second, {_PROCESSES} processes of {_TASKS} tasks — against the rule")
    async with _redis() as url:
        command = (sys.executable, "-m", "bench.rows.limits", url, str(uuid4()), str(seconds))
        askers = [
            await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            for _ in range(_PROCESSES)
        ]
        answers = [json.loads((await asker.communicate())[0]) for asker in askers]
    admitted = sum(answer["admitted"] for answer in answers)
    span = max(answer["end"] for answer in answers) - min(answer["begin"] for answer in answers)
    allowed = span * _MAX * 1000 / _WINDOW_MS + _MAX
    result.series = [Series("admitted", [float(admitted)], unit=""), Series("the rule", [allowed], unit="")]
    result.bars.append(Bar("admitted over allowed", admitted / allowed, 1.0))
    result.remarks.append(f"{sum(answer['asked'] for answer in answers)} asked within {span:.2f} s")
    return [result]


async def _ask(url: str, tenant: UUID, seconds: float) -> dict[str, float]:
    caches = open_caches(url, SystemClock())
    limit = [RateLimit(tenant, "bench", _MAX, _WINDOW_MS)]
    begin = time.monotonic()
    admitted = asked = 0

    async def task() -> None:
        nonlocal admitted, asked
        while time.monotonic() - begin < seconds:
            asked += 1
            verdict = await caches.limiter.admit(limit)
            admitted += verdict.allowed

    await asyncio.gather(*(task() for _ in range(_TASKS)))
    await caches.close()
    return {"begin": begin, "end": time.monotonic(), "admitted": admitted, "asked": asked}


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed: run `apt-get install -y redis-server`")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        taken.close()
        process = await asyncio.create_subprocess_exec(
            *(program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            await _answers(f"redis://127.0.0.1:{port}")
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def _answers(url: str) -> None:
    retry = Retry(ConstantBackoff(0.05), 100, supported_errors=(ConnectionBroken,))
    client = Redis.from_url(url, protocol=2, retry=retry)
    await client.ping()
    await client.aclose()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_ask(sys.argv[1], UUID(sys.argv[2]), float(sys.argv[3])))))
