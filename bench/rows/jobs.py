"""Rows 9, 10 and 11: commands in sandboxes, over the API, beside bare bubblewrap and `docker run`."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from bench.installation import Installation
from bench.load import Caller, request
from bench.report import Bar, Result, Series
from tenantry.foundation.settings import JobSettings

_TRUE = ("true",)
_TASK = ("python3", "-c", "print(sum(range(1000)))")
_ACCEPTED = 202
_BLOCK = 10
_WARM = 3
_BARE = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
    *("--tmpfs", "/tmp", "--"),  # noqa: S108 - inside the sandbox
)
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/local/bin"}  # as in a sandbox: no version manager in front of Python
DOCKER_IMAGE = "busybox"

#: Of a job, by what its row tells.
_PARTS = (
    "POST until its row is written",
    "commit, news, claim",
    "in its sandbox, launch to death",
    "its start written, its sandbox prepared and read",
    "its end written, news, answer",
)

Run = Callable[[], Awaitable[bool]]


async def one(installation: Installation, *, quick: bool, engine: str | None = None) -> list[Result]:
    """Row 9: POST to exit code known, one job after the other; `engine`: where `docker` finds another than its own."""
    result = Result("9", "job, POST to exit code known (jail) — against bare bwrap of the same command")
    parts = {name: Series(f"  {name}") for name in _PARTS}
    docker = ("docker", *(("--host", engine) if engine else ()))
    async with Caller.open(installation.url, connections=1) as caller:
        ways: dict[str, Run] = {
            "job": lambda: _job(caller, installation, _TRUE, parts=parts),
            "bare bwrap": lambda: _process(*_BARE, *_TRUE),
        }
        if await _docker_works(docker):
            ways["docker run"] = lambda: _process(*docker, "run", "--rm", "--network", "none", DOCKER_IMAGE, *_TRUE)
        else:
            result.remarks.append(f"docker run: not measured, no daemon with the image {DOCKER_IMAGE} here")
        result.series = await _alternating(ways, blocks=1 if quick else 10)
    job = result.series[0]
    result.series += parts.values()
    result.bars += [Bar("p50", job.percentile(0.5), 25, unit=" ms"), Bar("p99", job.percentile(0.99), 80, unit=" ms")]
    if len(ways) > 2:
        faster = next(s for s in result.series if s.name == "docker run").percentile(0.5) / job.percentile(0.5)
        result.bars.append(Bar("faster than docker run, p50", faster, 8, least=True))
    return [result]


async def burst(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 10: 100 jobs at once; a sample is one whole burst."""
    slots = JobSettings().slots
    result = Result("10", f"burst of 100 jobs, {slots} slots — against 100 bare bwrap, as many at once")
    ours, theirs, each = Series("burst of jobs"), Series("bare bwrap burst"), Series("one job of a burst")
    gate = asyncio.Semaphore(slots)

    async def bare() -> bool:
        async with gate:
            return await _process(*_BARE, *_TRUE)

    async with Caller.open(installation.url, connections=100) as caller:

        async def job() -> bool:
            begun = time.perf_counter()
            good = await _job(caller, installation, _TRUE)
            each.samples.append((time.perf_counter() - begun) * 1e3)
            return good

        for _ in range(1 if quick else 5):
            for series, run in ((ours, job), (theirs, bare)):
                begun = time.perf_counter()
                good = await asyncio.gather(*(run() for _ in range(100)))
                series.samples.append((time.perf_counter() - begun) * 1e3)
                series.failures += good.count(False)
    each.failures = ours.failures
    result.series = [ours, theirs, each]
    done = (100 * len(ours.samples) - ours.failures) / len(ours.samples)
    result.bars.append(Bar("jobs done of 100", done, 100, least=True, unit=""))
    result.bars.append(Bar("wall, p50", ours.percentile(0.5), 1500, unit=" ms"))
    return [result]


async def tasks(installation: Installation, *, quick: bool) -> list[Result]:
    """Row 11: 40 light Python programs, one after the other, each in a sandbox of its own; a sample is all 40."""
    result = Result("11", "40 sequential light Python tasks, each in its own sandbox")
    ours, theirs, each = Series("40 tasks"), Series("40 bare bwrap"), Series("one task")
    async with Caller.open(installation.url, connections=1) as caller:

        async def job() -> bool:
            return await _job(caller, installation, _TASK)

        async def bare() -> bool:
            return await _process(*_BARE, *_TASK)

        for _ in range(1 if quick else 3):
            for series, run in ((ours, job), (theirs, bare)):
                begun = time.perf_counter()
                for _ in range(40):
                    start = time.perf_counter()
                    series.failures += not await run()
                    if series is ours:
                        each.samples.append((time.perf_counter() - start) * 1e3)
                series.samples.append((time.perf_counter() - begun) * 1e3)
    result.series = [ours, theirs, each]
    result.bars.append(Bar("wall, p50", ours.percentile(0.5), 2000, unit=" ms"))
    result.remarks.append(
        "published, none of them isolates a task: Hatchet 1.22 s, Windmill dedicated 2.09, Temporal 2.97, "
        "Windmill 4.38, Prefect 4.87"
    )
    return [result]


async def _alternating(ways: dict[str, Run], *, blocks: int) -> list[Series]:
    """Run each in blocks of ten, which take turns: what one leaves the kernel to clear away is not the other's."""
    series = [Series(name) for name in ways]
    for _ in range(blocks):
        for one_series, run in zip(series, ways.values(), strict=True):
            for number in range(_WARM + _BLOCK):
                begun = time.perf_counter()
                good = await run()
                took = time.perf_counter() - begun
                if number >= _WARM:
                    one_series.seconds += took
                    one_series.failures += not good
                    if good:
                        one_series.samples.append(took * 1e3)
    return series


async def _job(
    caller: Caller,
    installation: Installation,
    command: tuple[str, ...],
    *,
    parts: dict[str, Series] | None = None,
) -> bool:
    begun = time.time()
    path = f"/api/v1/workspaces/{installation.workspace}/jobs?wait=30"
    body = json.dumps({"command": list(command)}).encode()
    status, answer = await caller.call(request("POST", path, key=installation.key, body=body))
    ended = time.time()
    job = json.loads(answer)
    if status != _ACCEPTED or job["exit_code"] != 0:
        return False
    if parts is not None:
        for name, took in zip(parts, _timeline(begun, job, ended), strict=True):
            parts[name].samples.append(took * 1e3)
    return True


def _timeline(begun: float, job: dict[str, Any], ended: float) -> tuple[float, ...]:
    """Cut the time of a job where its row and its usage tell; all clocks are this machine's. Seconds."""
    queued, started, finished = (
        datetime.fromisoformat(job[name]).timestamp() for name in ("queued_at", "started_at", "finished_at")
    )
    inside = job["usage"]["wall_seconds"]
    return queued - begun, started - queued, inside, finished - started - inside, ended - finished


async def _process(*command: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT
    )
    return await process.wait() == 0


async def _docker_works(docker: tuple[str, ...]) -> bool:
    return shutil.which("docker") is not None and await _process(*docker, "image", "inspect", DOCKER_IMAGE)
