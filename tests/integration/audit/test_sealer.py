"""The sealer gives each event its place: no gap, no place twice, whoever writes and whoever else seals."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from tests.integration.database.ground import Database, scope_of

from tenantry.capabilities.audit.service import AuditService, seal
from tenantry.capabilities.audit.types import AuditFilter, canonical_bytes
from tenantry.engines.merkle.tree import TILE_WIDTH, Frontier, leaf_hash, root_of
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

pytestmark = pytest.mark.xdist_group("audit")


@pytest.fixture(scope="module")
async def sealers(database: Database) -> "AsyncIterator[Pool]":
    pool = await open_pool(database.dsn("tenantry_sealer"), search_path="tenantry", max_size=2)
    yield pool
    await pool.close()


async def seal_all(pool: "Pool", *, limit: int = 500) -> int:
    total, passed_over = 0, set[UUID]()
    while True:
        async with platform_session(pool) as connection:
            sealed = await seal(connection, limit=limit, passed_over=passed_over)
        total += sealed
        if not sealed:
            return total


@pytest.fixture(autouse=True)
async def nothing_waits(sealers: "Pool") -> None:
    """What other tests have left behind is sealed before one counts."""
    await seal_all(sealers)


async def write(cell: Cell, tenant: UUID, number: int) -> None:
    async with cell.session(scope_of(tenant)) as session:
        audit = AuditService(session=session, clock=SystemClock())
        await audit.record("note.made", resource_type="note", resource_id=f"note-{number}")


async def write_many(cell: Cell, tenant: UUID, count: int) -> None:
    async with cell.session(scope_of(tenant)) as session:
        audit = AuditService(session=session, clock=SystemClock())
        for number in range(count):
            await audit.record("note.made", resource_type="note", resource_id=f"note-{number}")


async def places(database: Database, tenant: UUID) -> list[int]:
    """The sequence numbers there are; the stored tree must be the one over the leaves in that order."""
    async with database.connected("superuser") as connection:
        rows = await connection.fetch(
            """select s.sequence, e.leaf from tenantry.audit_sequence s
               join tenantry.audit_events e using (tenant_id, event_id) where tenant_id = $1 order by s.sequence""",
            tenant,
        )
        head = await connection.fetchrow("select size, frontier from tenantry.audit_heads where tenant_id = $1", tenant)
        tiles = await connection.fetch(
            "select level, position, hash from tenantry.audit_tiles where tenant_id = $1 order by 1, 2", tenant
        )
    leaves = [row["leaf"] for row in rows]
    if head is not None:
        frontier = Frontier.from_bytes(head["frontier"])
        assert (head["size"], frontier.size, frontier.root) == (len(rows), len(rows), root_of(leaves))
    firsts = [root_of(leaves[at : at + TILE_WIDTH]) for at in range(0, len(leaves) - TILE_WIDTH + 1, TILE_WIDTH)]
    assert [tuple(tile) for tile in tiles] == [(1, at, one) for at, one in enumerate(firsts)]
    return [row["sequence"] for row in rows]


async def test_places_have_no_gap_and_are_unique_under_many_writers_and_two_sealers(
    cell: Cell, database: Database, sealers: "Pool"
) -> None:
    """16 writers of three tenants, two sealers all the while with small bites."""
    tenants = [await database.make_tenant(rows=0) for _ in range(3)]
    writing = True

    async def keep_writing(writer: int) -> None:
        for number in range(15):
            await write(cell, tenants[(writer + number) % 3], writer * 100 + number)

    async def keep_sealing() -> int:
        total = 0
        while writing:
            total += await seal_all(sealers, limit=7)
            await asyncio.sleep(0)
        return total

    sealing = [asyncio.create_task(keep_sealing()) for _ in range(2)]
    await asyncio.gather(*(keep_writing(writer) for writer in range(16)))
    writing = False
    sealed = sum(await asyncio.gather(*sealing)) + await seal_all(sealers)
    assert sealed == 16 * 15
    for tenant in tenants:
        assert await places(database, tenant) == list(range(1, 81))
    async with database.connected("superuser") as connection:
        left = "select count(*) from tenantry.audit_unsealed where tenant_id = any($1::uuid[])"
        assert await connection.fetchval(left, tenants) == 0


async def test_what_is_not_committed_has_no_place_and_leaves_no_gap(
    cell: Cell, database: Database, sealers: "Pool"
) -> None:
    tenant = await database.make_tenant(rows=0)
    await write(cell, tenant, 1)
    async with cell.session(scope_of(tenant)) as open_session:
        await AuditService(session=open_session, clock=SystemClock()).record(
            "note.late", resource_type="note", resource_id="late"
        )
        await write(cell, tenant, 2)
        assert await seal_all(sealers) == 2
        await open_session.rollback()
    await write(cell, tenant, 3)
    assert await seal_all(sealers) == 1
    assert await places(database, tenant) == [1, 2, 3]


async def test_a_place_follows_the_commit_within_a_bite_the_id(cell: Cell, database: Database, sealers: "Pool") -> None:
    tenant = await database.make_tenant(rows=0)
    for number in range(5):
        await write(cell, tenant, number)
    await seal_all(sealers)
    async with cell.session(scope_of(tenant)) as session:
        events = await AuditService(session=session, clock=SystemClock()).list_events(AuditFilter())
        assert [event.sequence for event in events] == [5, 4, 3, 2, 1]
        assert [event.resource_id for event in events] == [f"note-{number}" for number in (4, 3, 2, 1, 0)]
        found = await AuditService(session=session, clock=SystemClock()).get_event(events[0].event_id)
        assert found == events[0]


async def test_a_sealer_that_dies_has_sealed_nothing(cell: Cell, database: Database, sealers: "Pool") -> None:
    tenant = await database.make_tenant(rows=0)
    await write(cell, tenant, 1)

    async def die() -> None:
        async with platform_session(sealers) as connection:
            assert await seal(connection) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await die()
    assert await places(database, tenant) == []
    assert await seal_all(sealers) == 1
    assert await places(database, tenant) == [1]


async def test_what_is_stored_is_the_canonical_form_and_its_leaf(
    cell: Cell, database: Database, sealers: "Pool"
) -> None:
    """The columns beside it say the same, and nobody but the owner of the server can change either."""
    tenant = await database.make_tenant(rows=0)
    await write(cell, tenant, 1)
    await seal_all(sealers)
    async with cell.session(scope_of(tenant)) as session:
        event = (await AuditService(session=session, clock=SystemClock()).list_events(AuditFilter()))[0]
        row = await session.fetchrow(
            "select canonical, leaf, action, actor_type, actor_id, resource_id, occurred_at from audit_events"
        )
    assert row is not None
    assert row["canonical"] == canonical_bytes(event)
    assert row["leaf"] == leaf_hash(row["canonical"])
    assert (row["action"], row["actor_type"], row["actor_id"]) == ("note.made", "system", "tenantry")
    assert row["occurred_at"] == event.occurred_at
    for role in ("tenantry_app", "tenantry_sealer", "tenantry_dispatcher"):
        async with database.connected(role) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("update audit_events set leaf = leaf")
            if role == "tenantry_sealer":  # of what was signed away; here that is nothing
                assert await connection.execute("delete from audit_events") == "DELETE 0"
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("delete from audit_events")


async def test_an_effect_and_its_event_commit_together_or_not_at_all(cell: Cell, database: Database) -> None:
    tenant = await database.make_tenant()

    async def act(*, fails: bool) -> None:
        async with cell.session(scope_of(tenant)) as session:
            await session.execute("update jobs set detail = 'done' where tenant_id = $1", tenant)
            audit = AuditService(session=session, clock=SystemClock())
            await audit.record("job.marked", resource_type="job", resource_id="job")
            if fails:
                raise ZeroDivisionError

    for fails, expected in ((True, (0, 0)), (False, (1, 1))):
        try:
            await act(fails=fails)
        except ZeroDivisionError:
            assert fails
        async with cell.session(scope_of(tenant)) as session:
            marked = await session.fetchval("select count(*) from jobs where detail = 'done'")
            told = await session.fetchval("select count(*) from audit_events where action = 'job.marked'")
        assert (marked, told) == expected


async def test_an_event_whose_effect_cannot_be_recorded_stops_the_effect(cell: Cell, database: Database) -> None:
    """Audit down means the change down: an effect without its event does not happen."""
    tenant = await database.make_tenant()
    await database.alter("revoke insert on tenantry.audit_unsealed from tenantry_app")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):  # noqa: PT012 - the session is the block
            async with cell.session(scope_of(tenant)) as session:
                await session.execute("update jobs set detail = 'silent' where tenant_id = $1", tenant)
                audit = AuditService(session=session, clock=SystemClock())
                await audit.record("job.marked", resource_type="job", resource_id="job")
    finally:
        await database.alter("grant insert on tenantry.audit_unsealed to tenantry_app")
    async with cell.session(scope_of(tenant)) as session:
        assert await session.fetchval("select count(*) from jobs where detail = 'silent'") == 0


async def test_tiles_are_kept_as_the_tree_grows(cell: Cell, database: Database, sealers: "Pool") -> None:
    tenant = await database.make_tenant(rows=0)
    for count in (255, 2, 300):
        await write_many(cell, tenant, count)
        await seal_all(sealers, limit=100)
    assert await places(database, tenant) == list(range(1, 558))


async def test_a_trail_from_before_there_were_trees_gets_its_own_at_the_next_event(
    cell: Cell, database: Database, sealers: "Pool"
) -> None:
    tenant = await database.make_tenant(rows=0)
    await write_many(cell, tenant, 300)
    await seal_all(sealers)
    async with database.connected("superuser") as connection:
        await connection.execute("update tenantry.audit_heads set frontier = null where tenant_id = $1", tenant)
        await connection.execute("delete from tenantry.audit_tiles where tenant_id = $1", tenant)
    await write(cell, tenant, 1)
    await seal_all(sealers)
    assert await places(database, tenant) == list(range(1, 302))


@pytest.mark.parametrize("damage", ["set size = size - 1", "set frontier = frontier || '\\x00'", "set frontier = ''"])
async def test_a_damaged_tree_grows_no_further_and_holds_up_nobody_else(
    cell: Cell, database: Database, sealers: "Pool", damage: str
) -> None:
    tenant, other = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    await write_many(cell, tenant, 3)
    await seal_all(sealers)
    async with database.connected("superuser") as connection:
        before = await connection.fetchrow("select * from tenantry.audit_heads where tenant_id = $1", tenant)
        assert before is not None
        await connection.execute(f"update tenantry.audit_heads {damage} where tenant_id = $1", tenant)
    await write_many(cell, tenant, 3)
    await write_many(cell, other, 3)
    passed_over: set[UUID] = set()
    for _ in range(5):
        async with platform_session(sealers) as connection:
            await seal(connection, limit=3, passed_over=passed_over)
    assert tenant in passed_over
    assert other not in passed_over
    assert await places(database, other) == [1, 2, 3]
    async with database.connected("superuser") as connection:
        count = "select count(*) from tenantry.audit_unsealed where tenant_id = $1"
        assert await connection.fetchval(count, tenant) == 3
        await connection.execute(
            "update tenantry.audit_heads set size = $2, frontier = $3 where tenant_id = $1",
            tenant, before["size"], before["frontier"],
        )  # fmt: skip
    await seal_all(sealers)
    assert await places(database, tenant) == list(range(1, 7))


async def test_a_tree_that_was_set_back_as_a_whole_holds_up_nobody_else(
    cell: Cell, database: Database, sealers: "Pool"
) -> None:
    """Size and right edge agree, as in a backup of one table: it looks sound, and its next places are taken."""
    tenant, others = await database.make_tenant(rows=0), [await database.make_tenant(rows=0) for _ in range(3)]
    await write_many(cell, tenant, 3)
    await seal_all(sealers)
    head = "select size, frontier from tenantry.audit_heads where tenant_id = $1"
    set_back = "update tenantry.audit_heads set size = $2, frontier = $3 where tenant_id = $1"
    async with database.connected("superuser") as connection:
        old = await connection.fetchrow(head, tenant)
        await write_many(cell, tenant, 2)
        await seal_all(sealers)
        new = await connection.fetchrow(head, tenant)
        assert old is not None
        assert new is not None
        await connection.execute(set_back, tenant, *old)
        for each in (others[0], tenant, *others[1:]):
            await write_many(cell, each, 2)
        passed_over: set[UUID] = set()
        async with platform_session(sealers) as sealing:
            await seal(sealing, passed_over=passed_over)
        assert passed_over == {tenant}
        assert [await places(database, each) for each in others] == [[1, 2]] * 3
        await connection.execute(set_back, tenant, *new)
    await seal_all(sealers)
    assert await places(database, tenant) == list(range(1, 8))


async def test_an_event_that_is_made_to_wait_again_gets_no_second_place_and_holds_up_nobody(
    cell: Cell, database: Database, sealers: "Pool"
) -> None:
    """The application may insert what waits: whoever speaks for it must not stop the sealing of all."""
    tenant, other = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    await write(cell, tenant, 1)
    await seal_all(sealers)
    async with cell.session(scope_of(tenant)) as session:
        await session.execute(
            "insert into audit_unsealed (tenant_id, event_id) select tenant_id, event_id from audit_events"
        )
    await write(cell, other, 1)
    assert await seal_all(sealers) == 1
    assert await places(database, tenant) == [1]
    assert await places(database, other) == [1]
    async with database.connected("superuser") as connection:
        count = "select count(*) from tenantry.audit_unsealed where tenant_id = any($1::uuid[])"
        assert await connection.fetchval(count, [tenant, other]) == 0
