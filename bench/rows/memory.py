"""What an idle installation holds: server, two workers, their launchers and PostgreSQL, as proportional set size."""

import asyncio
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series

_SETTLE_SECONDS = 3.0
_BUDGET_MIB = 400


async def measure(installation: Installation, *, quick: bool) -> list[Result]:
    """Before any other row: nothing was asked of the installation but its tenant and workspace."""
    await asyncio.sleep(0.5 if quick else _SETTLE_SECONDS)
    result = Result("M", "memory of an idle installation (PSS)")
    held: dict[str, float] = {}
    for process in processes(installation):
        name = name_of(process)
        held[name] = held.get(name, 0.0) + pss_mib(process)
    result.series = [Series(name, [mib], unit="MiB") for name, mib in sorted(held.items())]
    result.bars.append(Bar("all together", sum(held.values()), _BUDGET_MIB, unit=" MiB"))
    return [result]


def processes(installation: Installation) -> list[Path]:
    """List the server's descendants, and those of the postmaster, which is a session of its own."""
    parents: dict[str, str] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                parents[process.name] = (process / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue  # it has just ended
    postmaster = (installation.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
    wanted = {str(installation.pid), postmaster}
    while more := {child for child, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return [Path("/proc") / name for name in wanted]


def name_of(process: Path) -> str:
    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    known = {"postgres:": "postgresql", "entrypoints.server": "server", "entrypoints.worker": "workers"}
    known |= {"launcher": "launchers"}  # last: PostgreSQL has one of that name too
    return next((name for part, name in known.items() if part in command), "postgresql")


def pss_mib(process: Path) -> float:
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
