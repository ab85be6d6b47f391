"""After many short runs nothing of them is left on the machine. JAIL_RUNS=1000 makes it a long one."""

import asyncio
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.integration.jail.living import Room, kept
from tests.prisons import BINARIES

from tenantry.engines.jail import uids
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.kernel import read_status
from tenantry.engines.jail.types import Ending, InputFile, Limits

pytestmark = pytest.mark.parametrize("prison", sorted(BINARIES), indirect=True)
RUNS = int(os.environ.get("JAIL_RUNS", "200"))
LIVING = 200
AT_ONCE = 20
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
    """What sandboxes take of the machine, less what seats hold; the locks of uids rest with their pool."""
    launcher, seats = jail._launcher._process.pid, len(jail._seats._ready)
    links = [link_of(path) for path in Path("/proc/self/fd").iterdir()]
    groups = [p.name for parent in jail.hierarchy.directories for p in parent.glob(f"{jail._owner.instance}-*")]
    kinds = Counter(link.partition(":")[0] for link in links if str(uids.DIRECTORY) not in link)
    return kinds + Counter(
        {
            "descriptors of the launcher": len(os.listdir(f"/proc/{launcher}/fd")) - seats,
            "children of the launcher": len(children_of(launcher)) - seats,
            "groups": len(groups) - seats * len(jail.hierarchy.directories),
            "mounts": len([line for line in mounts_of("self") if is_ours(line, jail)]),
            "mounts of the launcher": len([line for line in mounts_of(launcher) if " master:" not in line]),
            "owners": len(os.listdir(jail._owner._path.parent)),
            "sandboxes": len(jail._sandboxes),
        }
    )


def mounts_of(process: int | str) -> list[str]:
    return Path(f"/proc/{process}/mountinfo").read_text().splitlines()


def is_ours(mount: str, jail: Jail) -> bool:
    """Tell a mount of a sandbox from those that others make on this machine meanwhile: a daemon of containers does."""
    home, shelf = jail._owner._path.parents[2], jail._launcher.shelf
    return any(word in mount for word in (f" {home}/", "newroot", "oldroot", *([f" {shelf}/"] if shelf else [])))


def link_of(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def children_of(parent: int) -> list[str]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, KeyError):
            status = read_status(int(name))
            if int(status["PPid"]) == parent:
                found.append(f"{name} {status['Name']} {status['State']}")
    return found


def told(jail: Jail) -> str:
    """Everything there is of it by name and state: which of it is too much, the counts say."""
    launcher = jail._launcher._process.pid
    groups = [p for parent in jail.hierarchy.directories for p in parent.glob(f"{jail._owner.instance}-*")]
    lines = [
        f"children of the launcher: {children_of(launcher)}",
        *(f"group {group}: {(group / 'cgroup.procs').read_text().split()}" for group in groups if group.is_dir()),
        *(f"descriptor {path.name}: {link_of(path)}" for path in Path("/proc/self/fd").iterdir()),
        *(f"descriptor of the launcher: {link_of(path)}" for path in Path(f"/proc/{launcher}/fd").iterdir()),
        *mounts_of("self"),
        *mounts_of(launcher),
        f"sandboxes: {list(jail._sandboxes)}, seats: {[seat.name for seat in jail._seats._ready]}",
    ]
    return "\n".join(lines)


async def at_rest(jail: Jail, bound: Counter[str] | None = None) -> Counter[str]:
    """Once the launcher has reaped all, makes no seat, and no more is held than `bound`; or after five seconds."""
    for _ in range(100):
        now = held(jail)
        seated = not now["children of the launcher"] and not now["groups"] and not jail._seats._preparing
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
    left = await at_rest(prison.jail, before) - before
    assert left == Counter(), told(prison.jail)
    pool = prison.jail._pool
    if pool:  # a uid rests before it is used again, and none is lost
        assert len(pool._free) == len(pool._locks)
        assert len(pool._locks) <= uids._RESTING + 100 + AT_ONCE  # 100 at once in tests/contract


async def live(prison: Any, number: int) -> None:
    """Start one; put programs into it, with a terminal too, or look at its files, or connect to it; close it."""
    async with kept(prison, limits=LIMITS) as room:
        await VISITS[number % len(VISITS)](room)


async def visit_and_wait(room: Room) -> None:
    assert (await room.sh("echo on; exit 3")).outcome.exit_code == 3
    assert (await room.exec("nothing")).outcome.exit_code == 127


async def visit_with_a_terminal(room: Room) -> None:
    assert (await room.sh("setsid sleep 60 & tty", terminal=TerminalSize(9, 9))).out == "/dev/pts/0\r\n"
    execution = await room.start("exec sleep 60", terminal=TerminalSize(9, 9))
    await execution.close()


async def visit_and_leave(room: Room) -> None:
    """Whatever still runs is closed with the sandbox, what is on its way too."""
    await room.start("exec sleep 60")
    entering = asyncio.ensure_future(room.start("exec sleep 60"))
    await asyncio.sleep(0)
    room.sandbox.kill()
    await asyncio.wait([entering])
    entering.exception()


async def visit_its_files(room: Room) -> None:
    files = room.sandbox.files
    await asyncio.to_thread(files.write, "a", iter([b"x"]), most_bytes=1)
    changes = files.watch()
    first = asyncio.ensure_future(anext(changes))
    while not first.done():
        await room.sh("echo > f; rm f")
    await changes.aclose()  # type: ignore[attr-defined]
    with open(os.devnull, "wb") as target:  # noqa: ASYNC230 - nobody waits for it
        await room.sandbox.save(target, max_bytes=1 << 20)


async def visit_its_ports(room: Room) -> None:
    with suppress(ConnectionRefusedError):
        await room.sandbox.dial(8000)


VISITS = (visit_and_wait, visit_with_a_terminal, visit_and_leave, visit_its_files, visit_its_ports)


@pytest.mark.timeout(300)
async def test_nothing_of_living_ones_and_what_was_put_into_them_is_left(prison: Any) -> None:
    gate = asyncio.Semaphore(AT_ONCE // 2)

    async def one(number: int) -> None:
        async with gate:
            await live(prison, number)

    await asyncio.gather(*map(one, range(AT_ONCE)))
    before = await at_rest(prison.jail)
    await asyncio.gather(*map(one, range(LIVING)))
    assert await at_rest(prison.jail, before) - before == Counter()
    launcher = prison.jail._launcher
    assert not launcher._guests
    assert not launcher._listening
    pool = prison.jail._pool
    if pool:
        assert len(pool._free) == len(pool._locks)
