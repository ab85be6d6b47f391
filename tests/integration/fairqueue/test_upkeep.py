"""Roles, standing, collection, names, and the printed DDL."""

from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tenantry.engines import fairqueue
from tenantry.engines.fairqueue import Names, ddl

from .conftest import WORKER, Rig

PLACE = (uuid4(), uuid4(), uuid4())


@pytest.mark.parametrize(
    "change",
    [
        "state = 'queued'",
        "attempt = 9",
        "charged = 0",
        "worker = NULL",
        "lease_until = now()",
        "leaf = 1",
        "lane = 1",
        "estimate_seconds = 1e-9",
        "enqueued_at = '2000-01-01'",
        "house = gen_random_uuid()",
    ],
)
async def test_the_application_cannot_forge_a_turn_or_a_lease(rig: Rig, change: str) -> None:
    await rig.put(PLACE)
    await rig.take()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.application.execute(rig.fill("UPDATE __schema__.entries SET ") + change)


@pytest.mark.parametrize("table", ["gate", "lanes", "nodes", "fronts", "workers"])
async def test_the_application_sees_nothing_but_entries_and_shares(rig: Rig, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.application.execute(rig.fill("SELECT FROM __schema__.") + table)


@pytest.mark.parametrize(
    "call", ["claim(gen_random_uuid(), 1, 1, '{}', 1)", "catch_up()", "settle(1, 1, -1, 0, 0)", "retire(1)", "weigh()"]
)
async def test_the_application_may_call_none_of_the_functions(rig: Rig, call: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.application.execute(rig.fill("SELECT __schema__.") + call)


async def test_the_application_neither_deletes_nor_enters_a_state_of_its_own(rig: Rig) -> None:
    await rig.put(PLACE)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.application.execute(rig.fill("DELETE FROM __schema__.entries"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.application.execute(
            rig.fill(
                "INSERT INTO __schema__.entries (house, floor, room, task, estimate_seconds, state) "
                "VALUES ($1, $1, $1, $1, 1, 'claimed')"
            ),
            PLACE[0],
        )


async def test_another_first_level_key_is_out_of_reach(rig: Rig) -> None:
    await rig.put(PLACE)
    (claim,) = await rig.take()
    await rig.bind(uuid4())
    assert not await rig.queue.finish(rig.application, ticket=claim.ticket, used_slot_seconds=0)
    assert await rig.queue.cancel(rig.application, first=PLACE[0], entry=claim.ticket.entry) == "absent"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rig.queue.enqueue(rig.application, levels=PLACE, entry=uuid4(), estimate_seconds=1)


async def test_the_same_entry_id_below_another_key_is_another_entry(rig: Rig) -> None:
    (entry,) = await rig.put(PLACE)
    thief = (uuid4(), uuid4(), uuid4())
    await rig.bind(thief[0])
    await rig.queue.enqueue(rig.application, levels=thief, entry=entry, estimate_seconds=1)
    claims = await rig.take(2)
    assert {claim.levels for claim in claims} == {PLACE, thief}
    (mine,) = [claim.ticket for claim in claims if claim.levels == thief]
    assert await rig.end(mine)
    assert await rig.count("entries WHERE used_slot_seconds IS NULL") == 1


@pytest.mark.parametrize("estimate", [0, -1, float("nan"), float("inf"), 4e7])
async def test_an_estimate_out_of_range_is_refused(rig: Rig, estimate: float) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await rig.put(PLACE, estimate=estimate)


async def test_standing_says_how_many_go_first_and_whether_anybody_serves(rig: Rig) -> None:
    boot = uuid4()
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=boot, labels=("gpu",), slots=2)
    mine = await rig.put(PLACE, 10)
    await rig.put((uuid4(), uuid4(), uuid4()), 100)
    await rig.put((PLACE[0], uuid4(), uuid4()), 2)
    (lost,) = await rig.put(PLACE, labels=("quantum",))
    first = PLACE[0]
    fresh = await rig.queue.standing(rig.dispatcher, first=first, entry=mine[4])
    assert fresh is not None
    assert (fresh.state, fresh.ahead, fresh.workers) == ("new", None, 1)
    await rig.queue.catch_up(rig.dispatcher)
    order = [claim.ticket.entry for claim in await _look(rig, 120)]
    for entry in mine:
        standing = await rig.queue.standing(rig.dispatcher, first=first, entry=entry)
        assert standing is not None
        assert standing.ahead == pytest.approx(order.index(entry), abs=3)
    nobody = await rig.queue.standing(rig.dispatcher, first=first, entry=lost)
    assert nobody is not None
    assert nobody.workers == 0
    assert await rig.queue.standing(rig.dispatcher, first=first, entry=uuid4()) is None


async def _look(rig: Rig, count: int) -> list[fairqueue.Claim]:
    """Claim in a transaction that is rolled back: what the order will be."""
    transaction = rig.dispatcher.transaction()
    await transaction.start()
    claims = await rig.take(count, capacity=200)
    await transaction.rollback()
    return claims


async def test_idle_nodes_lanes_and_workers_are_collected_in_bounded_steps(rig: Rig) -> None:
    await rig.queue.heartbeat(rig.dispatcher, worker=WORKER, boot=uuid4(), labels=(), slots=4)
    for _ in range(10):
        await rig.put((uuid4(), uuid4(), uuid4()), labels=("x",))
    kept = (uuid4(), uuid4(), uuid4())
    await rig.share(kept[0], weight=2)
    for claim in (claims := await rig.take(10, labels=("x",)))[:9]:
        assert await rig.end(claim.ticket)
    await rig.queue.catch_up(rig.dispatcher)
    assert await rig.queue.collect(rig.dispatcher, idle_seconds=3600, limit=100) == 0
    steps = [await rig.queue.collect(rig.dispatcher, idle_seconds=0, limit=8) for _ in range(20)]
    assert max(steps) <= 8
    assert sum(steps) == 27, "the nodes of the one still claimed, and the weighted one, stay"
    assert await rig.end(claims[9].ticket)
    await rig.queue.catch_up(rig.dispatcher)
    for _ in range(8):
        await rig.queue.collect(rig.dispatcher, idle_seconds=0, limit=8)
    counts = [await rig.count(table) for table in ("nodes", "fronts", "lanes", "workers", "entries")]
    assert counts == [1, 0, 0, 0, 0]


async def test_rows_that_vanished_leave_no_ghost(rig: Rig) -> None:
    await rig.put(PLACE, 5)
    other = (uuid4(), uuid4(), uuid4())
    await rig.put(other)
    await rig.queue.catch_up(rig.dispatcher)
    await rig.superuser.execute(rig.fill("DELETE FROM __schema__.entries WHERE house = $1"), PLACE[0])
    assert [claim.levels for claim in await rig.take(5)] == [other]
    assert await rig.count("fronts WHERE queued > 0") == 0


@pytest.mark.parametrize("bad", ["Upper", "semi;colon", "", "1digit", "a" * 49, 'quo"te', "a.b"])
def test_names_are_plain_identifiers(bad: str) -> None:
    for arguments in ((bad, ("a", "b", "c"), "d"), ("q", (bad, "b", "c"), "d"), ("q", ("a", "b", "c"), bad)):
        with pytest.raises(ValueError, match="identifier"):
            Names(*arguments)


@pytest.mark.parametrize("columns", [("a", "a", "c", "d"), ("a", "b", "c", "a"), ("state", "b", "c", "d")])
def test_columns_differ_from_one_another_and_from_the_queues_own(columns: tuple[str, str, str, str]) -> None:
    with pytest.raises(ValueError, match="differ"):
        Names("q", columns[:3], columns[3])


def test_the_readme_prints_the_tables_as_they_are() -> None:
    readme = (Path(fairqueue.__file__).parent / "README.md").read_text(encoding="utf-8")
    names = Names(schema="queue", levels=("first_id", "second_id", "third_id"), entry="entry_id")
    for statement in ddl(names):
        if not statement.startswith(("--", "REVOKE")):
            assert statement in readme


async def test_a_flood_that_came_while_the_table_seemed_empty_is_taken_in_by_its_rows(rig: Rig) -> None:
    """The planner's figures, of before the flood's commit, say that there is nothing: no step may read it all."""
    places = [tuple(uuid4() for _ in range(3)) for _ in range(20)]
    transaction = rig.superuser.transaction()
    await transaction.start()
    await rig.superuser.copy_records_to_table(
        "entries",
        schema_name=rig.queue.names.schema,
        records=[(*place, uuid4(), 1.0) for place in places for _ in range(300)],
        columns=("house", "floor", "room", "task", "estimate_seconds"),
    )
    link = await rig.connect("superuser")
    await link.execute(rig.fill("ANALYZE __schema__.entries"))
    await transaction.commit()
    begun = rig.dispatcher.transaction()
    await begun.start()
    assert await rig.queue.catch_up(rig.dispatcher) == 400
    read = await rig.dispatcher.fetchval(
        rig.fill("""SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) FROM pg_index i
                     WHERE i.indrelid = '__schema__.entries'::regclass""")
    )
    await begun.rollback()
    assert read < 5 * 400
