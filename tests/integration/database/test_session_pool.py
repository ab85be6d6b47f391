"""The shelf of a pool: what one session leaves there is clean, nobody starves, and nothing stays lent for ever."""

import asyncio

import pytest
from tests.integration.database.ground import Database, scope_of

from tenantry.foundation.database import pool as pools
from tenantry.foundation.database.cells import Cell


async def test_a_connection_comes_from_the_shelf_without_a_trace_of_its_former_borrower(database: Database) -> None:
    mine, other = await database.make_tenant(), await database.make_tenant()
    async with database.cell(pool_size=2) as cell:
        pids = set()
        for tenant in (mine, other):
            async with cell.session(scope_of(tenant)) as session:
                pids.add(await session.fetchval("select pg_backend_pid()"))
                assert await session.fetchval("select fence.tenant()") == tenant
                assert await session.fetchval("show search_path") == "tenantry, pg_temp"
                await session.execute("set search_path = pg_catalog")
        connection = await cell.pool.take()
        assert await connection.fetchval("select current_setting('app.ctx', true)") == ""
        await cell.pool.shelve(connection)
    assert len(pids) == 1


async def test_a_connection_in_a_transaction_is_never_shelved(database: Database) -> None:
    async with database.cell(pool_size=2) as cell:
        connection = await cell.pool.take()
        await connection.execute("begin")
        await cell.pool.shelve(connection)
        again = await cell.pool.take()
        assert not again.is_in_transaction()
        await cell.pool.shelve(again)


async def test_a_connection_that_died_on_the_shelf_is_not_lent(database: Database) -> None:
    tenant = await database.make_tenant()
    async with database.cell(pool_size=3) as cell:
        async with cell.session(scope_of(tenant)) as session:
            pid = await session.fetchval("select pg_backend_pid()")
        async with database.connected("superuser") as superuser:
            assert await superuser.fetchval("select pg_terminate_backend($1, 10000)", pid)  # returns when it is gone
            await superuser.execute("select 1")  # by then the loop has read the end of the other
        async with cell.session(scope_of(tenant)) as session:
            assert await session.fetchval("select pg_backend_pid()") != pid


async def test_who_waits_is_served_before_the_shelf_and_direct_users_do_not_starve(database: Database) -> None:
    tenant = await database.make_tenant()

    async def use(cell: pools.SessionPool) -> None:
        connection = await cell.take()
        await connection.execute("select 1")
        await cell.shelve(connection)

    async with database.cell(pool_size=3) as cell:
        await asyncio.wait_for(asyncio.gather(*(use(cell.pool) for _ in range(60))), timeout=20)
        await asyncio.wait_for(cell.ping(), timeout=5)
        async with cell.session(scope_of(tenant)) as session:
            assert await session.fetchval("select 1") == 1


@pytest.mark.parametrize("size", [2, 3, 10])
async def test_who_holds_one_passes_those_that_wait_for_their_first(database: Database, size: int) -> None:
    tenant = await database.make_tenant()

    async def use(cell: Cell) -> None:
        async with cell.session(scope_of(tenant)) as session:
            await session.fetchval("select 1")
            async with cell.session(scope_of(tenant), beside=True) as beside:
                assert await beside.fetchval("select 1") == 1

    async with database.cell(pool_size=size) as cell:
        await asyncio.wait_for(asyncio.gather(*(use(cell) for _ in range(8 * size))), timeout=20)
        assert cell.pool._room._value == max(1, size - max(1, size // 5))


async def test_who_waited_in_vain_leaves_its_room(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database.cell(pool_size=2) as cell:
        held = await cell.pool.take()
        monkeypatch.setattr(pools, "ACQUIRE_SECONDS", 0.01)  # now that it is connected, which takes the time it takes
        with pytest.raises(TimeoutError):
            await cell.pool.take()
        await cell.pool.shelve(held)
        again = await cell.pool.take()
        await cell.pool.release(again)
        assert cell.pool._room._value == 1


async def test_what_nobody_takes_goes_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "SHELF_SECONDS", 0.01)
    tenant = await database.make_tenant()
    async with database.cell(pool_size=2) as cell:
        async with cell.session(scope_of(tenant)) as session:
            await session.fetchval("select 1")
        clearing = cell.pool._clearing
        assert clearing is not None
        await clearing
        assert cell.pool.get_idle_size() == cell.pool.get_size()
