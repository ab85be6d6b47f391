"""After many short runs nothing of them is left on the machine. JAIL_RUNS=1000 makes it a long one."""

import asyncio
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tenantry.engines.jail import uids
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.kernel import read_status
from tenantry.engines.jail.types import Ending, InputFile, Limits

RUNS = int(os.environ.get("JAIL_RUNS", "200"))
AT_ONCE = 20
SEATS = 2
LIMITS = Limits(memory_mib=32, pids=8, timeout_seconds=60, disk_mib=2, tmp_mib=1, shm_mib=1, output_bytes=1 << 12)
#: What they do and how they end, in turn.
ENDS: tuple[tuple[str, Ending], ...] = (
    ("true", Ending.EXITED),
    ("echo x > /outputs/x; echo y > /tmp/y", Ending.EXITED),
    ("kill -9 $$", Ending.EXITED),
    ("sleep 60 & setsid sleep 60 & exit 3", Ending.EXITED),
    ("exec sleep 60", Ending.KILLED),
    ("exec cat /dev/zero", Ending.OUTPUT_LIMIT),
)


def held(jail: Jail) -> Counter[str]:
    """What sandboxes take of the machine; the locks of uids rest with their pool."""
    launcher = jail._launcher._process.pid
    links = [link_of(path) for path in Path("/proc/self/fd").iterdir()]
    groups = [p.name for parent in jail.hierarchy.directories for p in parent.glob(f"{jail._owner.instance}-*")]
    kinds = Counter(link.partition(":")[0] for link in links if str(uids.DIRECTORY) not in link)
    return kinds + Counter(
        {
            "descriptors of the launcher": len(os.listdir(f"/proc/{launcher}/fd")),
            "children of the launcher": len(children_of(launcher)),
            "groups": len(groups),
            "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
            "mounts of the launcher": len(Path(f"/proc/{launcher}/mountinfo").read_text().splitlines()),
            "owners": len(os.listdir(jail._owner._path.parent)),
            "sandboxes": len(jail._sandboxes),
        }
    )


def link_of(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def children_of(parent: int) -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, KeyError):
            if int(read_status(int(name))["PPid"]) == parent:
                found.append(int(name))
    return found


async def at_rest(jail: Jail, bound: Counter[str] | None = None) -> Counter[str]:
    """Once the launcher has reaped all and filled its seats and no more is held than `bound`, or after five seconds."""
    for _ in range(100):
        now = held(jail)
        seated = now["children of the launcher"] == SEATS and now["groups"] == SEATS * len(jail.hierarchy.directories)
        if seated and (bound is None or now <= bound):
            break
        await asyncio.sleep(0.05)
    return now


async def run(prison: Any, number: int) -> None:
    script, ending = ENDS[number % len(ENDS)]
    spec = prison.spec("sh", "-c", script, limits=LIMITS, inputs=(InputFile("a", b"x"),))
    async with await prison.jail.start(spec, lambda *_: None) as sandbox:
        if ending is Ending.KILLED:
            sandbox.kill()
        assert (await sandbox.wait()).ending is ending
        await sandbox.artifacts(["**"])


@pytest.mark.timeout(300)
async def test_no_group_mount_lock_file_process_or_descriptor_is_left(prison: Any) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await run(prison, number)

    await asyncio.gather(*map(one, range(AT_ONCE)))
    before = await at_rest(prison.jail)
    await asyncio.gather(*map(one, range(RUNS)))
    assert await at_rest(prison.jail, before) - before == Counter()
    pool = prison.jail._pool
    if pool:  # a uid rests before it is used again, and none is lost
        assert len(pool._free) == len(pool._locks)
        assert len(pool._locks) <= uids._RESTING + 100 + AT_ONCE
