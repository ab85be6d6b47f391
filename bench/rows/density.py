"""Row D: what sandboxes hold that only sleep."""

import os
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series
from bench.rows.memory import pss_mib
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.sandbox import Sandbox
from tenantry.engines.jail.types import MIB, Limits, Spec

_BUDGET_MIB = 1024
_LIMITS = Limits(memory_mib=64, pids=16, timeout_seconds=3600)
_USAGE = {"v2": "memory.current", "v1": "memory.usage_in_bytes"}


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - every row gets one
    """Sum the PSS of every process of 200 sandboxes, of the jail that holds them, and what their groups are charged."""
    wanted = 20 if quick else 200
    result = Result("D", f"{wanted} sandboxes that sleep: memory")
    with tempfile.TemporaryDirectory() as home:
        async with await Jail.open(Path(home)) as jail, AsyncExitStack() as stack:
            if not jail.hierarchy.directories:
                result.remarks.append("not measured: no cgroup here")
                return [result]
            before = pss_mib(Path("/proc/self"))
            spec = Spec(image=ImageStore(Path(home) / "images").host(), command=("sleep", "3600"), limits=_LIMITS)
            sandboxes = [
                await stack.enter_async_context(await jail.start(spec, lambda *_: None)) for _ in range(wanted)
            ]
            groups = _groups(jail, sandboxes)
            name = _USAGE[jail.hierarchy.version]
            pss = Series("processes (PSS)", [_pss_of(group) for group in groups], unit="MiB")
            counted = [int((group / name).read_text()) / MIB for group in groups]
            charged = Series("cgroup, files and kernel too", counted, unit="MiB")
            held = pss_mib(Path("/proc/self")) - before + pss_mib(_launcher())
    result.series = [pss, charged]
    # What is charged is processes, files and kernel memory; what several share is in the PSS of each alone.
    each = max(sum(pss.samples), sum(charged.samples))
    result.bars.append(Bar("all of them and what holds them", each + held, _BUDGET_MIB, unit=" MiB"))
    fitting = wanted * (_BUDGET_MIB - held) / each
    result.bars.append(Bar("would fit in 1 GiB", fitting, 200, least=True, unit=""))
    result.remarks.append(f"of it the jail itself, with its launcher: {held:.1f} MiB")
    return [result]


def _groups(jail: Jail, sandboxes: list[Sandbox]) -> list[Path]:
    return [jail.hierarchy.parents["memory"] / sandbox.id for sandbox in sandboxes]


def _pss_of(group: Path) -> float:
    """Monitor, process 1 and program."""
    return sum(pss_mib(Path("/proc") / pid) for pid in (group / "cgroup.procs").read_text().split())


def _launcher() -> Path:
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it may have just ended
            ours = process.name.isdecimal() and b"launcher.py" in (process / "cmdline").read_bytes()
            if ours and (process / "stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                return process
    raise ProcessLookupError("the jail has no launcher")
