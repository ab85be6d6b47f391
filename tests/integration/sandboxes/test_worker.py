"""A worker's own duties, with one in this process at the cell `eu`, whose other worker stands still meanwhile.

Real database, real sandboxes; what fails here is made to fail: the database stops, leases lapse, cgroups are missing.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import Installation
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, until_async, workers_of

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service import (
    Dispatcher,
    JobRunner,
    QueueRelay,
    SecretOpener,
    Workshop,
    queue_relay,
    worker_identity,
)
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.capabilities.sandboxes.types import JOBS, QUEUE_NEWS
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.fairqueue.types import Claim, Lapsed
from tenantry.engines.jail.cgroups import CgroupVersion, Hierarchy
from tenantry.engines.jail.jail import Jail
from tenantry.entrypoints.addresses import cell_database
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.places import database_of
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.settings import JobSettings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

LEASE = 2.0


@pytest.fixture(scope="module", autouse=True)
def other_worker_stands_still(installation: Installation) -> Iterator[None]:
    pid = workers_of(installation)["eu"]
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings, regions=("eu",)) as opened:
        await opened.cells.get("eu").link.start()
        yield opened


@pytest.fixture(scope="module")
async def pool(parts: Parts) -> "AsyncIterator[Pool]":
    opened = await open_pool(parts.addresses.cells["eu"].dispatcher, search_path="queue", max_size=3)
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
async def jail(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Jail]:
    async with await Jail.open(tmp_path_factory.mktemp("jail")) as opened:
        yield opened


@pytest.fixture
def ground(make_ground: MakeGround) -> Ground:
    return make_ground(region="eu")


def rounds_of(parts: Parts) -> Rounds:
    return Rounds(parts.addresses.cells["eu"].dispatcher, region="eu", directory=parts.directory, clock=parts.clock)


def runner_of(parts: Parts, jail: Jail, content: JobContent | None = None, /, **settings: object) -> JobRunner:
    cell = parts.cells.get("eu")
    workshop = Workshop(
        cell=cell,
        relay=QueueRelay(cell=cell, databases=rounds_of(parts)),
        jail=jail,
        content=content or parts.content["eu"],
        secrets=SecretOpener(cell=cell, keyring=parts.keyrings["eu"], clock=parts.clock),
        library=parts.libraries["eu"],
        settings=JobSettings(lease_seconds=LEASE, **settings),  # type: ignore[arg-type]
        clock=SystemClock(),
    )
    return JobRunner(workshop)


@asynccontextmanager
async def working(parts: Parts, pool: "Pool", jail: Jail, **settings: object) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(
        pool=pool,
        runner=runner_of(parts, jail, **settings),
        worker=new_id(),
        boot=parts.content["eu"].transient.holder,
        settings=JobSettings(lease_seconds=LEASE, **settings),  # type: ignore[arg-type]
        clock=SystemClock(),
    )
    parts.cells.get("eu").link.subscribe(QUEUE_NEWS, dispatcher.wake)
    await dispatcher.start()
    dispatcher.wake()
    try:
        yield dispatcher
    finally:
        await dispatcher.stop()


async def claim(pool: "Pool", *, worker: UUID | None = None, lease: float = LEASE) -> Claim:
    """Claim the one job that waits."""
    claims = await QUEUE.claim(
        pool, worker=worker or new_id(), free_slots=1, capacity=1, labels=(JOBS,), lease_seconds=lease
    )
    assert len(claims) == 1
    return claims[0]


async def start(parts: Parts, ground: Ground, claimed: Claim) -> bool:
    scope = TenantScope(tenant_id=ground.tenant_id, region="eu", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        entry, attempt = claimed.ticket.entry, claimed.ticket.attempt
        key = await parts.content["eu"].make_transient_key(tenant_id=ground.tenant_id, job_id=entry)
        started = await repository.start_job(session, entry, attempt=attempt, transient=key, now=parts.clock.now())
    return started is not None


async def lapse(pool: "Pool", claimed: Claim) -> None:
    """Let a lease end now."""
    await pool.execute(
        "update queue.entries set lease_until = clock_timestamp() - interval '1 s' where job_id = $1",
        claimed.ticket.entry,
    )


# --- isolation -------------------------------------------------------------------------------------------------------


async def test_a_worker_without_cgroups_refuses_a_job_whose_workspace_asks_for_them(
    make_ground: MakeGround, parts: Parts, pool: "Pool", tmp_path: Path
) -> None:
    strict, lenient = make_ground(region="eu", min_isolation="cgroup"), make_ground(region="eu")
    none = Hierarchy(version=CgroupVersion.NONE, reason="nobody delegated one")
    async with (
        await Jail.open(tmp_path, hierarchy=none) as weak,
        working(parts, pool, weak, min_isolation="rlimit"),
    ):
        refused = await asyncio.to_thread(strict.run, "sh", "-c", "echo it ran")
        allowed = await asyncio.to_thread(lenient.run, "true")
    assert (refused["status"], refused["reason"], refused["exit_code"]) == ("denied", "isolation_too_low", None)
    assert "probe cgroup" in refused["detail"]
    assert "nobody delegated one" in refused["detail"]
    # From a thread: the worker that holds the key answers on this loop.
    assert "it ran" not in await asyncio.to_thread(strict.lines, refused["id"])
    assert "isolation_too_low" in await asyncio.to_thread(strict.lines, refused["id"], "system")
    assert strict.audited(refused["id"])["job.denied"]["outcome"] == "denied"
    assert strict.client.get(f"{strict.jobs}/{refused['id']}/receipt").status_code == 404
    assert allowed["status"] == "succeeded"
    assert lenient.client.get(f"{lenient.jobs}/{allowed['id']}/receipt").json()["isolation"] == "rlimit"


async def test_a_worker_refuses_a_job_whose_workspace_asks_for_a_kernel_of_its_own(
    make_ground: MakeGround, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    ground = make_ground(region="eu", min_isolation="gvisor")
    async with working(parts, pool, jail):
        refused = await asyncio.to_thread(ground.run, "sh", "-c", "echo it ran")
    assert (refused["status"], refused["reason"]) == ("denied", "isolation_too_low")
    assert "min_isolation is gvisor" in refused["detail"]
    assert "it ran" not in await asyncio.to_thread(ground.lines, refused["id"])


async def test_a_workspace_cannot_ask_for_less_than_the_installation(
    make_ground: MakeGround, parts: Parts, pool: "Pool", tmp_path: Path
) -> None:
    ground = make_ground(region="eu", min_isolation="rlimit")
    async with (
        await Jail.open(tmp_path, hierarchy=Hierarchy(version=CgroupVersion.NONE)) as weak,
        working(parts, pool, weak, min_isolation="cgroup"),
    ):
        assert (await asyncio.to_thread(ground.run, "true"))["status"] == "denied"


# --- leases ----------------------------------------------------------------------------------------------------------


def sandbox_runs(mark: str) -> bool:
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in place.read_bytes() and place.parent.stat().st_uid >= 200_000:
                return True
    return False


async def test_a_worker_that_cannot_reach_the_database_kills_before_its_lease_ends(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail, installation: Installation
) -> None:
    mark = f"614.{new_id().int}"
    async with working(parts, pool, jail):
        job_id = ground.start("sleep", mark)
        await until_async(lambda: ground.job(job_id)["status"] == "running")
        await until_async(lambda: sandbox_runs(mark))
        backends = [row["pid"] for row in await pool.fetch("select pid from pg_stat_activity where datname ~ 'eu$'")]
        loop = asyncio.get_running_loop()
        stopped = loop.time()
        for backend in backends:
            os.kill(backend, signal.SIGSTOP)
        try:
            await until_async(lambda: not sandbox_runs(mark), seconds=LEASE)
            took = loop.time() - stopped
        finally:
            for backend in backends:
                os.kill(backend, signal.SIGCONT)
        assert took < LEASE, took
        job = await asyncio.to_thread(ground.ended, job_id)
    assert (job["status"], job["reason"], job["attempt"]) == ("failed", "worker_lost", 1)
    assert set(ground.audited(job_id)) == {"job.created", "job.failed"}


async def test_connections_cut_off_during_a_job_cost_it_nothing(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    async with working(parts, pool, jail):
        job_id = ground.start("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.15; done")
        await until_async(lambda: "line 2" in ground.lines(job_id))
        superuser = await asyncpg.connect(**asdict(EmbeddedPostgres(ground.installation.home).superuser))
        for _ in range(3):
            await superuser.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname ~ 'eu$'")
            await asyncio.sleep(0.2)
        await superuser.close()
        job = await asyncio.to_thread(ground.ended, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 1), job
    assert ground.lines(job_id) == "".join(f"line {number}\n" for number in range(1, 9))


class _CutOff:
    """The keyring of a cell whose connections all end while a job's key is first read."""

    def __init__(self, parts: Parts, superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._keyring = parts.keyrings["eu"]
        self._superuser = superuser
        self.asked = 0

    async def keyset(self, owner: UUID) -> Keyset:
        self.asked += 1
        if self.asked > 1:
            return await self._keyring.keyset(owner)
        self._keyring.forget_all()
        async with self._superuser.transaction():
            await self._superuser.execute("lock table tenantry.keysets in access exclusive mode")
            reading = asyncio.ensure_future(self._keyring.keyset(owner))
            for _ in range(1000):
                if await self._superuser.fetchval("select count(*) from pg_locks where not granted"):
                    break
                await asyncio.sleep(0.01)
            await self._superuser.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        return await reading


async def test_connections_cut_off_between_start_and_sandbox_cost_a_job_nothing(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    job_id = ground.start("echo", "it ran")
    claimed = await claim(pool)
    server = replace(EmbeddedPostgres(ground.installation.home).superuser, database=cell_database("eu"))
    superuser = await asyncpg.connect(**asdict(server))
    keyring, known = _CutOff(parts, superuser), parts.content["eu"]
    content = JobContent(keyring=keyring, objects=parts.objects["eu"], transient=known.transient)
    assert await runner_of(parts, jail, content).run(claimed)
    await superuser.close()
    job = await asyncio.to_thread(ground.ended, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    assert keyring.asked > 1


async def test_a_result_of_an_attempt_whose_turn_is_over_is_discarded(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    """The first worker stalls, its lease lapses, the sweep reports; then it comes back with a result."""
    job_id = ground.start("sh", "-c", "sleep 0.4; echo late; exit 0")
    claimed = await claim(pool)
    late = asyncio.create_task(runner_of(parts, jail).run(claimed))
    await until_async(lambda: ground.job(job_id)["status"] == "running")
    await lapse(pool, claimed)
    [lapsed] = await QUEUE.sweep(pool)
    assert await runner_of(parts, jail).settle_lapsed(lapsed)
    await late
    job = ground.job(job_id)
    assert (job["status"], job["reason"]) == ("failed", "worker_lost")
    assert set(ground.audited(job_id)) == {"job.created", "job.failed"}
    assert await QUEUE.sweep(pool) == []


async def test_a_result_that_comes_before_the_sweep_decides_counts_and_the_sweep_stands_back(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    job_id = ground.start("true")
    claimed = await claim(pool)
    await lapse(pool, claimed)
    [lapsed] = await QUEUE.sweep(pool)
    await runner_of(parts, jail).run(claimed)
    assert await runner_of(parts, jail).settle_lapsed(lapsed)
    assert ground.job(job_id)["status"] == "succeeded"
    assert set(ground.audited(job_id)) == {"job.created", "job.succeeded"}


async def test_lost_jobs_of_a_tenant_whose_place_is_away_rest_and_hold_up_no_others(
    make_ground: MakeGround, parts: Parts, pool: "Pool", jail: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red once where the first that could not be decided on ended the sweep, and a worker's start with it."""
    resting, other = make_ground(region="eu"), make_ground(region="eu")
    jobs = {}
    for ground in (resting, other):
        jobs[ground.tenant_id] = ground.start("true")
        dead = await claim(pool)
        assert await start(parts, ground, dead)
        await lapse(pool, dead)
    settle = JobRunner.settle_lapsed

    async def settled(runner: JobRunner, lapsed: Lapsed) -> bool:
        if lapsed.levels[0] == resting.tenant_id:
            raise Unavailable("database_unavailable", "its own database is away", layer="database")
        return await settle(runner, lapsed)

    monkeypatch.setattr(JobRunner, "settle_lapsed", settled)
    async with working(parts, pool, jail):
        job = await asyncio.to_thread(other.ended, jobs[other.tenant_id])
    assert (job["status"], job["reason"]) == ("failed", "worker_lost")
    assert [lapsed.levels[0] for lapsed in await QUEUE.sweep(pool)] == [resting.tenant_id]
    assert await QUEUE.sweep(pool, without=[resting.tenant_id]) == []
    monkeypatch.undo()
    async with working(parts, pool, jail):
        job = await asyncio.to_thread(resting.ended, jobs[resting.tenant_id])
    assert (job["status"], job["reason"]) == ("failed", "worker_lost")


async def test_claims_of_a_tenant_with_its_own_database_are_decided_on_here_too_before_a_relay_tells(
    make_ground: MakeGround, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    """Also one of a job that ended before it began, of which nothing lies there that a relay could tell."""
    ground = await asyncio.to_thread(make_ground, region="eu", isolation="database_level")
    begun, ended = ground.start("true"), ground.start("true")
    relay = QueueRelay(cell=parts.cells.get("eu"), databases=(rounds := rounds_of(parts)))
    await relay.relay()
    first, second = await claim(pool), await claim(pool)
    await relay.note(first)
    await rounds.close()
    assert await start(parts, ground, first)
    assert ground.cancel(ended).json()["status"] == "cancelled"
    for claimed in (first, second):
        await lapse(pool, claimed)
    async with asyncio.timeout(20), working(parts, pool, jail):
        assert await QUEUE.sweep(pool) == []
    assert (ground.job(begun)["reason"], ground.job(ended)["status"]) == ("worker_lost", "cancelled")


async def test_what_is_cancelled_and_runs_on_keeps_no_relay_and_hides_nothing_from_it(
    make_ground: MakeGround, parts: Parts, pool: "Pool", jail: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that is to end is told of until it has; red once where as many as a batch were told without an end."""
    monkeypatch.setattr(queue_relay, "_BATCH", 1)
    ground = await asyncio.to_thread(make_ground, region="eu", isolation="database_level")
    running = ground.start("true")
    relay = QueueRelay(cell=parts.cells.get("eu"), databases=(rounds := rounds_of(parts)))
    await relay.relay()
    first = await claim(pool)
    await relay.note(first)
    assert await start(parts, ground, first)
    assert ground.cancel(running).json()["status"] == "running"
    waiting = ground.start("true")
    rounds.stir(database_of("eu", ground.tenant_id))
    async with asyncio.timeout(20):
        await relay.relay()
    await rounds.close()
    second = await claim(pool)
    assert ground.cancel(waiting).json()["status"] == "cancelled"
    for claimed in (first, second):
        await lapse(pool, claimed)
    async with asyncio.timeout(20), working(parts, pool, jail):
        job = await asyncio.to_thread(ground.ended, running)
    assert job["status"] == "cancelled"


async def test_a_sweep_ends_whatever_becomes_of_what_it_has_decided_on(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ground.start("true")
    dead = await claim(pool)
    await lapse(pool, dead)

    async def settled(_runner: JobRunner, _lapsed: Lapsed) -> bool:
        return True

    monkeypatch.setattr(JobRunner, "settle_lapsed", settled)
    async with asyncio.timeout(20), working(parts, pool, jail):
        assert [lapsed.ticket for lapsed in await QUEUE.sweep(pool)] == [dead.ticket]
    monkeypatch.undo()
    async with working(parts, pool, jail):
        assert (await asyncio.to_thread(ground.ended, job_id))["status"] == "succeeded"


async def test_a_claim_that_was_never_begun_goes_back_and_runs_elsewhere(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    job_id = ground.start("true")
    dead = await claim(pool)
    await lapse(pool, dead)
    async with working(parts, pool, jail):
        job = await asyncio.to_thread(ground.ended, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    # The one that was thought dead cannot begin any more.
    assert not await start(parts, ground, dead)


async def test_a_slow_worker_cannot_begin_what_was_taken_from_it(ground: Ground, parts: Parts, pool: "Pool") -> None:
    """Else a job would be running that no report can end."""
    ground.start("true")
    slow = await claim(pool)
    await lapse(pool, slow)
    assert await QUEUE.requeue(pool, ticket=slow.ticket)
    assert not await start(parts, ground, slow)
    fresh = await claim(pool)
    assert await start(parts, ground, fresh)
    assert await start(parts, ground, fresh), "an attempt finds its own start again"
    await QUEUE.leave(pool, worker=new_id())
    await lapse(pool, fresh)


async def test_cancelling_what_a_dead_worker_has_claimed_leaves_nothing_hanging(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    unbegun = ground.start("true")
    first = await claim(pool)
    assert ground.cancel(unbegun).json()["status"] == "cancelled"
    begun = ground.start("true")
    second = await claim(pool)
    assert await start(parts, ground, second)
    assert ground.cancel(begun).json()["status"] == "running"
    for claimed in (first, second):
        await lapse(pool, claimed)
    async with working(parts, pool, jail):
        job = await asyncio.to_thread(ground.ended, begun)
    assert (job["status"], job["reason"]) == ("cancelled", "cancelled")
    assert ground.job(unbegun)["status"] == "cancelled"
    assert set(ground.audited(unbegun)) == {"job.created", "job.cancelled"}


async def test_a_stopped_worker_says_so_and_leaves_what_it_had_not_begun(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    async with working(parts, pool, jail, slots=1):
        running = ground.start("sleep", "60")
        await until_async(lambda: ground.job(running)["status"] == "running")
        waiting = ground.start("true")
    job = ground.job(running)
    assert (job["status"], job["reason"]) == ("failed", "worker_stopped")
    assert ground.job(waiting)["status"] == "queued"
    async with working(parts, pool, jail):
        assert (await asyncio.to_thread(ground.ended, waiting))["status"] == "succeeded"


async def test_the_successor_of_a_dead_worker_decides_at_once(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    """It has the dead one's id and another boot, so it need not wait for leases of minutes."""
    worker = new_id()
    await QUEUE.heartbeat(pool, worker=worker, boot=new_id(), labels=(), slots=4)
    begun = ground.start("true")
    assert await start(parts, ground, await claim(pool, worker=worker, lease=600))
    unbegun = ground.start("true")
    await claim(pool, worker=worker, lease=600)
    settings = JobSettings(lease_seconds=600)
    dispatcher = Dispatcher(
        pool=pool,
        runner=runner_of(parts, jail),
        worker=worker,
        boot=new_id(),
        settings=settings,
        clock=SystemClock(),
    )
    await dispatcher.start()
    try:
        assert ground.job(begun)["reason"] == "worker_lost"
        assert (await asyncio.to_thread(ground.ended, unbegun))["status"] == "succeeded"
    finally:
        await dispatcher.stop()


def test_a_worker_takes_up_the_id_of_a_dead_one_and_never_of_a_living(tmp_path: Path) -> None:
    with worker_identity(tmp_path) as first:
        with worker_identity(tmp_path) as second:
            assert first != second
        with worker_identity(tmp_path) as third:
            assert third == second
    with worker_identity(tmp_path) as again:
        assert again == first


async def test_a_tenant_closed_between_claim_and_start_runs_nothing(
    ground: Ground, parts: Parts, pool: "Pool", jail: Jail
) -> None:
    job_id = ground.start("true")
    claimed = await claim(pool)
    platform = ground.installation.platform
    suspended = platform.post(f"/tenants/{ground.tenant.id}/suspend", json={"reason": "unpaid"})
    assert suspended.status_code == 200
    await runner_of(parts, jail).run(claimed)
    assert platform.post(f"/tenants/{ground.tenant.id}/resume").status_code == 200
    job = ground.job(job_id)
    assert (job["status"], job["reason"], job["started_at"]) == ("cancelled", "tenant_suspended", None)
    scope = TenantScope(tenant_id=ground.tenant_id, region="eu", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        found = await repository.find_job(session, parse_id(Prefix.JOB, job_id))
    assert found is not None
    assert found.attempt == 0
