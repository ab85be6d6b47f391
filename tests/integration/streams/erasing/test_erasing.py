"""The beginning of a log leaves after its time: signed for first, told, then gone, and every proof stays."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.integration.notifications.receivers import Receiver
from tests.integration.streams.conftest import House
from tests.integration.streams.erasing.conftest import DAYS, TILE, Log, ahead, later, log_of
from tests.unit.capabilities.bundles import Keeper

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service import AuditService, list_erasable
from tenantry.capabilities.audit.service.erasures import Erasure
from tenantry.engines.merkle.tree import Frontier
from tenantry.entrypoints import erasing
from tenantry.entrypoints.erasing import ErasingRound, erasing_loops
from tenantry.entrypoints.rounds import Rounds
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.telemetry import REGISTRY

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

pytestmark = pytest.mark.xdist_group("streams")


async def test_old_events_leave_in_whole_tiles_and_the_log_says_so_signed(log: Log, tmp_path: Path) -> None:
    before = await log.verified(tmp_path / "before")
    old = (await log.ids())[:512]
    await log.erase()
    assert await log.head() == (512, 512)
    (event,) = await log.tells()
    assert event["actor"]["type"] == "system"
    assert (event["details"]["events"], event["details"]["days"]) == (512, DAYS)
    assert event["details"]["signed"].startswith(f"{log.house.runtime.notaries['us'].origin(log.home.tenant_id)}\n")
    async with log.house.parts.cells.session(log.home.scope) as session:
        left = await session.fetchval("select count(*) from audit_events where event_id = any($1)", old)
    assert left == 0
    report = await log.verified(tmp_path / "after")
    assert (report.size, report.root) > (before.size, "")
    assert report.erasure is not None
    assert (report.erasure.size, report.erasure.days) == (512, DAYS)
    assert not await log.step(), "nothing more may leave, and nothing is told twice"
    assert len(await log.tells()) == 1


async def test_nothing_is_gone_before_a_signed_checkpoint_covers_what_tells_of_it(log: Log) -> None:
    """Red once when the event's checkpoint was not waited for."""
    events = await log.rows()
    assert await log.step()
    for settled in (log.house.seal, log.settle):
        assert await log.step()
        assert (await log.head(), await log.rows()) == ((0, 0), events + 1)
        await settled()
    assert await log.step()
    assert (await log.head(), await log.rows()) == ((512, 512), events + 1 - 512)
    assert len(await log.tells()) == 1


async def test_what_is_not_old_enough_stays(log: Log) -> None:
    for days in (0, DAYS - 1, DAYS):
        log.eraser = ahead(log.house, days)
        assert not await log.step()
    assert await log.head() == (0, 0)
    assert await log.tells() == []


async def test_an_event_is_as_old_as_its_own_bytes_say(log: Log, superuser: "Connection") -> None:
    """Whoever owns the database writes another id into its columns; what was hashed says another."""
    log.eraser = ahead(log.house, 0)
    async with superuser.transaction():
        await superuser.execute("set local session_replication_role = replica")
        for table in ("audit_events", "audit_sequence"):
            await superuser.execute(
                f"""update tenantry.{table} set event_id = ('0' || substr(event_id::text, 2))::uuid
                    where tenant_id = $1""",
                log.home.tenant_id,
            )
    assert not await log.step()
    assert await log.rows("audit_events", "action = 'audit.erased'") == 0


async def test_what_was_altered_is_not_erased_which_would_hide_it(
    log: Log, superuser: "Connection", tmp_path: Path
) -> None:
    """Red once without the look at the events' own bytes."""
    ids = await log.ids()
    await superuser.execute(
        """update tenantry.audit_events set canonical = convert_to(replace(convert_from(canonical, 'UTF8'),
           'success', 'denied'), 'UTF8') where tenant_id = $1 and event_id = $2""",
        log.home.tenant_id,
        ids[300],
    )
    counted = partial(REGISTRY.get_sample_value, "tenantry_audit_erasures_refused_total", {"region": "us"})
    refusals = counted() or 0
    assert not await log.step()
    assert counted() == refusals + 1
    assert await log.head() == (0, 0)
    with pytest.raises(BundleRefused) as refused:
        await log.verified(tmp_path / "altered")
    assert refused.value.fields["sequence"] == 301


async def test_what_others_still_need_stays(log: Log, receiver: Receiver) -> None:
    stream = await log.home.stream(f"{receiver.url}/in")
    await log.home.owner.post(f"/audit/streams/{stream['id']}/replay", json={"after": 300})
    await log.settle()
    assert await log.step(), "of the first 300 one tile"
    await log.settle()
    await log.step()
    assert await log.head() == (TILE, TILE)
    assert not await log.step()
    await log.home.owner.post(f"/audit/streams/{stream['id']}/pause")
    await log.settle()
    await log.erase()
    assert (await log.head())[0] == 512, "what is paused waits for its owner, and keeps nothing"


async def test_what_the_index_does_not_know_stays(log: Log, superuser: "Connection") -> None:
    await superuser.execute("update tenantry.audit_index set sequence = 511 where tenant_id = $1", log.home.tenant_id)
    await log.step()
    (event,) = await log.tells()
    assert event["details"]["events"] == TILE


@pytest.mark.parametrize(
    ("state", "ended", "stays"), [("wip", None, True), ("wip", 0, True), ("wip", 40, False), ("locked", 0, False)]
)
async def test_what_evidence_is_still_to_name_stays(
    log: Log, superuser: "Connection", state: str, ended: int | None, stays: bool
) -> None:
    """Red once where evidence was not asked. What has ended so long ago and could not be locked never will be."""
    workspace = (await log.home.owner.post("/workspaces", json={"name": "w"})).json()["id"]
    later = datetime.now(UTC) + timedelta(days=DAYS + 2)
    await superuser.execute(
        """insert into tenantry.evidence (tenant_id, evidence_id, workspace_id, subject_kind, subject_id, state,
                                          persistence_mode, labels, judged, created_at, ended_at)
           values ($1, gen_random_uuid(), $2, 'other', gen_random_uuid(), $3, 'full', '{}', '{}', $4, $5)""",
        log.home.tenant_id,
        parse_id(Prefix.WORKSPACE, workspace),
        state,
        datetime.now(UTC),
        later - timedelta(days=ended) if ended is not None else None,
    )
    await log.settle()
    assert await log.step() is not stays


async def hold(log: Log) -> str:
    """Place a hold in a workspace of the tenant; gives what releases it."""
    owner = log.home.owner
    workspace = (await owner.post("/workspaces", json={"name": "w", "owner": {"type": "team", "id": "core"}})).json()
    path = f"/workspaces/{workspace['id']}/evidence/holds"
    placed = await owner.post(path, json={"case_id": "c-1", "reason": "a suit"})
    assert placed.status_code == 201, placed.text
    return f"{path}/{placed.json()['id']}"


async def test_a_legal_hold_keeps_all_of_the_log(log: Log) -> None:
    release = await hold(log)
    assert not await log.step()
    assert await log.tells() == []
    assert (await log.home.owner.delete(release)).status_code == 200
    await log.settle()
    await log.erase()
    assert (await log.head())[0] == 512


@pytest.mark.parametrize("stage", ["told", "signed away"])
async def test_a_hold_that_comes_later_keeps_what_is_still_there(log: Log, stage: str) -> None:
    """Red once where only what begins an erasure asked for holds."""
    await log.step()
    await log.settle()
    events = await log.rows()
    if stage == "signed away":
        async with log.sealing() as connection:
            await repository.sign_away(connection, log.home.tenant_id, size=512)
    release = await hold(log)
    assert not await log.step()
    assert await log.rows() > events
    assert (await log.head())[1] == 0
    assert (await log.home.owner.delete(release)).status_code == 200
    await log.settle()
    await log.erase()
    assert (await log.head()) == (512, 512)


async def test_what_was_signed_away_goes_also_where_events_are_kept_for_ever_from_now_on(log: Log) -> None:
    """Red once: without days there was no round, and rows stayed that every reader was told had left."""
    await log.step()
    await log.settle()
    async with log.sealing() as connection:
        await repository.sign_away(connection, log.home.tenant_id, size=512)
        assert log.home.tenant_id in await list_erasable(connection, before=None, after=None)
    kept = Log(log.home, replace(log.eraser, days=0), log.sealing)
    assert not await kept.step()
    assert await kept.head() == (512, 512)
    async with log.sealing() as connection:
        assert log.home.tenant_id not in await list_erasable(connection, before=None, after=None)
    await log.home.record(*(f"more-{number}" for number in range(300)))
    await log.settle()
    assert not await kept.step()
    assert len(await log.tells()) == 1, "nothing more is signed away"


STEPS = (
    *("take_index", "find_log_extent", "list_erasures", "find_checkpoint", "list_log", "find_hashes", "sign_away"),
    *("forget_words", "list_cut_days", "cut_day", "sweep_events"),
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_statement_loses_nothing_and_erases_nothing_unsigned(
    house: House, step: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await open_pool(house.parts.addresses.cells["us"].sealer, search_path="tenantry", max_size=2)
    log = await log_of(house, await house.tenant(), partial(platform_session, pool), events=270)
    plain, calls = getattr(repository, step), 0

    async def crashing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (1, 3) and not after:
            raise ZeroDivisionError
        found = await plain(*arguments, **named)
        if calls in (1, 3):
            raise ZeroDivisionError
        return found

    monkeypatch.setattr(repository, step, crashing)
    crashed, more = 0, True
    while more:
        try:
            more = await log.step()
        except ZeroDivisionError:
            crashed += 1
            with monkeypatch.context() as patched:
                patched.setattr(repository, step, plain)
                assert (await log.verified(tmp_path / "now")).size >= 270
        await log.settle()
    monkeypatch.setattr(repository, step, plain)
    assert crashed >= 1
    assert await log.head() == (TILE, TILE)
    assert len(await log.tells()) == 1
    report = await log.verified(tmp_path / "after")
    assert report.erasure is not None
    await log.home.owner.aclose()
    await pool.close()


async def test_two_that_erase_at_once_do_what_one_would(log: Log, tmp_path: Path) -> None:
    for _ in range(6):
        done = await asyncio.gather(*(log.step() for _ in range(3)))
        await log.settle()
    assert not any(done)
    assert await log.head() == (512, 512)
    assert len(await log.tells()) == 1
    assert (await log.verified(tmp_path / "raced")).erasure is not None


async def test_a_server_erases_where_it_is_told_for_how_long(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = log.house.parts.cells.get("us")
    monkeypatch.setattr(erasing, "_SOON", 0.02)
    async with AsyncExitStack() as stack:
        settings = log.house.parts.settings
        kept = settings.model_copy(update={"audit": settings.audit.model_copy(update={"retention_days": DAYS})})
        parts = replace(log.house.parts, settings=kept, clock=later(DAYS + 2))
        [loop] = erasing_loops(cell, parts, stack=stack)
        running = asyncio.create_task(loop)
        for _ in range(400):
            await log.settle()
            if await log.head() == (512, 512):
                break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await log.head() == (512, 512)


@pytest.mark.parametrize("isolation", ["row_level", "schema_level", "database_level"])
async def test_the_round_of_the_server_erases_wherever_a_log_lies(house: House, isolation: str, tmp_path: Path) -> None:
    home = await house.tenant(isolation=isolation)
    log = await log_of(house, home, None, events=270)
    dsn = house.parts.addresses.cells["us"].sealer
    rounds = Rounds(dsn, region="us", directory=house.parts.directory, clock=house.clock, look_seconds=0.0)
    going = ErasingRound(rounds, log.eraser, days=DAYS)
    try:
        going.waiting = True
        for _ in range(8):
            await going.run()
            await log.settle()
        assert not going.waiting
    finally:
        await rounds.close()
    assert await log.head() == (TILE, TILE)
    report = await log.verified(tmp_path / "acme.audit")
    assert report.erasure is not None
    await home.owner.aclose()


async def test_only_the_sealer_erases_and_only_what_was_signed_away(log: Log, superuser: "Connection") -> None:
    """Red once without the policy, and without the trigger."""
    database = log.house.ground.database()
    tenant = log.home.tenant_id
    async with database.connected("tenantry_sealer") as connection:
        assert await connection.execute("delete from audit_events where tenant_id = $1", tenant) == "DELETE 0"
    await superuser.execute("update tenantry.audit_heads set erased = 256 where tenant_id = $1", tenant)
    async with database.connected("tenantry_sealer") as connection, connection.transaction():
        assert await connection.execute("delete from audit_events where tenant_id = $1", tenant) == "DELETE 256"
        for change in ("erased = 0", "swept = -1", "erased = 300", "swept = 512", "erased = 1024000"):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.CheckViolationError)):
                async with connection.transaction():
                    await connection.execute(f"update audit_heads set {change} where tenant_id = $1", tenant)
    for role in ("tenantry_app", "tenantry_dispatcher"):
        async with database.connected(role) as connection:
            for statement in ("delete from audit_events", "update audit_heads set erased = 256"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_an_event_that_the_log_has_not_signed_erases_nothing(log: Log, tmp_path: Path) -> None:
    """The application's role may record what it likes: under that name, with the true root, and a key of its own."""
    async with log.house.parts.cells.session(log.home.scope) as session:
        leaves = await repository.list_leaves(session, after=0, until=TILE, limit=TILE)
        root = Frontier().append_many(leaves).frontier.root
        forged = Erasure(log.eraser.notary.origin(log.home.tenant_id), datetime.now(UTC), TILE, root, DAYS)
        note = Keeper(log.eraser.notary.name).signs(forged.text)
        await AuditService(session=session, clock=log.house.clock).record(
            "audit.erased", resource_type="tenant", resource_id=log.home.id, details=forged.details(note)
        )
    await log.settle()
    aged, log.eraser = log.eraser, ahead(log.house, 0)
    assert not await log.step()
    assert await log.head() == (0, 0)
    log.eraser = aged
    await log.erase()
    assert (await log.head())[0] == 512
    assert (await log.verified(tmp_path / "forged")).erasure is not None
