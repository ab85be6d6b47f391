"""Weights and caps of a tenant with a database of its own reach the queue of its cell, which hands out its jobs."""

from uuid import UUID

from tests.integration.places.conftest import Eyes, MakeGround

from tenantry.capabilities.sandboxes.service import QueueRelay
from tenantry.capabilities.sandboxes.service.queue import QUEUE
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.database.places import database_of
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import SYSTEM, TenantScope

NIL = UUID(int=0)


async def shares(eyes: Eyes, database: str, tenant: UUID) -> dict[UUID, tuple[float, int | None]]:
    async with eyes.on(database) as connection:
        query = "select workspace_id, weight, most_running from queue.shares where tenant_id = $1"
        return {row[0]: (row[1], row[2]) for row in await connection.fetch(query, tenant)}


async def test_changed_shares_are_told_and_told_again(make_ground: MakeGround, parts: Parts, eyes: Eyes) -> None:
    tenant = make_ground(isolation="database_level").tenant_id
    workspace, cell, own = new_id(), parts.cells.get("us"), database_of("us", tenant)
    scope = TenantScope(tenant_id=tenant, region="us", actor=SYSTEM)
    rounds = Rounds(
        parts.addresses.cells["us"].dispatcher,
        region="us",
        directory=parts.directory,
        clock=parts.clock,
        look_seconds=0.0,
    )
    relay = QueueRelay(cell=cell, databases=rounds)

    async def put(weight: float, most: int | None) -> None:
        async with cell.session(scope) as session:
            connection = await session.connection()
            await QUEUE.set_share(connection, keys=(tenant,), weight=weight, most_running=most)
            await QUEUE.set_share(connection, keys=(tenant, workspace), most_running=most)

    async def told() -> dict[UUID, tuple[float, int | None]]:
        rounds.stir(own)
        await relay.relay()
        return await shares(eyes, "tenantry_us", tenant)

    try:
        await put(2.0, 5)
        assert await told() == {NIL: (2.0, 5), workspace: (1.0, 5)}
        async with eyes.on(own) as connection:  # as after a crash between the two commits
            assert await connection.fetchval("select count(*) from queue.shares where changed") == 0
            await connection.execute("update queue.shares set changed = true")
        assert await told() == {NIL: (2.0, 5), workspace: (1.0, 5)}
        await put(2.0, 7)
        assert await told() == {NIL: (2.0, 7), workspace: (1.0, 7)}
        await put(1.0, None)
        assert set((await told()).values()) <= {(1.0, None)}
        assert await shares(eyes, own, tenant) == {}, "a share that says nothing special is no row"
    finally:
        await rounds.close()
