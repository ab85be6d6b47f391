"""What an installation costs while nobody asks anything of it, in processor time: part of row 14.

Processor time, not wall time, so that others on the machine move it little. It counts once what the requests before
have left behind is written, sealed and vacuumed; what that took is told apart.
"""

import asyncio
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.installation import Installation
from bench.report import Bar, Result, Series
from bench.rows.memory import name_of, processes
from tenantry.foundation.database.places import dsn_at

_QUIET_SECONDS = 6.0  # longer than the server keeps to itself that a key was used
_SETTLED_SECONDS = 300.0
_POSTGRESQL = "postgresql"
_ENDED = "what has ended (autovacuum, connections)"
_ROLES = ("app", "directory", "dispatcher", "sealer", "itself")
# What a request leaves for later: its audit event, the event's place in the trail, the hour its key was last used.
_LEFT = """
    select (select count(*) from tenantry.audit_events), (select count(*) from tenantry.audit_unsealed),
           (select sum(extract(epoch from last_used_at)) from tenantry.api_keys)
"""
_VACUUMING = "select count(*) from pg_stat_activity where backend_type = 'autovacuum worker'"
_DATABASES = "select datname from pg_database where datallowconn"


@dataclass(frozen=True, slots=True)
class _Process:
    """Seconds of processor time since it began."""

    kind: str
    role: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Spent:
    """What was spent until now: by process, and by children of the postmaster that have ended."""

    living: dict[str, _Process]
    ended: float

    def since(self, before: "_Spent") -> dict[str, float]:
        """Tell how many seconds each kind has spent, and within PostgreSQL each role."""
        spent: dict[str, float] = defaultdict(float)
        for number, process in self.living.items():
            known = before.living.get(number)
            seconds = process.seconds - (known.seconds if known else 0.0)
            spent[process.kind] += seconds
            spent[process.role] += seconds
        gone = sum(p.seconds for n, p in before.living.items() if p.kind == _POSTGRESQL and n not in self.living)
        spent[_POSTGRESQL] += self.ended - before.ended - gone
        spent[_ENDED] += self.ended - before.ended - gone
        return spent


async def measure(installation: Installation, result: Result, *, quick: bool) -> None:
    """Add to a row what its installation costs from now on, when nobody asks any more."""
    windows, seconds = (3, 2.0) if quick else (6, 10.0)
    cells = len(installation.addresses.cells)
    result.remarks.append(await _settle(installation))
    series = {kind: Series(f"idle, {kind}", unit="% of a core and cell") for kind in (_POSTGRESQL, "server", "workers")}
    first, begun = _spent(installation), time.monotonic()
    for _ in range(windows):
        before, at = _spent(installation), time.monotonic()
        await asyncio.sleep(seconds)
        spent, wall = _spent(installation).since(before), time.monotonic() - at
        for kind, each in series.items():
            each.samples.append(100 * spent[kind] / wall / cells)
    spent, wall = _spent(installation).since(first), time.monotonic() - begun
    result.series += series.values()
    share = 100 / wall / cells
    result.bars.append(Bar("idle database, of a core and cell", spent[_POSTGRESQL] * share, 2.0, unit=" %"))
    parts = ", ".join(f"{role} {spent[role] * share:.2f}" for role in (*_ROLES, _ENDED))
    result.remarks.append(
        f"idle: {wall:.0f} s of {cells} cells on one PostgreSQL; in the database's number, in % of a core and cell: "
        f"{parts}; server and workers, which serve all cells, come on top"
    )


async def _settle(installation: Installation) -> str:
    """Wait until nothing of what was asked is left to do; tells what that took."""
    before, begun = _spent(installation), time.monotonic()
    cell = await asyncpg.connect(installation.superuser_dsn)
    try:
        left, since = await cell.fetchrow(_LEFT), time.monotonic()
        while time.monotonic() - since < _QUIET_SECONDS or (left and left[1]):
            if time.monotonic() - begun > _SETTLED_SECONDS:
                raise RuntimeError("the installation does not come to rest")
            await asyncio.sleep(1)
            if (now := await cell.fetchrow(_LEFT)) != left:
                left, since = now, time.monotonic()
        spent, wall = _spent(installation).since(before), time.monotonic() - begun - _QUIET_SECONDS
        for row in await cell.fetch(_DATABASES):
            database = await asyncpg.connect(dsn_at(installation.superuser_dsn, row["datname"]))
            await database.execute("vacuum analyze")
            await database.close()
        await cell.execute("checkpoint")
        while await cell.fetchval(_VACUUMING):  # noqa: ASYNC110 - it is PostgreSQL's to end
            await asyncio.sleep(0.5)
    finally:
        await cell.close()
    await asyncio.sleep(1)  # until the postmaster has seen the last of these end
    return (
        f"before it was idle: {max(wall, 0):.0f} s for what the requests had left (audit events, their places, uses of "
        f"keys), {spent[_POSTGRESQL]:.1f} s of processor time in PostgreSQL, {spent['server']:.1f} s in "
        "the server; then everything was vacuumed"
    )


def _spent(installation: Installation) -> _Spent:
    """Read it from the process table; the bench has no connection of its own meanwhile."""
    living, ended, ticks = {}, 0.0, os.sysconf("SC_CLK_TCK")
    for process in processes(installation):
        try:
            kind, role = name_of(process), _role(process)
            times = [int(ticked) / ticks for ticked in _stat(process)[11:15]]
        except OSError:
            continue  # it has just ended
        living[process.name] = _Process(kind, role if kind == _POSTGRESQL else "", sum(times[:2]))
        ended += sum(times[2:]) if kind == _POSTGRESQL else 0.0
    return _Spent(living, ended)


def _stat(process: Path) -> list[str]:
    return (process / "stat").read_text().rpartition(")")[2].split()


def _role(process: Path) -> str:
    """Tell whose a connection is; PostgreSQL's own processes are one."""
    title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return next((word.removeprefix("tenantry_") for word in title.split() if word.startswith("tenantry_")), "itself")
