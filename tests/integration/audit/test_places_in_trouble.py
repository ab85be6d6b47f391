"""A schema in which something hangs or fails keeps nothing waiting that lies in others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from tests.integration.audit.test_checkpoints import CLOCK, checkpoints, notary
from tests.integration.audit.test_sealer import places, seal_all, sealers, write_many
from tests.integration.database.ground import Database

from tenantry.capabilities.audit.service import Notary, RegionLogs, WitnessFile
from tenantry.capabilities.audit.types import SignedCheckpoint, SignedRoot
from tenantry.capabilities.tenants.service import Directory
from tenantry.entrypoints import sealing
from tenantry.entrypoints.rounds import LOCK_SECONDS, Rounds
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import schema_at
from tenantry.foundation.database.platform_session import platform_session

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    from tenantry.foundation.database.pool import Connection, Pool

__all__ = ["notary", "sealers"]

pytestmark = pytest.mark.xdist_group("audit")


class Names:
    """What a directory says of places."""

    def __init__(self, *names: str) -> None:
        self._names = names

    async def list_places(self, _region: str) -> Sequence[str]:
        return self._names


class SharedLast(Rounds):
    """Comes to the schema of all others last."""

    async def databases(self) -> "AsyncIterator[tuple[str, Pool, list[str]]]":
        async for place, pool, schemas in super().databases():
            yield place, pool, schemas[::-1]


@pytest.fixture
async def behind(database: Database) -> AsyncIterator["Connection"]:
    async with database.connected("superuser") as connection:
        yield connection


@pytest.fixture
async def ill(behind: "Connection", sealers: "Pool") -> AsyncIterator[str]:
    """Two schemas in which something waits, and nothing is as it must be to seal or sign it; gives their names."""
    await seal_all(sealers)
    names = [f"t_{digit}{token_hex(16)[1:]}" for digit in "08"]
    for schema in map(schema_at, names):
        await behind.execute(f"create schema {schema}")
        for table in ("audit_unsealed (tenant_id uuid, event_id uuid)", "audit_unsigned (tenant_id uuid)"):
            await behind.execute(f"create table {schema}.{table}")
        await behind.execute(
            f"insert into {schema}.audit_unsealed values (gen_random_uuid(), gen_random_uuid());"
            f"insert into {schema}.audit_unsigned values (gen_random_uuid());"
            f"grant usage on schema {schema} to tenantry_sealer;"
            f"grant all on all tables in schema {schema} to tenantry_sealer"
        )
    yield ",".join(names)
    for schema in map(schema_at, names):
        await behind.execute(f"drop schema {schema} cascade")


@pytest.fixture
async def rounds(database: Database, ill: str) -> AsyncIterator[Rounds]:
    made = SharedLast(
        database.dsn("tenantry_sealer"),
        region="us",
        directory=cast("Directory", Names(*ill.split(","))),
        clock=CLOCK,
    )
    yield made
    await made.close()


class Telling(WitnessFile):
    """A witness that does something else before it is told."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, clock=CLOCK)
        self.loop = asyncio.get_running_loop()
        self.told = 0

    def tell(self, checkpoints: Sequence[SignedCheckpoint | SignedRoot]) -> None:
        self.told += 1
        asyncio.run_coroutine_threadsafe(self.meanwhile(), self.loop).result(timeout=20)
        super().tell(checkpoints)

    async def meanwhile(self) -> None:
        """Do what is done while it takes its time."""


def region_logs(sealers: "Pool", notary: Notary, witness: WitnessFile) -> RegionLogs:
    @asynccontextmanager
    async def opened() -> "AsyncIterator[PoolConnectionProxy[asyncpg.Record]]":
        async with platform_session(sealers) as connection:
            yield connection

    return RegionLogs({"us": opened}, notaries={"us": notary}, witnesses={"us": witness})


async def test_what_fails_in_one_schema_holds_up_no_other(
    cell: Cell, database: Database, rounds: Rounds, sealers: "Pool", notary: Notary, tmp_path: Path
) -> None:
    tenant, witness = await database.make_tenant(rows=0), WitnessFile(tmp_path, clock=CLOCK)
    logs = region_logs(sealers, notary, witness)
    await write_many(cell, tenant, 1)
    await sealing.seal_all(rounds, sealing.Damaged(CLOCK))
    assert await places(database, tenant) == [1]
    await sealing.sign_all(rounds, notary=notary, witness=witness, logs=logs, thin=False)
    [made] = await checkpoints(database, tenant)
    assert (await logs.anchor("us", made.note)).root.size >= 1, "the region's own log is signed behind them"


async def test_a_lock_in_one_schema_holds_up_others_for_a_moment_and_then_not_at_all(
    cell: Cell, database: Database, behind: "Connection", ill: str, rounds: Rounds
) -> None:
    """As `alter`, `drop` or `truncate` take it; the statement that asks all schemas at once would wait for it."""
    tenant, loop = await database.make_tenant(rows=0), asyncio.get_running_loop()
    schema, damaged = schema_at(ill.split(",", maxsplit=1)[0]), sealing.Damaged(CLOCK)
    async with behind.transaction():
        await behind.execute(f"lock table {schema}.audit_unsealed in access exclusive mode")
        took = []
        for number in range(3):
            await write_many(cell, tenant, 1)
            began = loop.time()
            await sealing.seal_all(rounds, damaged)
            took.append(loop.time() - began)
            assert len(await places(database, tenant)) == number + 1
    assert took[0] < 5
    assert max(took[1:]) < LOCK_SECONDS, took


async def test_a_signer_ends_however_busy_a_log_is_and_nobody_waits_for_its_witness(
    cell: Cell, database: Database, rounds: Rounds, sealers: "Pool", notary: Notary, tmp_path: Path
) -> None:
    tenant = await database.make_tenant(rows=0)

    class Busy(Telling):
        async def meanwhile(self) -> None:
            """Another event, and its place, each time that one is signed for: the sealer passes the gate."""
            await write_many(cell, tenant, 1)
            async with asyncio.timeout(10):
                await seal_all(sealers)

    witness = Busy(tmp_path)
    logs = region_logs(sealers, notary, WitnessFile(tmp_path, clock=CLOCK))
    await write_many(cell, tenant, 1)
    await seal_all(sealers)
    for size in (1, 2):
        await sealing.sign_all(rounds, notary=notary, witness=witness, logs=logs, thin=False)
        assert witness.told == size
        assert [one.size for one in await checkpoints(database, tenant)] == list(range(1, size + 1))
    assert await places(database, tenant) == [1, 2, 3]


async def test_a_damaged_tree_is_told_of_once_and_not_looked_at_in_each_round(
    cell: Cell, database: Database, behind: "Connection", rounds: Rounds, sealers: "Pool"
) -> None:
    tenant, other = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    await write_many(cell, tenant, 1)
    await seal_all(sealers)
    damage = "update tenantry.audit_heads set frontier = $2 where tenant_id = $1"
    sound = await behind.fetchval("select frontier from tenantry.audit_heads where tenant_id = $1", tenant)
    await behind.execute(damage, tenant, b"")
    await write_many(cell, tenant, 1)
    damaged = sealing.Damaged(CLOCK)
    with capture_logs() as told:
        for number in range(4):
            await write_many(cell, other, 1)
            await sealing.seal_all(rounds, damaged)
            assert len(await places(database, other)) == number + 1
    assert [line["tenant"] for line in told if line["event"] == "audit.tree_damaged"] == [str(tenant)]
    await behind.execute(damage, tenant, sound)
    await sealing.seal_all(rounds, sealing.Damaged(CLOCK))
    assert await places(database, tenant) == [1, 2]


def test_a_tree_that_was_found_damaged_is_looked_at_again_after_a_minute() -> None:
    class Turned(SystemClock):
        ahead = 0.0

        def monotonic(self) -> float:
            return self.ahead

    clock, tenant, other = Turned(), UUID(int=1), UUID(int=2)
    damaged = sealing.Damaged(clock)
    damaged.note("shared", "tenantry", {tenant})
    clock.ahead = 40.0
    assert damaged.at("shared", "tenantry") == {tenant}
    assert damaged.at("shared", "t_other") == set()
    damaged.note("shared", "tenantry", {tenant, other})
    clock.ahead = 61.0
    assert damaged.at("shared", "tenantry") == {other}
