"""The regions' logs: every tenant's checkpoint is in its region's, and no region signs another's that was rewritten."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from tests.integration.audit.test_checkpoints import checkpoints, witnessed
from tests.integration.audit.test_sealer import seal_all, write_many
from tests.integration.database.ground import Database, Ground

from tenantry.capabilities.audit.service import Notary, RegionLogs, WitnessFile, sign_grown
from tenantry.capabilities.audit.types import SignedCheckpoint, SignedRoot
from tenantry.engines.merkle.checkpoints import Checkpoint, open_checkpoint
from tenantry.engines.merkle.notes import Note
from tenantry.engines.merkle.proofs import verify_inclusion
from tenantry.engines.merkle.tree import Frontier, leaf_hash
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import new_id
from tenantry.foundation.log_keys import LogKeys

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

pytestmark = pytest.mark.xdist_group("audit")
CLOCK = SystemClock()


class Regions:
    """Two regions, each with a database of its own, and nobody else's loops."""

    def __init__(
        self, databases: dict[str, Database], cells: dict[str, Cell], pools: "Mapping[str, Pool]", home: Path
    ) -> None:
        self.databases, self.cells, self.pools = databases, cells, pools
        self.notaries = {name: Notary("log.example", name, LogKeys(home), CLOCK) for name in databases}
        self.witnesses = {name: WitnessFile(home / "witness" / name, clock=CLOCK) for name in databases}
        opened = {name: partial(self._opened, name) for name in databases}
        self.logs = RegionLogs(opened, notaries=self.notaries, witnesses=self.witnesses)

    @asynccontextmanager
    async def _opened(self, region: str) -> AsyncIterator[Any]:
        async with platform_session(self.pools[region]) as connection:
            yield connection

    async def grow(self, region: str, events: int = 1) -> SignedCheckpoint:
        """Let a new tenant do something, and sign what comes of it."""
        tenant = await self.databases[region].make_tenant(rows=0)
        await write_many(self.cells[region], tenant, events)
        await seal_all(self.pools[region])
        await self.sign(region)
        (made,) = await checkpoints(self.databases[region], tenant)
        return made

    async def sign(self, region: str) -> None:
        append = partial(self.logs.append, region)
        signed: UUID | None = UUID(int=0)
        while signed is not None:
            async with platform_session(self.pools[region]) as connection:
                signed = await sign_grown(
                    connection, notary=self.notaries[region], witness=self.witnesses[region], append=append
                )
        await self.logs.sign(region)

    async def alter(self, region: str, *statements: str) -> None:
        async with self.databases[region].connected("superuser") as connection:
            for statement in statements:
                await connection.execute(statement)

    def signers(self, root: SignedRoot, *, region: str = "us") -> set[str]:
        keys = [key for notary in self.notaries.values() for key in notary.verifier_keys()]
        name = f"log.example/{region}"
        own = [key for key in keys if key.name == name]
        return {
            key.name
            for key in open_checkpoint(root.note, origin=name, keys=own, at=CLOCK.now(), witnesses=keys).signers
        }


@pytest.fixture
async def regions(ground: Ground, tmp_path: Path) -> AsyncIterator[Regions]:
    async with AsyncExitStack() as stack:
        databases = {name: await stack.enter_async_context(ground.clone()) for name in ("us", "eu")}
        cells = {name: await stack.enter_async_context(one.cell(pool_size=4)) for name, one in databases.items()}
        pools = {}
        for name, one in databases.items():
            pools[name] = await open_pool(one.dsn("tenantry_sealer"), search_path="tenantry", max_size=4)
            stack.push_async_callback(pools[name].close)
        found = Regions(databases, cells, pools, tmp_path)
        for name in databases:
            await found.alter(name, "delete from tenantry.audit_unsealed")  # what was done to prepare them
        yield found


async def test_each_checkpoint_is_in_the_root_of_its_region(regions: Regions, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no root"):
        await regions.logs.root("us")
    made = [await regions.grow("us", events) for events in (1, 300, 2)]
    root = await regions.logs.root("us")
    assert regions.signers(root) == {"log.example/us"}
    assert root.size == len(made)
    for index, one in enumerate(made):
        anchor = await regions.logs.anchor("us", one.note)
        told = Checkpoint.parse(Note.parse(anchor.root.note).text)
        assert (anchor.index, anchor.root) == (index, root)
        assert anchor.leaf == leaf_hash(one.note.partition(b"\n\n")[0] + b"\n")
        verify_inclusion(leaf=anchor.leaf, index=index, size=told.size, proof=anchor.path, root=told.root)
    assert witnessed(tmp_path)[-1] == root.note
    with pytest.raises(Unavailable, match="no root"):
        await regions.logs.anchor("us", regions.notaries["us"].signed(new_id(), Frontier(1, (bytes(32),))).note)
    assert await regions.logs.sign("us") is None, "what has not grown is not signed again"
    assert await regions.logs.roots() == {"us": root}


async def test_a_checkpoint_that_was_told_and_not_kept_is_appended_once(regions: Regions) -> None:
    """A crash between the region's commit and the tenant's: the same checkpoint is made again."""
    made = await regions.grow("us")
    await regions.logs.append("us", [made, made])
    assert await regions.logs.sign("us") is None
    assert (await regions.logs.root("us")).size == 1


async def test_regions_sign_what_they_have_seen_grow(regions: Regions, tmp_path: Path) -> None:
    for _ in range(3):
        await regions.grow("us", 2)
        await regions.grow("eu", 1)
        await regions.logs.cross_sign()
        for region in ("us", "eu"):
            root = await regions.logs.root(region)
            assert regions.signers(root, region=region) == {"log.example/us", "log.example/eu"}
            await regions.logs.cross_sign()
            assert await regions.logs.root(region) == root, "what is signed is not signed again"
        newest = await regions.logs.root("eu")
        told = {note.partition(b"\n\n")[0] for note in witnessed(tmp_path)}
        assert newest.note.partition(b"\n\n")[0] in told, "who signs another's root tells its own witness"


async def test_a_log_that_was_rewritten_or_rolled_back_is_signed_by_nobody_else(regions: Regions) -> None:
    """Whoever owns a region's database, and has its key, forges another history; the other region does not sign it."""
    for _ in range(3):
        await regions.grow("us")
    await regions.logs.cross_sign()
    seen = await regions.logs.root("us")
    others = [leaf_hash(bytes([number])) for number in range(5)]
    forged = Frontier().append_many(others).frontier
    await regions.alter("us", "delete from fence.region_log", "delete from fence.region_roots")
    values = ", ".join(f"({at}, decode('{leaf.hex()}', 'hex'))" for at, leaf in enumerate(others))
    await regions.alter(
        "us",
        f"insert into fence.region_log values {values}",
        f"update fence.region_head set size = 5, frontier = decode('{forged.to_bytes().hex()}', 'hex')",
    )
    await regions.logs.sign("us")
    await regions.logs.cross_sign()
    assert regions.signers(await regions.logs.root("us")) == {"log.example/us"}
    cut = Frontier().append_many(others[:2]).frontier
    await regions.alter(
        "us",
        "delete from fence.region_log where position >= 2",
        "delete from fence.region_roots",
        f"update fence.region_head set size = 2, frontier = decode('{cut.to_bytes().hex()}', 'hex')",
    )
    await regions.logs.sign("us")
    await regions.logs.cross_sign()
    assert regions.signers(await regions.logs.root("us")) == {"log.example/us"}
    assert regions.signers(seen) == {"log.example/us", "log.example/eu"}
    await regions.grow("eu")
    await regions.logs.cross_sign()
    assert regions.signers(await regions.logs.root("eu"), region="eu") == {"log.example/us", "log.example/eu"}


async def test_two_that_sign_at_once_make_one_history(regions: Regions) -> None:
    made = [regions.notaries["us"].signed(new_id(), Frontier(1, (bytes([n]) * 32,))) for n in range(40)]
    await asyncio.gather(*(regions.logs.append("us", made[at : at + 10]) for at in range(0, 40, 5)))
    await asyncio.gather(*(regions.logs.sign("us") for _ in range(4)))
    root = await regions.logs.root("us")
    assert root.size == 40
    for one in made:
        anchor = await regions.logs.anchor("us", one.note)
        told = Checkpoint.parse(Note.parse(anchor.root.note).text)
        verify_inclusion(leaf=anchor.leaf, index=anchor.index, size=40, proof=anchor.path, root=told.root)
    await asyncio.gather(*(regions.logs.cross_sign() for _ in range(3)))
    assert regions.signers(await regions.logs.root("us")) == {"log.example/us", "log.example/eu"}
