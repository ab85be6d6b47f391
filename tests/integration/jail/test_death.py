"""What happens when the one who watches dies."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.ending import killed_after, line_of

from tenantry.engines.jail.cgroups import find_hierarchy
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Ending, Spec

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Spec

async def main():
    home = Path(sys.argv[1])
    jail = await Jail.open(home)
    image = ImageStore(home / "images").host()
    for _ in range(3):
        words = ("sh", "-c", f"setsid sleep {sys.argv[2]} & sleep {sys.argv[2]}")
        await jail.start(Spec(image=image, command=words), lambda *_: None)
    print(jail._owner.instance, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

LIVING = """
import asyncio, sys
from pathlib import Path
from tenantry.engines.jail.exec_types import ExecSpec, TerminalSize
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Spec

async def main():
    home = Path(sys.argv[1])
    jail = await Jail.open(home)
    image = ImageStore(home / "images").host()
    sandbox = await jail.start(Spec(image=image, keep=True), lambda *_: None)
    script = f"trap '' HUP TERM INT; setsid sleep {sys.argv[2]} & echo on; sleep {sys.argv[2]}"
    for size in (None, TerminalSize(9, 9)):
        run = await sandbox.exec(ExecSpec(command=("sh", "-c", script), terminal=size))
        await run.read()
    print(jail._owner.instance, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def mark() -> str:
    """A number of seconds nobody else sleeps for, to know one's own by."""
    return str(10**8 + secrets.randbelow(10**8))


def survivors(mark: str) -> bytes:
    return subprocess.run(["pgrep", "-f", f"sleep {mark}"], check=False, capture_output=True).stdout


def supervisor(script: str, home: Path, mark: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, str(home), mark]
    return killed_after(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def leftovers(instance: str) -> list[Path]:
    return [path for parent in find_hierarchy().directories for path in parent.glob(f"{instance}-*")]


async def gone(mark: str, attempts: int = 100) -> bool:
    for _ in range(attempts):
        if not survivors(mark):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_killed_supervisor_leaves_no_survivor_and_the_next_reclaims_its_orphans(
    tmp_path: Path, mark: str
) -> None:
    # Uids that nobody else on the host takes: four, of which the dead one holds three.
    own = SUPERVISOR.replace("Jail.open(home)", "Jail.open(home, first_uid=230_000, uid_count=4)")
    with supervisor(own, tmp_path, mark) as process:
        instance = await asyncio.to_thread(line_of, process)
        assert survivors(mark)
        process.send_signal(signal.SIGKILL)
    assert await gone(mark)
    async with await Jail.open(tmp_path, first_uid=230_000, uid_count=4) as jail:
        assert leftovers(instance.strip()) == []
        assert not (tmp_path / "jail/owners" / instance.strip()).exists()
        if os.geteuid() == 0:  # the dead one's uids can be had again
            image = ImageStore(tmp_path / "images").host()
            held = [await jail.start(Spec(image=image, command=("sleep", "9")), lambda *_: None) for _ in range(3)]
            assert {sandbox.receipt.uid for sandbox in held if sandbox.receipt} <= set(range(230_000, 230_004))
            await asyncio.gather(*(sandbox.close() for sandbox in held))


async def test_a_killed_supervisor_leaves_nothing_of_what_it_put_into_a_living_one(tmp_path: Path, mark: str) -> None:
    with supervisor(LIVING, tmp_path, mark) as process:
        instance = await asyncio.to_thread(line_of, process)
        assert survivors(mark)
        process.send_signal(signal.SIGKILL)
    assert await gone(mark)
    async with await Jail.open(tmp_path, trial=False):
        assert leftovers(instance.strip()) == []


async def test_the_living_are_not_reclaimed(tmp_path: Path) -> None:
    async with await Jail.open(tmp_path) as one:
        image = ImageStore(tmp_path / "images").host()
        async with await one.start(Spec(image=image, command=("sleep", "0.5")), lambda *_: None) as sandbox:
            async with (
                await Jail.open(tmp_path) as two,
                await two.start(Spec(image=image, command=("sleep", "9")), lambda *_: None) as other,
            ):
                assert sandbox.receipt
                assert other.receipt
                assert os.geteuid() != 0 or sandbox.receipt.uid != other.receipt.uid
            assert (await sandbox.wait()).ending is Ending.EXITED


async def test_a_killed_launcher_takes_its_sandboxes_and_is_replaced(tmp_path: Path, mark: str) -> None:
    async with await Jail.open(tmp_path) as jail:
        image = ImageStore(tmp_path / "images").host()
        spec = Spec(image=image, command=("sh", "-c", f"setsid sleep {mark} & sleep {mark}"))
        async with await jail.start(spec, lambda *_: None) as sandbox:
            os.kill(jail._launcher._process.pid, signal.SIGKILL)
            outcome = await asyncio.wait_for(sandbox.wait(), 20)
            assert (outcome.ending, outcome.detail) == (Ending.KILLED, "the launcher died")
        assert await gone(mark)
        again, _ = await jail.run(Spec(image=image, command=("true",)), lambda *_: None)
        assert again.exit_code == 0


@pytest.mark.parametrize("delay", [0.001, 0.004, 0.008, 0.012, 0.02])
async def test_a_supervisor_killed_in_the_middle_of_a_start_leaves_no_survivor(
    tmp_path: Path, mark: str, delay: float
) -> None:
    script = SUPERVISOR.replace("print(jail._owner.instance, flush=True)", "").replace(
        "for _ in range(3):", 'print("ready", flush=True)\n    for _ in range(200):'
    )
    with supervisor(script, tmp_path, mark) as process:
        await asyncio.to_thread(line_of, process)
        await asyncio.sleep(0.05 + delay)
        process.send_signal(signal.SIGKILL)
    assert await gone(mark)


async def test_nothing_blocks_the_loop_for_long(prison: Any) -> None:
    """The longest the loop was away while twenty sandboxes with work in them were started and cleared away."""
    longest = 0.0
    done = False

    async def watch() -> None:
        nonlocal longest
        while not done:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(prison.sh("head -c 20m /dev/zero > /workspace/x") for _ in range(20)))
    done = True
    await watcher
    assert longest < 1.0


async def test_a_supervisor_and_its_launcher_killed_at_once_leave_no_survivor(tmp_path: Path, mark: str) -> None:
    """Nobody is left to clear up, nor takes their uids: what ends the sandboxes the kernel does by itself."""
    own = SUPERVISOR.replace("Jail.open(home)", "Jail.open(home, first_uid=231_000, uid_count=4)")
    own = own.replace("print(jail._owner.instance, flush=True)", "print(jail._launcher._process.pid, flush=True)")
    with supervisor(own, tmp_path, mark) as process:
        launcher = int(await asyncio.to_thread(line_of, process))
        assert survivors(mark)
        os.kill(launcher, signal.SIGSTOP)  # so that it does not see its supervisor die
        process.send_signal(signal.SIGKILL)
        os.kill(launcher, signal.SIGKILL)
    assert await gone(mark)
