"""What a sandbox used is told truly, whoever of it died of what, and whatever exit code came of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.prisons import KINDS, Prison, not_under_gvisor, opened_prison

from tenantry.engines.jail.overheads import OVERHEAD_MIB
from tenantry.engines.jail.types import Ending, Limits, Outcome

MB = 1_000_000
NO_BYTES = "whose kernel moves what programs read and write, between places of its own too: none are told"
NOISE = 64 << 10  # what bwrap, a shell and the loader of programs read
BURN = "import time; end = time.process_time() + %s\nwhile time.process_time() < end: pass"
QUARTER = BURN % 0.25
FOREVER = 'open("/tmp/done", "w")\nwhile True: pass'


@pytest.fixture(scope="module", params=KINDS)
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


@pytest.fixture(autouse=True)
def grouped(prison: Any) -> None:
    if prison.jail.isolation == "rlimit":
        pytest.skip("no cgroup here")


async def test_bytes_that_a_killed_child_moved_are_told_behind_exit_0(prison: Any) -> None:
    not_under_gvisor(prison, NO_BYTES)
    script = f"(head -c {5 * MB} /dev/zero > /tmp/a; exec cat /tmp/a - >/dev/null < /dev/zero) & child=$!\n"
    script += "while [ ! -s /tmp/a ]; do :; done; sleep 0.1; kill -9 $child; wait $child; exit 0"
    outcome = (await prison.sh(script)).outcome
    assert (outcome.ending, outcome.exit_code) == (Ending.EXITED, 0)
    assert outcome.usage.written_bytes >= 10 * MB
    assert outcome.usage.read_bytes >= 10 * MB


async def test_bytes_are_those_that_were_moved_and_little_more(prison: Any) -> None:
    not_under_gvisor(prison, NO_BYTES)
    usage = (await prison.sh(f"head -c {3 * MB} /dev/zero > /workspace/a")).outcome.usage
    assert 3 * MB <= usage.read_bytes < 3 * MB + NOISE
    assert 3 * MB <= usage.written_bytes < 3 * MB + NOISE


async def killed_when_heard(prison: Any, script: str) -> Outcome:
    """Kill it as soon as it says something."""
    heard = asyncio.Event()
    async with await prison.jail.start(prison.spec("sh", "-c", script), lambda *_: heard.set()) as sandbox:
        async with asyncio.timeout(60):
            await heard.wait()
        sandbox.kill()
        outcome: Outcome = await sandbox.wait()
        return outcome


async def test_bytes_of_what_the_jail_kills_are_told(prison: Any) -> None:
    not_under_gvisor(prison, NO_BYTES)
    script = f"head -c {2 * MB} /dev/zero > /tmp/a; (cat /tmp/a > /tmp/b; echo x; exec sleep 600) & wait"
    usage = (await killed_when_heard(prison, script)).usage
    assert usage.read_bytes is not None
    assert usage.written_bytes is not None
    assert usage.read_bytes >= 4 * MB
    assert usage.written_bytes >= 4 * MB


@pytest.mark.parametrize(
    "script",
    [
        f"python3 -c '{QUARTER}\nimport os; os.kill(os.getpid(), 9)'; exit 0",
        f"python3 -c '{QUARTER}\n{FOREVER}' & while [ ! -e /tmp/done ]; do sleep 0.02; done; exit 0",
        f"trap '' CHLD; python3 -c '{QUARTER}'; exit 0",
    ],
    ids=["killed", "left behind", "not waited for"],
)
async def test_processor_time_is_told_of_a_child_that(prison: Any, script: str) -> None:
    outcome = (await prison.sh(script)).outcome
    assert (outcome.ending, outcome.exit_code) == (Ending.EXITED, 0)
    assert outcome.usage.cpu_seconds >= 0.25


async def test_processor_time_is_told_of_what_the_jail_kills(prison: Any) -> None:
    script = f"exec python3 -c '{QUARTER}\nprint(1, flush=True)\nwhile True: pass'"
    outcome = await killed_when_heard(prison, script)
    assert outcome.ending is Ending.KILLED
    assert outcome.usage.cpu_seconds >= 0.25


async def test_memory_and_its_limit_are_told_behind_exit_0(prison: Any) -> None:
    script = "(head -c 300m /dev/zero | tail -c 290m >/dev/null) 2>/dev/null; exit 0"
    outcome = (await prison.sh(script, limits=Limits(memory_mib=64, timeout_seconds=60))).outcome
    assert outcome.ending is Ending.OUT_OF_MEMORY
    usage = outcome.usage
    assert 60 < usage.peak_memory_mib <= 64.1 + (OVERHEAD_MIB if prison.jail.name == "gvisor" else 0)
    assert usage.oom_kills >= 1
    assert usage.memory_limit_hits >= 1


async def test_refused_processes_are_told_behind_exit_0(prison: Any) -> None:
    not_under_gvisor(prison, "whose kernel refuses a process, and tells nobody")
    crowd = "for n in 1 2 3 4 5 6 7 8; do sleep 9 & done; exit 0"
    full = (await prison.sh(f"sh -c '{crowd}' 2>/dev/null; exit 0", limits=Limits(pids=4))).outcome
    assert (full.ending, full.exit_code) == (Ending.EXITED, 0)
    assert full.usage.pids_refused >= 1


async def test_time_held_back_is_told(prison: Any) -> None:
    burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    usage = (await prison.sh(burn, limits=Limits(cpus=0.02))).outcome.usage
    assert usage.throttled_seconds > 0.05


async def test_a_quiet_program_met_no_limit(prison: Any) -> None:
    usage = (await prison.run("true")).outcome.usage
    assert (usage.oom_kills, usage.memory_limit_hits, usage.pids_refused) == (0, 0, 0)
    if prison.jail.name == "gvisor":
        assert usage.read_bytes is usage.written_bytes is None
        return
    assert usage.read_bytes < NOISE
    assert usage.written_bytes < NOISE
