"""Rows K and S: how long what runs is there after it was told to end, by the jail, and by closing its workspace."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import ImageRoot, Limits, Spec

_BOMB = "import os\nprint(1, flush=True)\nwhile True:\n  try: os.fork()\n  except OSError: pass"
#: Each says something once it is what it is called.
_PROGRAMS = {
    "one that sleeps": ("sh", "-c", "echo x; exec sleep 600"),
    "100 that sleep": ("sh", "-c", "i=0; while [ $i -lt 100 ]; do sleep 600 & i=$((i+1)); done; echo x; wait"),
    "a fork bomb": ("python3", "-c", _BOMB),
    "200 MiB": ("python3", "-c", "x = bytearray(200 << 20); print(1, flush=True)\nwhile True: pass"),
}
_BURN = ("sh", "-c", "while :; do :; done")
_LIMITS = Limits(pids=128, memory_mib=256, timeout_seconds=3600)


async def kill(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - every row gets one
    """From `kill` until every process is gone and `close` has given all back."""
    result = Result("K", "kill of a sandbox until nothing is left: processes, group, mounts — alone, and beside three")
    with tempfile.TemporaryDirectory() as home:
        async with await Jail.open(Path(home)) as jail:
            image = ImageStore(Path(home) / "images").host()
            for beside in (0, 3):
                async with _burning(jail, image, count=beside):
                    for name, command in _PROGRAMS.items():
                        series = Series(f"{name}, beside {beside} that burn" if beside else name)
                        for _ in range(5 if quick else 200 if not beside else 50):
                            series.samples.append(await _killed(jail, image, command))
                        result.series.append(series)
    for series in result.series[: len(_PROGRAMS)]:
        result.bars.append(Bar(f"{series.name}, p99", series.percentile(0.99), 50, unit=" ms"))
    result.remarks.append("dying takes processor time of its own: 100 processes some 10 to 20 ms, 200 MiB some 10")
    return [result]


@asynccontextmanager
async def _burning(jail: Jail, image: ImageRoot, *, count: int) -> AsyncIterator[None]:
    spec = Spec(image=image, command=_BURN, limits=_LIMITS)
    burning = [await jail.start(spec, lambda *_: None) for _ in range(count)]
    try:
        yield
    finally:
        await asyncio.gather(*(sandbox.close() for sandbox in burning))


async def _killed(jail: Jail, image: ImageRoot, command: tuple[str, ...]) -> float:
    said = asyncio.Event()
    spec = Spec(image=image, command=command, limits=_LIMITS)
    async with await jail.start(spec, lambda *_: said.set()) as sandbox:
        async with asyncio.timeout(60):
            await said.wait()
        begun = time.perf_counter()
        sandbox.kill()
        await sandbox.close()
        return (time.perf_counter() - begun) * 1e3


async def suspension(installation: Installation, *, quick: bool) -> list[Result]:
    """From the request that closes a workspace until the process of a job in it is gone from the machine."""
    result = Result("S", "suspension of a workspace until its running sandbox is gone; the answer itself beside")
    gone, answered = Series("sandbox gone"), Series("suspension answered")
    async with installation.client() as client:
        path = f"/workspaces/{installation.workspace}"
        for number in range(3 if quick else 30):
            marker = f"{86400 + number}.7"
            await _running(client, path, marker)
            begun = time.perf_counter()
            (await client.post(f"{path}/suspend", json={"reason": "bench"})).raise_for_status()
            answered.samples.append((time.perf_counter() - begun) * 1e3)
            while _processes(marker):  # noqa: ASYNC110 - nothing tells of another's child
                await asyncio.sleep(0.001)
            gone.samples.append((time.perf_counter() - begun) * 1e3)
            (await client.post(f"{path}/resume")).raise_for_status()
    result.series = [gone, answered]
    result.bars.append(Bar("gone, p99", gone.percentile(0.99), 1000, unit=" ms"))
    return [result]


async def _running(client: httpx.AsyncClient, path: str, marker: str) -> None:
    """Start a job that sleeps for so long, and wait until it does."""
    async with asyncio.timeout(30):
        while True:
            body = {"command": ["sleep", marker], "limits": {"timeout_seconds": 3600}}
            answer = await client.post(f"{path}/jobs", json=body)
            if answer.status_code == httpx.codes.ACCEPTED:
                break
            await asyncio.sleep(0.05)  # its workspace has just been opened again
        while not _processes(marker):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.005)


def _processes(marker: str) -> list[Path]:
    wanted, found = f"sleep\0{marker}\0".encode(), []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if (process / "cmdline").read_bytes() == wanted:
                    found.append(process)
            except OSError:
                continue  # it has just ended
    return found
