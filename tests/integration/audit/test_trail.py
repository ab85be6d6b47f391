"""The trail of reads and refusals: bounded, in order, and closed for the tenant whose events cannot be kept, only."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from tests.integration.database.ground import Database, scope_of

from tenantry.capabilities.audit.errors import TrailFull
from tenantry.capabilities.audit.service import AuditTrail, make_event
from tenantry.capabilities.audit.types import Outcome
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import ErrorKind, Unavailable
from tenantry.foundation.scope import TenantScope

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

pytestmark = pytest.mark.xdist_group("audit")


async def _nowhere_else(_tenant_id: UUID) -> str | None:
    return None


def make_trail(
    cell: Cell,
    *,
    capacity: int = 100,
    flush_seconds: float = 0.0,
    sample_reads: float = 1.0,
    gate: Callable[[TenantScope], None] = lambda _scope: None,
) -> AuditTrail:
    """A trail over the real database; `gate` may refuse to open a session, as a database that is away does."""

    def open_session(scope: TenantScope) -> TenantSession:
        gate(scope)
        return cell.session(scope, lifecycle=True, lock_seconds=2.0)

    return AuditTrail(
        region="us",
        open_session=open_session,
        find_region=_nowhere_else,
        clock=SystemClock(),
        flush_seconds=flush_seconds,
        capacity=capacity,
        sample_reads=sample_reads,
    )


def note(trail: AuditTrail, tenant: UUID, number: int) -> None:
    trail.note(scope_of(tenant), action="thing.read", resource_type="thing", resource_id=f"thing-{number}")


async def kept(cell: Cell, tenant: UUID) -> list[str]:
    async with cell.session(scope_of(tenant), lifecycle=True) as session:
        rows = await session.fetch("select resource_id from audit_events order by event_id")
        waiting = await session.fetchval("select count(*) from audit_unsealed")
    assert waiting == len(rows)
    return [row["resource_id"] for row in rows]


def things(count: int, start: int = 0) -> list[str]:
    return [f"thing-{number}" for number in range(start, start + count)]


def away_for(broken: set[UUID]) -> Callable[[TenantScope], None]:
    def gate(scope: TenantScope) -> None:
        if scope.tenant_id in broken:
            raise Unavailable("database_unavailable", "away")

    return gate


async def until(condition: Callable[[], object]) -> None:
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came about")


async def test_events_are_kept_in_their_order(cell: Cell, database: Database) -> None:
    """More than one batch of them, of two tenants, taken turn by turn."""
    mine, theirs = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    trail = make_trail(cell, capacity=3000)
    for number in range(2100):
        note(trail, mine, number)
        note(trail, theirs, number)
    await trail.flush()
    assert await kept(cell, mine) == things(2100)
    assert await kept(cell, theirs) == things(2100)


async def test_what_waits_is_kept_when_the_trail_stops(cell: Cell, database: Database) -> None:
    tenant = await database.make_tenant(rows=0)
    trail = make_trail(cell, flush_seconds=0.2)
    trail.start()
    for number in range(10):
        note(trail, tenant, number)
    await trail.stop()
    assert await kept(cell, tenant) == things(10)


async def test_a_flush_under_way_is_not_lost_by_the_stop(cell: Cell, database: Database) -> None:
    """Stopped in the middle of each of its steps: nothing is lost and nothing is kept twice."""
    tenant = await database.make_tenant(rows=0)
    for round_ in range(8):
        trail = make_trail(cell)
        trail.start()
        for number in range(10):
            note(trail, tenant, round_ * 10 + number)
        for _ in range(round_ * 3):
            await asyncio.sleep(0)
        await trail.stop()
    assert await kept(cell, tenant) == things(80)


async def test_the_trail_writes_by_itself(cell: Cell, database: Database) -> None:
    tenant = await database.make_tenant(rows=0)
    trail = make_trail(cell)
    trail.start()
    try:
        for start in (0, 5):
            for number in range(start, start + 5):
                note(trail, tenant, number)
            await until(lambda: not trail._waiting)
    finally:
        await trail.stop()
    assert await kept(cell, tenant) == things(10)


async def test_a_tenant_that_floods_is_refused_and_no_other(cell: Cell, database: Database) -> None:
    flooding, quiet = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    trail = make_trail(cell, capacity=10)
    for number in range(10):
        note(trail, flooding, number)
    with pytest.raises(TrailFull) as refused:
        note(trail, flooding, 10)
    assert (refused.value.kind, refused.value.code) == (ErrorKind.UNAVAILABLE, "audit_unavailable")
    assert refused.value.fields["retry_after"] == 1
    note(trail, quiet, 0)
    await trail.flush()
    note(trail, flooding, 10)
    await trail.flush()
    assert await kept(cell, flooding) == things(11)
    assert await kept(cell, quiet) == things(1)


async def test_a_tenant_whose_events_cannot_be_kept_is_refused_and_no_other(cell: Cell, database: Database) -> None:
    """For as long as it lasts, and never more than its share of memory; afterwards all of it is kept, in order."""
    broken, sound = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    away = {broken}
    trail = make_trail(cell, capacity=10, gate=away_for(away))
    accepted = refused = 0
    for number in range(50):
        try:
            note(trail, broken, number)
            accepted += 1
        except TrailFull:
            refused += 1
        note(trail, sound, number)
        await trail.flush()
    assert (accepted, refused) == (10, 40)
    assert await kept(cell, sound) == things(50)
    assert await kept(cell, broken) == []
    away.clear()
    await trail.flush()
    assert await kept(cell, broken) == things(10)
    note(trail, broken, 10)


async def test_an_error_of_ours_in_one_tenants_events_does_not_end_the_trail(cell: Cell, database: Database) -> None:
    broken, sound = await database.make_tenant(rows=0), await database.make_tenant(rows=0)

    def gate(scope: TenantScope) -> None:
        if scope.tenant_id == broken:
            raise ZeroDivisionError

    trail = make_trail(cell, gate=gate)
    trail.start()
    try:
        note(trail, broken, 0)
        note(trail, sound, 0)
        await until(lambda: sound not in trail._waiting)
        note(trail, sound, 1)
        await until(lambda: sound not in trail._waiting)
    finally:
        await trail.stop()
    assert await kept(cell, sound) == things(2)


async def hanging(connection: "Connection", trail: AuditTrail, tenants: list[UUID]) -> None:
    """Let the inserts of these wait: what they are about to write is there already, and not committed."""
    await connection.execute("set local session_replication_role = replica")
    for tenant in tenants:
        await connection.execute(
            """insert into tenantry.audit_events (tenant_id, event_id, occurred_at, actor_type, actor_id, action,
                   resource_type, resource_id, outcome, canonical, leaf)
               values ($1, $2, now(), 'x', 'x', 'x', 'x', 'x', 'success', '', decode(repeat('00', 32), 'hex'))""",
            tenant,
            trail._waiting[tenant][0].event.event_id,
        )


@pytest.mark.parametrize("count", [1, 6])
async def test_a_tenant_whose_writes_hang_holds_up_no_other(count: int, cell: Cell, database: Database) -> None:
    """Six hang, which is more than are flushed at once, then one is served as soon as these give up."""
    stuck = [await database.make_tenant(rows=0) for _ in range(count)]
    sound, loop = await database.make_tenant(rows=0), asyncio.get_running_loop()
    trail = make_trail(cell)
    for tenant in stuck:
        note(trail, tenant, 0)
    async with database.connected("superuser") as connection:
        blocking = connection.transaction()
        await blocking.start()
        await hanging(connection, trail, stuck)
        trail.start()
        await until(lambda: len(trail._writing) == count)
        took = []
        for number in range(10):
            began = loop.time()
            note(trail, sound, number)
            await until(lambda: sound not in trail._waiting)
            took.append(loop.time() - began)
        assert set(trail._waiting) == set(stuck)
        assert not await trail.flush(), "one that is asked for waits, and says what could not be written"
        await blocking.rollback()
    await trail.stop()
    assert max(took) < (1.0 if count == 1 else 6.0), took
    assert sum(took) < (1.0 if count == 1 else 8.0), took
    assert await kept(cell, sound) == things(10)
    for tenant in stuck:
        assert await kept(cell, tenant) == things(1)


async def test_what_waits_at_a_flush_is_written_by_it_also_behind_one_under_way(cell: Cell, database: Database) -> None:
    tenant = await database.make_tenant(rows=0)
    trail = make_trail(cell, capacity=3000)
    note(trail, tenant, 0)
    flushes = [asyncio.create_task(trail.flush())]
    await asyncio.sleep(0)
    for number in range(1, 5):
        note(trail, tenant, number)
        flushes.append(asyncio.create_task(trail.flush()))
        await asyncio.sleep(0)
    assert all(await asyncio.gather(*flushes))
    assert await kept(cell, tenant) == things(5)


@pytest.mark.parametrize(
    "fields",
    [
        {"resource_id": "a\0b"},
        {"resource_id": "\ud800"},
        {"reason": "\udfff"},
        {"details": {"n": 2**53}},
        {"details": {"n": float("nan")}},
        {"details": {"n": object()}},
        {"details": {"\ud800": 1}},
    ],
)
async def test_an_event_without_a_canonical_form_is_refused_at_once(
    cell: Cell, database: Database, fields: dict[str, object]
) -> None:
    """It would hold up all events behind it."""
    tenant = await database.make_tenant(rows=0)
    trail = make_trail(cell)
    with pytest.raises(ValueError, match=r".+"):
        trail.note(
            scope_of(tenant),
            **{"action": "thing.read", "resource_type": "thing", "resource_id": "thing"} | fields,  # type: ignore[arg-type]
        )
    note(trail, tenant, 0)
    await trail.flush()
    assert await kept(cell, tenant) == things(1)


async def test_events_whose_commit_was_not_confirmed_are_not_kept_twice(cell: Cell, database: Database) -> None:
    """Not even when they were sealed meanwhile: a second place would stop the sealer for everybody."""
    tenant = await database.make_tenant(rows=0)
    trail = make_trail(cell)
    for number in range(3):
        note(trail, tenant, number)
    waiting = list(trail._waiting[tenant])
    await trail.flush()
    await database.alter(f"delete from tenantry.audit_unsealed where tenant_id = '{tenant}'")
    trail._waiting[tenant] = waiting
    note(trail, tenant, 3)
    await trail.flush()
    async with cell.session(scope_of(tenant)) as session:
        assert await session.fetchval("select count(*) from audit_events") == 4
        assert await session.fetchval("select count(*) from audit_unsealed") == 1


async def test_a_suspended_tenants_refusals_are_kept(cell: Cell, database: Database) -> None:
    tenant = await database.make_tenant(rows=0, mode="suspended")
    trail = make_trail(cell)
    trail.note(
        scope_of(tenant),
        action="credential.refused",
        resource_type="key",
        resource_id="thing-0",
        outcome=Outcome.DENIED,
        reason="tenant_suspended",
    )
    await trail.flush()
    assert await kept(cell, tenant) == things(1)


async def test_reads_are_sampled_where_the_installation_says_so_refusals_never(cell: Cell, database: Database) -> None:
    tenant = await database.make_tenant(rows=0)
    fields: dict[str, Any] = {"action": "thing.read", "resource_type": "thing", "resource_id": "thing"}
    for share, low, high in ((1.0, 400, 400), (0.0, 0, 0), (0.25, 50, 150)):
        trail = make_trail(cell, capacity=1000, sample_reads=share)
        for _ in range(400):
            trail.read(scope_of(tenant), **fields)
        assert low <= len(trail._waiting.get(tenant, ())) <= high
        before = len(trail._waiting.get(tenant, ()))
        for _ in range(50):
            trail.note(scope_of(tenant), **fields, outcome=Outcome.DENIED)
        assert len(trail._waiting[tenant]) == before + 50


async def test_an_event_says_who_did_it_for_whom(database: Database) -> None:
    tenant = await database.make_tenant(rows=0)
    scope = scope_of(tenant)
    event = make_event(scope, clock=SystemClock(), action="a.b", resource_type="a", resource_id="x")
    assert (event.tenant_id, event.actor, event.workspace_id) == (tenant, scope.actor, None)
    assert event.outcome is Outcome.SUCCESS
    assert event.occurred_at.tzinfo is not None
