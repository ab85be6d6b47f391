"""Sessions: their round trips, what they leave behind on a pooled connection, and how they end."""

# ruff: noqa: PT012 - a session is its block: what is refused stands inside of it

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.integration.database.ground import Database, scope_of
from tests.integration.database.wiretap import wiretapped

from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell, open_cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Conflict, Fault, TenantryError, Unavailable

pytestmark = pytest.mark.xdist_group("database")

COUNT = "select count(*) from jobs"
OUTBOX = "insert into outbox (tenant_id, event_id, topic, payload) values ($1, $2, 'news', '{}')"


@pytest.fixture(scope="module")
async def tenant(database: Database) -> UUID:
    return await database.make_tenant()


@pytest.fixture
async def narrow(database: Database) -> AsyncIterator[Cell]:
    """A cell with one connection: whoever comes next gets the one that was just given back."""
    async with database.cell(pool_size=1) as cell:
        yield cell


async def news_of(session: TenantSession) -> int:
    return int(await session.fetchval("select count(*) from outbox where topic = 'news'"))


async def assert_clean(cell: Cell) -> None:
    """The connection shows nothing to whoever has it next, and is in no transaction."""
    async with cell.pool.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("select coalesce(current_setting('app.ctx', true), '')") == ""
        assert await connection.fetchval("select count(*) from tenantry.jobs") == 0
        assert await connection.fetchval("select current_setting('search_path')") == "tenantry, pg_temp"
        assert await connection.fetchval("select current_setting('statement_timeout')") == "30s"


async def test_a_bound_read_takes_three_round_trips(database: Database, tenant: UUID) -> None:
    """BEGIN with the context, the read, COMMIT with RESET ALL; one more for the first preparation of a statement."""
    async with wiretapped(database) as tap:
        cell = await open_cell(
            "us", tap.dsn, context_master=database.ground.secrets.context_key, pool_size=1, clock=SystemClock()
        )
        try:
            trips = []
            for _ in range(3):
                before = tap.trips
                async with cell.session(scope_of(tenant)) as session:
                    assert await session.fetchval(COUNT) == 1
                trips.append(tap.trips - before)
            assert trips == [4, 3, 3]
            before = tap.trips
            async with cell.session(scope_of(tenant)) as session:
                for _ in range(5):
                    await session.fetchval(COUNT)
            assert tap.trips - before == 7
            before = tap.trips
            async with cell.session(scope_of(tenant)):
                pass
            assert tap.trips == before
        finally:
            await cell.close()


async def test_leaving_commits_and_an_exception_rolls_back(database: Database, narrow: Cell) -> None:
    tenant = await database.make_tenant(rows=0)
    called: list[str] = []
    async with narrow.session(scope_of(tenant)) as session:
        await session.execute(OUTBOX, tenant, uuid4())
        session.after_commit(lambda: called.append("kept"))
        assert called == []
    assert called == ["kept"]
    with pytest.raises(ZeroDivisionError):
        async with narrow.session(scope_of(tenant)) as session:
            await session.execute(OUTBOX, tenant, uuid4())
            session.after_commit(lambda: called.append("lost"))
            raise ZeroDivisionError
    async with narrow.session(scope_of(tenant)) as session:
        assert await news_of(session) == 1
    assert called == ["kept"]


async def test_a_session_may_go_on_after_a_commit_and_after_a_rollback(database: Database, narrow: Cell) -> None:
    """Each time bound anew; what was announced is called once."""
    tenant = await database.make_tenant(rows=0)
    called: list[int] = []
    async with narrow.session(scope_of(tenant)) as session:
        await session.execute(OUTBOX, tenant, uuid4())
        session.after_commit(lambda: called.append(1))
        await session.commit()
        await session.execute(OUTBOX, tenant, uuid4())
        session.after_commit(lambda: called.append(2))
        await session.rollback()
        assert await news_of(session) == 1
        await session.execute(OUTBOX, tenant, uuid4())
    assert called == [1]
    async with narrow.session(scope_of(tenant)) as session:
        assert await news_of(session) == 2


async def test_a_commit_that_fails_calls_nothing(database: Database, narrow: Cell) -> None:
    tenant = await database.make_tenant()
    called: list[int] = []
    await database.alter("alter table tenantry.jobs alter constraint jobs_tenant_id_workspace_id_fkey deferrable")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with narrow.session(scope_of(tenant)) as session:
            await session.execute("set constraints all deferred")
            await session.execute("update jobs set workspace_id = $1", uuid4())
            session.after_commit(lambda: called.append(1))
    await database.alter("alter table tenantry.jobs alter constraint jobs_tenant_id_workspace_id_fkey not deferrable")
    assert called == []
    await assert_clean(narrow)


async def test_two_tasks_cannot_share_a_session(narrow: Cell, tenant: UUID) -> None:
    """Whether it is bound already or not: the second one is told, the first one goes on."""
    for bound in (False, True):
        async with narrow.session(scope_of(tenant)) as session:
            if bound:
                await session.fetchval(COUNT)
            results = await asyncio.gather(session.fetchval(COUNT), session.fetchval(COUNT), return_exceptions=True)
            assert results[0] == 1
            assert isinstance(results[1], Fault)
            assert results[1].code == "session_shared"
            assert await session.fetchval(COUNT) == 1


async def test_a_failure_that_was_passed_over_is_not_committed_as_nothing(database: Database, narrow: Cell) -> None:
    """PostgreSQL answers COMMIT of a broken transaction with a rollback, and no error."""
    tenant = await database.make_tenant(rows=0)
    called: list[int] = []
    with pytest.raises(Fault) as refused:
        async with narrow.session(scope_of(tenant)) as session:
            await session.execute(OUTBOX, tenant, uuid4())
            session.after_commit(lambda: called.append(1))
            with pytest.raises(asyncpg.DivisionByZeroError):
                await session.fetchval("select 1 / 0")
    assert refused.value.code == "transaction_broken"
    assert called == []
    async with narrow.session(scope_of(tenant)) as session:
        assert await news_of(session) == 0
    await assert_clean(narrow)


async def test_nothing_is_left_after_an_error(narrow: Cell, tenant: UUID) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with narrow.session(scope_of(tenant)) as session:
            await session.fetchval("select 1 / 0")
    await assert_clean(narrow)


async def test_nothing_is_left_after_a_cancellation(narrow: Cell, tenant: UUID) -> None:
    """In the middle of a query, and between two."""

    async def work(query: str) -> None:
        async with narrow.session(scope_of(tenant)) as session:
            await session.fetchval(COUNT)
            started.set()
            await session.fetchval(query)
            await asyncio.Event().wait()

    for query in ("select count(*) from jobs, lateral pg_sleep(20)", "select 1"):
        started = asyncio.Event()
        task = asyncio.create_task(work(query))
        await started.wait()
        await asyncio.sleep(0.05)  # into the query, or beyond it
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await assert_clean(narrow)


async def test_nothing_is_left_after_a_timeout(narrow: Cell, tenant: UUID) -> None:
    """Of the client and of the server: the latter may be repeated."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), narrow.session(scope_of(tenant)) as session:
            await session.fetchval("select count(*) from jobs, lateral pg_sleep(20)")
    await assert_clean(narrow)
    with pytest.raises(Unavailable) as given_up:
        async with narrow.session(scope_of(tenant)) as session:
            await session.execute("set local statement_timeout = '20ms'")
            await session.fetchval("select count(*) from jobs, lateral pg_sleep(20)")
    assert given_up.value.code == "database_unavailable"
    await assert_clean(narrow)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_what_injected_sql_sets_for_the_connection_is_gone_with_its_session(
    narrow: Cell, tenant: UUID, ending: str
) -> None:
    async with narrow.session(scope_of(tenant)) as session:
        context = await session.fetchval("select current_setting('app.ctx')")
        for injected in (
            "commit",
            f"set app.ctx = '{context}'",
            "set search_path = pg_catalog",
            "set statement_timeout = 0",
            "begin",
        ):
            await session.execute(injected)
        if ending == "rollback":
            await session.rollback()
    await assert_clean(narrow)


async def test_a_statement_prepared_by_injected_sql_is_not_run_by_the_next_borrower(
    database: Database, narrow: Cell
) -> None:
    """A driver that counts its statements' names up lets one borrower exchange a statement of the next one's."""
    mine, theirs = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    async with narrow.session(scope_of(mine)) as session:
        await session.execute(OUTBOX, mine, uuid4())
    swap = 'prepare "{}" (uuid, uuid) as update outbox set topic = $1::text || $2::text where false'
    async with narrow.session(scope_of(theirs)) as session:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.fetch("select name from pg_prepared_statements")
        await session.rollback()
        for number in range(1, 300):
            for name in (f"__asyncpg_stmt_{number:x}__", f"stmt_{number:x}"):
                try:
                    await session.execute(f'deallocate "{name}"')
                except asyncpg.InvalidSQLStatementNameError:
                    await session.rollback()
                    continue
                pytest.fail(f"the name of a prepared statement was guessed: {name}: then {swap.format(name)}")
    async with narrow.session(scope_of(mine)) as session:
        await session.execute(OUTBOX, mine, uuid4())
        assert await news_of(session) == 2


async def test_a_connection_that_was_terminated_reads_as_unavailable_and_is_replaced(
    database: Database, narrow: Cell, tenant: UUID
) -> None:
    with pytest.raises(Unavailable):
        async with narrow.session(scope_of(tenant)) as session:
            pid = await session.fetchval("select pg_backend_pid()")
            await database.alter(f"select pg_terminate_backend({pid})")
            await session.fetchval(COUNT)
    async with narrow.session(scope_of(tenant)) as session:
        assert await session.fetchval(COUNT) == 1
        assert await session.fetchval("select pg_backend_pid()") != pid


async def test_an_idle_connection_that_was_terminated_costs_one_request_at_most(
    database: Database, tenant: UUID
) -> None:
    async with database.cell(pool_size=3) as cell:
        async with cell.session(scope_of(tenant)) as session:
            pid = await session.fetchval("select pg_backend_pid()")
        await database.alter(f"select pg_terminate_backend({pid})")
        failures = 0
        for _ in range(5):
            try:
                async with cell.session(scope_of(tenant)) as session:
                    assert await session.fetchval(COUNT) == 1
            except Unavailable:
                failures += 1
        assert failures <= 1


async def test_no_free_connection_reads_as_unavailable(
    narrow: Cell, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with narrow.session(scope_of(tenant)) as session:
        await session.fetchval(COUNT)
        monkeypatch.setattr("tenantry.foundation.database.pool.ACQUIRE_SECONDS", 0.05)
        with pytest.raises(Unavailable):
            async with narrow.session(scope_of(tenant)) as other:
                await other.fetchval(COUNT)
    async with narrow.session(scope_of(tenant)) as session:
        assert await session.fetchval(COUNT) == 1


async def test_a_lock_that_is_held_reads_as_a_conflict(database: Database) -> None:
    tenant = await database.make_tenant()
    async with database.cell() as cell, cell.session(scope_of(tenant)) as first:
        await first.execute("update jobs set detail = 'mine'")
        with pytest.raises(Conflict):
            async with cell.session(scope_of(tenant)) as second:
                await second.execute("set local lock_timeout = '20ms'")
                await second.execute("update jobs set detail = 'theirs'")


async def test_a_database_that_is_not_there_reads_as_unavailable(database: Database) -> None:
    gone = database.dsn().replace("port=5432", "port=5433")
    with pytest.raises(TenantryError) as refused:
        await open_cell("us", gone, context_master=b"", pool_size=1, clock=SystemClock())
    assert refused.value.code == "database_unavailable"
    assert database.ground.secrets.passwords["tenantry_app"] not in refused.value.message


async def test_a_session_that_never_asks_takes_no_connection(narrow: Cell, tenant: UUID) -> None:
    async with narrow.pool.acquire(), narrow.session(scope_of(tenant)) as session:
        await session.commit()
        await session.rollback()


async def test_a_connection_on_loan_is_bound_too(narrow: Cell, tenant: UUID) -> None:
    async with narrow.session(scope_of(tenant)) as session:
        connection = await session.connection()
        assert await connection.fetchval(COUNT) == 1
        assert await session.connection() is connection
        with pytest.raises(asyncpg.UniqueViolationError):
            await session.executemany(OUTBOX, [(tenant, tenant), (tenant, tenant)])
        await session.rollback()
