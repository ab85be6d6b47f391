"""What ends a sandbox besides a stop: its time, idleness, what closes its tenant, the grant, its worker."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
from tests.integration.api.deciding import principal
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, away, until, workers_of
from tests.integration.sandboxes.live_ground import LiveGround, executing, place_of, run_in
from tests.integration.sandboxes.test_granted_jobs import end, given
from tests.integration.sandboxes.test_suspension import Close, resume, suspend_tenant, suspend_workspace

from tenantry.capabilities.sandboxes.service import LiveClient
from tenantry.engines.jail.exec_types import TerminalSize
from tenantry.engines.jail.types import Stream
from tenantry.entrypoints.runtime import Parts, open_parts

pytestmark = pytest.mark.xdist_group("sandboxes")


@pytest.fixture(scope="module")
def live(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground(persistence_mode="full"))


@pytest.fixture(scope="module")
async def parts(live: LiveGround) -> AsyncIterator[Parts]:
    async with open_parts(live.ground.installation.settings) as opened:
        yield opened


def test_its_time_ends_it(live: LiveGround) -> None:
    made = live.run("brief", ttl_seconds=1)
    ended = live.until_status(made, "stopped", seconds=5)
    assert ended["reason"] == "expired"


def test_an_extension_reaches_it_while_it_runs(live: LiveGround) -> None:
    made = live.run("extended", ttl_seconds=2)
    extended = live.done(made, "extend", seconds=600)
    assert extended["expires_at"] > made["expires_at"]
    other = live.run("not-extended", ttl_seconds=2)
    live.until_status(other, "stopped", seconds=6)
    assert live.get(made)["status"] == "running"
    live.stopped(made)


async def test_news_of_one_reach_it_while_anothers_tenant_has_no_database(
    make_ground: MakeGround, live: LiveGround
) -> None:
    """Red once where one was looked at after the other: behind the first that was not told, nobody was."""
    other = LiveGround(await asyncio.to_thread(make_ground, isolation="database_level"))
    theirs = await asyncio.to_thread(other.run, "first")
    made = await asyncio.to_thread(live.run, "second", idle_seconds=0)
    async with away(other.ground.tenant):
        answer = live.client.patch(f"{live.path}/{made['id']}", json={"idle_seconds": 1})
        assert answer.status_code == 200, answer.text
        ended = await asyncio.to_thread(live.until_status, made, "stopped", seconds=10)
        assert ended["reason"] == "idle"
    await asyncio.to_thread(other.stopped, theirs)


async def test_idleness_ends_it_and_traffic_does_not(live: LiveGround, parts: Parts) -> None:
    made, control = [await asyncio.to_thread(live.run, name, idle_seconds=2) for name in ("used", "unused")]
    place = await place_of(parts, live.ground, made)
    unused = asyncio.create_task(asyncio.to_thread(live.until_status, control, "stopped", seconds=10))
    while not unused.done():
        await run_in(place, "true")
        await asyncio.wait({unused}, timeout=0.5)
    assert (await unused)["reason"] == "idle"
    assert (await asyncio.to_thread(live.get, made))["status"] == "running"
    await asyncio.to_thread(live.until_status, made, "stopped", seconds=10)


async def test_a_program_without_a_word_is_no_idleness_and_an_untouched_terminal_is(
    live: LiveGround, parts: Parts
) -> None:
    working, typing = [await asyncio.to_thread(live.run, name, idle_seconds=1) for name in ("working", "typing")]
    async with (
        executing(await place_of(parts, live.ground, working), "sleep", "300"),
        executing(await place_of(parts, live.ground, typing), "sh", terminal=TerminalSize(24, 80)),
    ):
        ended = await asyncio.to_thread(live.until_status, typing, "stopped", seconds=10)
        assert ended["reason"] == "idle"
        assert (await asyncio.to_thread(live.get, working))["status"] == "running"
    await asyncio.to_thread(live.until_status, working, "stopped", seconds=10)


async def test_idle_time_of_nothing_is_no_limit_and_is_set_while_it_runs(live: LiveGround) -> None:
    made = await asyncio.to_thread(live.run, "patient", idle_seconds=0)
    body = {"idle_seconds": 1}
    changed = await asyncio.to_thread(live.client.patch, f"{live.path}/{made['id']}", json=body)
    assert changed.status_code == 200
    assert (await asyncio.to_thread(live.until_status, made, "stopped", seconds=8))["reason"] == "idle"


@pytest.mark.parametrize("close", [suspend_tenant, suspend_workspace], ids=["tenant", "workspace"])
async def test_closing_ends_it_within_a_second_and_its_files_are_there_afterwards(
    make_ground: MakeGround, parts: Parts, close: Close
) -> None:
    live = LiveGround(await asyncio.to_thread(make_ground, persistence_mode="full"))
    made = await asyncio.to_thread(live.run, "closed")
    place = await place_of(parts, live.ground, made)
    await run_in(place, "sh", "-c", "echo here > f")
    async with executing(place, "sh", "-c", "echo on; exec sleep 300") as execution:
        assert await execution.read() == (Stream.STDOUT, b"on\n")
        begun = time.monotonic()
        assert (await asyncio.to_thread(close, live.ground)).status_code == 200
        await execution.wait()
        assert time.monotonic() - begun < 1
    await asyncio.to_thread(resume, live.ground)
    ended = await asyncio.to_thread(live.until_status, made, "stopped", seconds=5)
    assert ended["reason"].endswith("suspended")
    assert ended["kept"]["files"] >= 1
    await asyncio.to_thread(until, lambda: live.do(made, "start", wait=30).status_code == 200)
    _, said = await run_in(await place_of(parts, live.ground, made), "cat", "f")
    assert said[Stream.STDOUT] == b"here\n"
    await asyncio.to_thread(live.stopped, made)


def test_what_a_grant_alone_allowed_ends_with_it_within_a_second(make_ground: MakeGround) -> None:
    ground = make_ground(persistence_mode="full")
    who = principal(ground.tenant, ground.workspace, "viewer")
    grant = given(ground, who)
    theirs = LiveGround(Ground(ground.tenant, ground.workspace, who.client))
    made = theirs.run("granted")
    lasting = LiveGround(ground).run("lasting")
    revoked = end(ground, grant)
    ended = LiveGround(ground).until_status(made, "stopped", seconds=1)
    assert time.monotonic() - revoked < 1
    assert ended["reason"] == "grant_revoked"
    assert LiveGround(ground).get(lasting)["status"] == "running"
    LiveGround(ground).stopped(lasting)


async def test_a_worker_that_dies_takes_its_sandboxes_along_and_what_was_kept_before_stays(
    live: LiveGround, parts: Parts
) -> None:
    made = await asyncio.to_thread(live.run, "orphaned")
    await run_in(await place_of(parts, live.ground, made), "sh", "-c", "echo first > f")
    await asyncio.to_thread(live.stopped, made)
    await asyncio.to_thread(live.done, made, "start", wait=30)
    place = await place_of(parts, live.ground, made)
    await run_in(place, "sh", "-c", "echo second > f")
    os.kill(workers_of(live.ground.installation)["us"], signal.SIGKILL)
    failed = await asyncio.to_thread(live.until_status, made, "failed", seconds=40)
    assert failed["reason"] == "worker_lost"
    started = await asyncio.to_thread(live.done, made, "start", wait=60)
    assert started["status"] == "running", started
    _, said = await run_in(await place_of(parts, live.ground, made), "cat", "f")
    assert said[Stream.STDOUT] == b"first\n"
    await asyncio.to_thread(live.stopped, made)


def test_a_worker_follows_a_dead_one_that_ran_sandboxes_of_a_tenant_with_its_own_database(
    make_ground: MakeGround,
) -> None:
    """Red once where what was decided on there stayed to be decided on here, and the next worker never began."""
    live = LiveGround(make_ground(isolation="database_level"))
    made = live.run("orphaned")
    os.kill(workers_of(live.ground.installation)["us"], signal.SIGKILL)
    assert live.until_status(made, "failed", seconds=40)["reason"] == "worker_lost"
    assert live.done(made, "start", wait=60)["status"] == "running"
    live.stopped(made)


async def test_a_worker_that_stops_keeps_what_its_sandboxes_hold(live: LiveGround, parts: Parts) -> None:
    made = await asyncio.to_thread(live.run, "handed-over")
    files = await LiveClient().files(await place_of(parts, live.ground, made))

    async def content() -> AsyncIterator[bytes]:
        yield b"kept"

    await files.write("f", content())
    os.kill(workers_of(live.ground.installation)["us"], signal.SIGTERM)
    stopped = await asyncio.to_thread(live.until_status, made, "stopped", seconds=20)
    assert (stopped["reason"], stopped["kept"] is not None) == ("worker_stopped", True)
    started = await asyncio.to_thread(live.done, made, "start", wait=60)
    assert started["status"] == "running", started
    _, said = await run_in(await place_of(parts, live.ground, made), "cat", "f")
    assert said[Stream.STDOUT] == b"kept"
    await asyncio.to_thread(live.stopped, made)


def test_sandboxes_take_no_slot_of_a_job(make_ground: MakeGround) -> None:
    grounds = [LiveGround(make_ground()) for _ in range(3)]
    slots = grounds[0].ground.installation.settings.jobs.slots
    made = [
        (live, live.make(f"many-{number}", wait=0, limits={"memory_mib": 32}))
        for live in grounds
        for number in range(3)
    ]
    assert len(made) > slots
    for live, each in made:
        live.until_status(each, "running", seconds=30)
    assert grounds[0].ground.run("true")["status"] == "succeeded"
    for live, each in made:
        live.stopped(each)
