"""What of a sandbox is kept: sealed, given back at the next start, shared by snapshots and forks, gone with them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import until
from tests.integration.sandboxes.live_ground import Json, LiveGround, place_of, run_in
from tests.integration.sandboxes.test_content import Later, files_with

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service import TreeTakings
from tenantry.capabilities.tenants.ports import ContentKind
from tenantry.capabilities.tenants.service import purge_due
from tenantry.engines.jail.types import Stream
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

CANARY = "canary-of-a-workspace-81f3"


@pytest.fixture(scope="module")
def kept(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground(persistence_mode="full"))


@pytest.fixture(scope="module")
async def parts(kept: LiveGround) -> AsyncIterator[Parts]:
    async with open_parts(kept.ground.installation.settings) as opened:
        yield opened


async def sh(parts: Parts, live: LiveGround, sandbox: Json, script: str) -> str:
    outcome, said = await run_in(await place_of(parts, live.ground, sandbox), "sh", "-c", script)
    assert outcome.exit_code == 0, said
    return said[Stream.STDOUT].decode()


async def run(live: LiveGround, name: str) -> Json:
    return await asyncio.to_thread(live.run, name)


async def stopped(live: LiveGround, sandbox: Json) -> Json:
    return await asyncio.to_thread(live.stopped, sandbox)


def objects_of(live: LiveGround) -> list[Path]:
    folder = live.ground.installation.home / "us" / live.ground.tenant.id / "objects"
    return [path for path in folder.rglob("*") if path.is_file() and "/sandboxes/" in str(path)]


async def purge(parts: Parts, **others: ContentKind) -> None:
    pool = await open_pool(parts.addresses.cells["us"].dispatcher, search_path="queue", max_size=1)
    try:
        cell, kinds = parts.cells.get("us"), parts.content_kinds("us") | others
        while await purge_due(pool, queue=pool, cell=cell, kinds=kinds, clock=Later()):
            pass
    finally:
        await pool.close()


async def storage_of(parts: Parts, live: LiveGround) -> tuple[int, int]:
    """What the ledger says of kept trees: held and used bytes."""
    scope = TenantScope(tenant_id=live.ground.tenant_id, region="us", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        row = await session.fetchrow(
            """select coalesce(sum(amount) filter (where state = 'held'), 0)::bigint as held,
                      coalesce(sum(used) filter (where state = 'settled'), 0)::bigint as used
               from reservations where tenant_id = $1 and kind = 'tree'""",
            live.ground.tenant_id,
        )
    assert row is not None
    return row["held"], row["used"]


async def test_files_outlive_a_stop_with_their_modes_and_links(kept: LiveGround, parts: Parts) -> None:
    made = await run(kept, "lasting")
    await sh(
        parts, kept, made, "mkdir -p a/b && echo one > a/b/f && chmod 750 a/b/f && ln -s b/f a/link && echo x > gone"
    )
    told = await stopped(kept, made)
    assert (told["status"], told["files_kept"]) == ("stopped", True)
    assert told["kept"]["size_bytes"] > 0
    started = await asyncio.to_thread(kept.done, made, "start", wait=30)
    assert started["status"] == "running", started
    assert await sh(parts, kept, made, "cat a/link; stat -c %a a/b/f; rm gone") == "one\n750\n"
    again = await stopped(kept, made)
    assert again["kept"]["sha256"] != told["kept"]["sha256"]
    await asyncio.to_thread(kept.done, made, "start", wait=30)
    assert await sh(parts, kept, made, "ls") == "a\noutputs\n"
    await stopped(kept, made)


async def test_what_is_kept_is_sealed_wherever_it_lies(kept: LiveGround, parts: Parts) -> None:
    made = await run(kept, "sealed")
    await sh(parts, kept, made, f"for n in $(seq 5000); do echo {CANARY}; done > canary")
    await stopped(kept, made)
    assert objects_of(kept)
    home = kept.ground.installation.home
    assert await asyncio.to_thread(files_with, (home,), [CANARY]) == {CANARY: []}


async def test_a_tree_of_another_sandbox_does_not_open_as_ones_own(kept: LiveGround, parts: Parts) -> None:
    trees = []
    for name in ("mine", "theirs"):
        made = await run(kept, name)
        await sh(parts, kept, made, f"echo {name} > f")
        await stopped(kept, made)
        trees.append(made)
    scope = TenantScope(tenant_id=kept.ground.tenant_id, region="us", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        await session.execute(
            """update sandbox_trees t set content_key = o.content_key from sandbox_trees o
               where t.tenant_id = $1 and o.tenant_id = $1 and t.sandbox_id = $2 and o.sandbox_id = $3""",
            kept.ground.tenant_id,
            *(parse_id(Prefix.SANDBOX, each["id"]) for each in trees),
        )
    failed = await asyncio.to_thread(kept.done, trees[0], "start", wait=30)
    assert failed["status"] == "failed", failed
    assert failed["kept"] is not None, "what is kept stays as it is"


async def test_a_snapshot_of_one_that_runs_is_what_it_was_then(kept: LiveGround, parts: Parts) -> None:
    made = await run(kept, "snapped")
    await sh(parts, kept, made, "echo first > f")
    snapshot = await asyncio.to_thread(kept.done, made, "snapshot", name="one")
    assert snapshot["files"] >= 1
    await sh(parts, kept, made, "echo second > f")
    forked = await asyncio.to_thread(kept.done, made, "fork", wait=30, name="from-one", snapshot=snapshot["id"])
    assert (forked["status"], forked["name"]) == ("running", "from-one"), forked
    assert await sh(parts, kept, forked, "cat f") == "first\n"
    live_fork = await asyncio.to_thread(kept.done, made, "fork", wait=30, name="as-it-is")
    assert await sh(parts, kept, live_fork, "cat f") == "second\n"
    assert await sh(parts, kept, made, "cat f") == "second\n"
    for each in (made, forked, live_fork):
        await stopped(kept, each)


async def test_snapshots_are_listed_named_once_and_deleted(kept: LiveGround, parts: Parts) -> None:
    made = await run(kept, "listed")
    nothing = await asyncio.to_thread(kept.make, "empty", start=False)
    refused = await asyncio.to_thread(kept.do, nothing, "snapshot", name="one")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_kept")
    await stopped(kept, made)
    before = len(objects_of(kept))
    first = await asyncio.to_thread(kept.done, made, "snapshot", name="one")
    assert len(objects_of(kept)) == before, "what is kept already is not copied"
    taken = await asyncio.to_thread(kept.do, made, "snapshot", name="one")
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    path = f"{kept.path}/{made['id']}/snapshots"
    listed = await asyncio.to_thread(kept.client.get, path)
    assert [each["id"] for each in listed.json()["items"]] == [first["id"]]
    for status in (204, 404):
        gone = await asyncio.to_thread(kept.client.delete, f"{path}/{first['id']}")
        assert gone.status_code == status


async def test_bytes_go_when_nothing_begins_from_them_any_more_and_the_ledger_agrees(
    make_ground: MakeGround, parts: Parts
) -> None:
    live = LiveGround(await asyncio.to_thread(make_ground, persistence_mode="full"))
    made = await run(live, "origin")
    held, _ = await storage_of(parts, live)
    assert held > 0, "the most that it may keep is held while it runs"
    await sh(parts, live, made, "echo kept > f")
    told = await stopped(live, made)
    assert await storage_of(parts, live) == (0, told["kept"]["size_bytes"])
    forked = await asyncio.to_thread(live.done, made, "fork", name="copy", start=False)
    deleted = await asyncio.to_thread(live.client.delete, f"{live.path}/{made['id']}")
    assert deleted.status_code == 204
    await purge(parts)
    assert len(objects_of(live)) == 1
    started = await asyncio.to_thread(live.done, forked, "start", wait=30)
    assert started["status"] == "running"
    assert await sh(parts, live, forked, "cat f") == "kept\n"
    await stopped(live, forked)
    await purge(parts)
    assert len(objects_of(live)) == 1, "the tree before went as the next was kept"
    assert (await asyncio.to_thread(live.client.delete, f"{live.path}/{forked['id']}")).status_code == 204
    await purge(parts)
    assert objects_of(live) == []
    assert await storage_of(parts, live) == (0, 0)


class Broken:
    """A kind of content that cannot be forgotten."""

    name = "broken"
    columns = frozenset[str]()

    async def remove_objects(self, session: TenantSession, item_id: UUID) -> None:
        raise Fault("broken", f"{item_id} of {session.scope.tenant_id} stays", layer="objects")

    async def forget(self, session: TenantSession, item_id: UUID) -> None:
        raise NotImplementedError


async def test_what_cannot_be_purged_keeps_nothing_else_from_it(make_ground: MakeGround, parts: Parts) -> None:
    live = LiveGround(await asyncio.to_thread(make_ground, persistence_mode="full"))
    scope, items = (
        TenantScope(tenant_id=live.ground.tenant_id, region="us", actor=SYSTEM),
        [new_id() for _ in range(101)],
    )
    made = await run(live, "goes")
    await stopped(live, made)
    assert objects_of(live)
    async with parts.cells.session(scope) as session:
        for item in items:
            await repository.list_for_purge(session, "broken", item, due_at=parts.clock.now() - timedelta(days=999))
    assert (await asyncio.to_thread(live.client.delete, f"{live.path}/{made['id']}")).status_code == 204
    await purge(parts, broken=Broken())
    assert objects_of(live) == []
    async with parts.cells.session(scope) as session:
        left = await session.fetch("delete from queue.purges where tenant_id = $1 returning item_id", scope.tenant_id)
    assert set(items) <= {row["item_id"] for row in left}


async def test_one_that_is_deleted_while_it_runs_leaves_nothing(make_ground: MakeGround, parts: Parts) -> None:
    live = LiveGround(await asyncio.to_thread(make_ground, persistence_mode="full"))
    made = await run(live, "doomed")
    await sh(parts, live, made, "echo kept > f")
    assert (await asyncio.to_thread(live.client.delete, f"{live.path}/{made['id']}")).status_code == 204
    await asyncio.to_thread(live.ground.until_status, made["job"], "cancelled")
    await purge(parts)
    assert objects_of(live) == []
    assert await storage_of(parts, live) == (0, 0)
    scope = TenantScope(tenant_id=live.ground.tenant_id, region="us", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        row = await session.fetchrow(
            "select given, content_key, tree_id from sandboxes where tenant_id = $1", live.ground.tenant_id
        )
        assert row is not None
        assert tuple(row) == (None, None, None)
        assert await TreeTakings().takes(session, [parse_id(Prefix.SANDBOX, made["id"])]) == {}


async def test_usage_tells_what_sandboxes_keep(make_ground: MakeGround) -> None:
    live = LiveGround(await asyncio.to_thread(make_ground, persistence_mode="full"))
    made = await run(live, "measured")
    told = await stopped(live, made)
    usage = live.ground.tenant.owner.get(f"/tenants/{live.ground.tenant.id}/usage").json()
    assert str(told["kept"]["size_bytes"]) in str(usage) or "sandboxes" in str(usage)


async def test_the_ledger_knows_what_a_running_one_may_still_keep(kept: LiveGround, parts: Parts) -> None:
    made = await run(kept, "ledger")
    scope = TenantScope(tenant_id=kept.ground.tenant_id, region="us", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        job = await repository.find_job(session, parse_id(Prefix.JOB, made["job"]))
        assert job is not None
        assert job.tree_id is not None
        assert await TreeTakings().takes(session, [job.tree_id]) == {job.tree_id: None}
    await stopped(kept, made)
    until(lambda: kept.get(made)["kept"])
