"""Checkpoints: signed for what has grown, told to the witness first, and each the beginning of the next."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from tests.integration.audit.test_sealer import seal_all, write_many
from tests.integration.database.ground import Database, scope_of

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import WitnessSilent
from tenantry.capabilities.audit.service import AuditService, LogService, Notary, WitnessFile, sign_grown
from tenantry.capabilities.audit.types import AuditFilter, SignedCheckpoint, canonical_bytes
from tenantry.engines.merkle.checkpoints import Checkpoint, open_checkpoint
from tenantry.engines.merkle.errors import NoteError
from tenantry.engines.merkle.proofs import consistency_plan, verify_consistency, verify_inclusion
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.errors import NotFound, Unavailable
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.log_keys import LogKeys

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

pytestmark = pytest.mark.xdist_group("audit")
CLOCK = SystemClock()


@pytest.fixture(scope="module")
async def sealers(database: Database) -> "AsyncIterator[Pool]":
    pool = await open_pool(database.dsn("tenantry_sealer"), search_path="tenantry", max_size=2)
    yield pool
    await pool.close()


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    return Notary(installation="log.example", region="us", keys=LogKeys(tmp_path), clock=CLOCK)


@pytest.fixture
def witness(tmp_path: Path) -> WitnessFile:
    return WitnessFile(tmp_path / "witness" / "us", clock=CLOCK)


async def sign_all(pool: "Pool", notary: Notary, witness: WitnessFile) -> None:
    looked_at: UUID | None = UUID(int=0)
    while looked_at is not None:
        async with platform_session(pool) as connection:
            looked_at = await sign_grown(connection, notary=notary, witness=witness, limit=2)


async def checkpoints(database: Database, tenant: UUID) -> list[SignedCheckpoint]:
    async with database.connected("superuser") as connection:
        rows = await connection.fetch(
            "select size, made_at, note from tenantry.audit_checkpoints where tenant_id = $1 order by size", tenant
        )
    return [SignedCheckpoint(tenant, row["size"], row["made_at"], row["note"]) for row in rows]


def opened(notary: Notary, one: SignedCheckpoint) -> Checkpoint:
    keys, origin = notary.verifier_keys(), f"log.example/{format_id(Prefix.TENANT, one.tenant_id)}"
    return open_checkpoint(one.note, origin=origin, keys=keys, at=one.made_at).checkpoint


def witnessed(tmp_path: Path) -> list[bytes]:
    files = sorted((tmp_path / "witness" / "us").glob("*.jsonl"))
    return [json.loads(line)["note"].encode() for file in files for line in file.read_text().splitlines()]


async def test_what_has_grown_is_signed_once_and_begins_with_what_was(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile, tmp_path: Path
) -> None:
    tenants = [await database.make_tenant(rows=0) for _ in range(3)]
    for count in (3, 300, 1):
        for tenant in tenants:
            await write_many(cell, tenant, count)
        await seal_all(sealers)
        await sign_all(sealers, notary, witness)
        await sign_all(sealers, notary, witness)
    told = witnessed(tmp_path)
    for tenant in tenants:
        made = await checkpoints(database, tenant)
        assert [one.size for one in made] == [3, 303, 304]
        assert [note for note in told if note in {one.note for one in made}] == [one.note for one in made]
        first, *_, last = [opened(notary, one) for one in made]
        plan = consistency_plan(size1=first.size, size2=last.size)
        async with cell.session(scope_of(tenant)) as session:
            proof = plan.compute(await repository.find_hashes(session, plan.ranges))
        verify_consistency(size1=first.size, root1=first.root, size2=last.size, root2=last.root, proof=proof)


async def test_every_event_is_proved_to_be_in_the_newest(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile
) -> None:
    tenant = await database.make_tenant(rows=0)
    async with cell.session(scope_of(tenant)) as session:
        with pytest.raises(Unavailable, match="no checkpoint"):
            await LogService(session=session).checkpoint()
    await write_many(cell, tenant, 270)
    await seal_all(sealers)
    await sign_all(sealers, notary, witness)
    await write_many(cell, tenant, 1)
    async with cell.session(scope_of(tenant)) as session:
        log, audit = LogService(session=session), AuditService(session=session, clock=CLOCK)
        newest, *events = await audit.list_events(AuditFilter(), limit=300)
        checkpoint = opened(notary, await log.checkpoint())
        assert checkpoint.size == len(events) == 270
        for event in events:
            proof = await log.prove(event.event_id)
            assert proof.leaf == leaf_hash(canonical_bytes(event))
            verify_inclusion(
                leaf=proof.leaf, index=proof.index, size=checkpoint.size, proof=proof.path, root=checkpoint.root
            )
        with pytest.raises(Unavailable) as unsigned:
            await log.prove(newest.event_id)
        assert (unsigned.value.code, unsigned.value.fields) == ("event_unsigned", {"retry_after": 1})
        with pytest.raises(NotFound):
            await log.prove(new_id())


async def test_a_witness_that_takes_nothing_lets_nothing_be_signed(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile, tmp_path: Path
) -> None:
    """What nobody outside of the database knows of is no checkpoint; it is tried again."""

    (tmp_path / "taken").write_text("a file where a directory should be")
    silent = WitnessFile(tmp_path / "taken" / "us", clock=CLOCK)
    tenant = await database.make_tenant(rows=0)
    await write_many(cell, tenant, 2)
    await seal_all(sealers)
    with pytest.raises(WitnessSilent, match="Not a directory"):
        async with platform_session(sealers) as connection:
            await sign_grown(connection, notary=notary, witness=silent)
    assert await checkpoints(database, tenant) == []
    await sign_all(sealers, notary, witness)
    [made] = await checkpoints(database, tenant)
    assert made.note in witnessed(tmp_path)


def test_what_was_cut_off_takes_no_later_line_along(witness: WitnessFile, tmp_path: Path) -> None:
    one = SignedCheckpoint(new_id(), 1, CLOCK.now(), b"note")
    witness.tell([one])
    [file] = (tmp_path / "witness" / "us").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("ab") as cut:
        cut.write(b'{"made_at":')
    witness.tell([one, one])
    whole, cut_off, *others = file.read_bytes().splitlines()
    assert cut_off == b'{"made_at":'
    assert [whole] * 2 == others


@pytest.mark.parametrize("damage", ["set size = size - 1", "set frontier = ''", "set frontier = null"])
async def test_a_damaged_tree_is_not_signed_for(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile, damage: str
) -> None:
    tenant, other = await database.make_tenant(rows=0), await database.make_tenant(rows=0)
    for each in (tenant, other):
        await write_many(cell, each, 2)
    await seal_all(sealers)
    async with database.connected("superuser") as connection:
        await connection.execute(f"update tenantry.audit_heads {damage} where tenant_id = $1", tenant)
    await sign_all(sealers, notary, witness)
    assert await checkpoints(database, tenant) == []
    assert len(await checkpoints(database, other)) == 1


async def test_a_key_that_was_rotated_signs_no_more_and_counts_for_what_it_signed(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile
) -> None:
    tenant = await database.make_tenant(rows=0)
    await write_many(cell, tenant, 1)
    await seal_all(sealers)
    await sign_all(sealers, notary, witness)
    notary.keys.rotate("us", now=CLOCK.now())
    await write_many(cell, tenant, 1)
    await seal_all(sealers)
    await sign_all(sealers, notary, witness)
    first, second = await checkpoints(database, tenant)
    old, new = notary.verifier_keys()
    for one in (first, second):
        opened(notary, one)
    origin = notary.origin(tenant)
    assert open_checkpoint(first.note, origin=origin, keys=[old], at=first.made_at).signers == (old,)
    assert open_checkpoint(second.note, origin=origin, keys=[new], at=second.made_at).signers == (new,)
    later = second.made_at + timedelta(minutes=2)
    with pytest.raises(NoteError):
        open_checkpoint(first.note, origin=origin, keys=[old], at=later)


async def test_nobody_but_the_sealer_writes_a_checkpoint_and_nobody_changes_one(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile
) -> None:
    import asyncpg

    tenant = await database.make_tenant(rows=0)
    await write_many(cell, tenant, 1)
    await seal_all(sealers)
    await sign_all(sealers, notary, witness)
    for role in ("tenantry_app", "tenantry_sealer", "tenantry_dispatcher"):
        # Of checkpoints the sealer deletes old ones, as the next tests show.
        deleted = ("audit_checkpoints", "audit_tiles") if role != "tenantry_sealer" else ("audit_tiles",)
        for statement in (
            *(f"update {table} set tenant_id = tenant_id" for table in ("audit_checkpoints", "audit_tiles")),
            *(f"delete from {table}" for table in deleted),
        ):
            async with database.connected(role) as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
    async with database.connected("tenantry_app") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("insert into audit_checkpoints select * from audit_checkpoints")


async def test_of_old_checkpoints_one_an_hour_is_kept_and_of_the_last_day_all(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile
) -> None:
    tenant = await database.make_tenant(rows=0)
    hour = CLOCK.now().replace(minute=0, second=0, microsecond=0)
    ages = [timedelta(days=3), timedelta(days=2), timedelta(hours=2)]
    times = [hour - age + timedelta(minutes=minute) for age in ages for minute in (0, 20, 59)]
    async with database.connected("superuser") as connection:
        await connection.executemany(
            "insert into tenantry.audit_checkpoints (tenant_id, size, made_at, note) values ($1, $2, $3, 'x')",
            [(tenant, size, at) for size, at in enumerate(times, 1)],
        )
    await write_many(cell, tenant, 20)
    await seal_all(sealers)
    async with platform_session(sealers) as connection:
        await sign_grown(connection, notary=notary, witness=witness, thin=True)
    assert [one.size for one in await checkpoints(database, tenant)] == [3, 6, 7, 8, 9, 20]


async def test_nobody_takes_away_a_checkpoint_of_the_last_day(
    cell: Cell, database: Database, sealers: "Pool", notary: Notary, witness: WitnessFile
) -> None:
    tenant = await database.make_tenant(rows=0)
    await write_many(cell, tenant, 1)
    await seal_all(sealers)
    await sign_all(sealers, notary, witness)
    async with platform_session(sealers) as connection:
        await connection.execute("delete from audit_checkpoints where tenant_id = $1", tenant)
    assert [one.size for one in await checkpoints(database, tenant)] == [1]
