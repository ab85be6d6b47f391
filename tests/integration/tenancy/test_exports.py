"""An export is everything a tenant has, and an import makes of it the same tenant in another installation."""

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, BinaryIO
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import Installation, Tenant
from tests.integration.tenancy.ground import (
    Exported,
    Json,
    MakeInhabited,
    export,
    files_of,
    lasting,
    members_of,
    rows_of,
    said,
    send_archive,
    superuser_dsn,
    until,
)

from tenantry.capabilities.tenants.ports import ArchivedStore
from tenantry.capabilities.tenants.service import Exports, purge_due, remove_old_exports
from tenantry.capabilities.tenants.service.archives import LEFT_OUT
from tenantry.capabilities.tenants.service.exports import COLLECT, archive_key
from tenantry.capabilities.tenants.service.operations import new_operation
from tenantry.capabilities.tenants.types import Isolation, OperationKind, Seat, StoredThing
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.places import SHARED
from tenantry.foundation.database.pool import open_pool

_MADE_ANEW = frozenset({"keysets", "tenants"})


def until_imported(target: Installation, answer: Json) -> Json:
    def ended() -> Json | None:
        found = target.platform.get(f"/tenants/{answer['tenant']}/operations/{answer['id']}")
        done = found.status_code == 200 and found.json()["status"] in ("succeeded", "failed")
        return found.json() if done else None

    return until(ended)


@pytest.mark.parametrize(
    ("isolation", "target", "region"),
    [
        ("row_level", "schema_level", "eu"),
        ("schema_level", "database_level", "us"),
        ("database_level", "row_level", "us"),
    ],
)
async def test_an_import_is_the_same_tenant_elsewhere(
    make_inhabited: MakeInhabited, elsewhere: Installation, isolation: str, target: str, region: str
) -> None:
    inhabited = make_inhabited(isolation=isolation)
    made = export(inhabited)
    before = lasting(await rows_of(inhabited.installation, inhabited.tenant_id))
    files = {
        name: content
        for name, content in files_of(inhabited.installation, inhabited.tenant.id, "us").items()
        if "exports/" not in name
    }

    answer = send_archive(elsewhere, made.archive, made.key, region=region, isolation=target)
    assert answer.status_code == 202, answer.text
    assert until_imported(elsewhere, answer.json())["status"] == "succeeded"

    after = lasting(await rows_of(elsewhere, inhabited.tenant_id))
    kept = before.keys() - LEFT_OUT.keys() - _MADE_ANEW
    assert len(kept) >= 9
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["keysets"][0] == 1
    assert after["keysets"] != before["keysets"]
    found = files_of(elsewhere, inhabited.tenant.id, region)
    assert found.keys() == files.keys()
    assert found == files
    key = answer.json()["bootstrap_key"]["secret"]
    tenant = Tenant(elsewhere, inhabited.tenant.id, inhabited.tenant.slug, region, key)
    there = dataclasses.replace(inhabited, tenant=tenant, key=key)
    assert there.readable() == inhabited.readable() == there.expected
    assert there.kept() == inhabited.kept() == there.expected_kept
    assert there.proved() == inhabited.proved()
    assert there.told() == hashlib.sha256(f"kept-{inhabited.word}".encode()).hexdigest()
    shown = tenant.owner.get(f"/tenants/{tenant.id}").json()
    assert (shown["region"], shown["isolation"], shown["status"]) == (region, target, "active")
    assert elsewhere.client(inhabited.key).get("/me").status_code == 401
    job = tenant.owner.post(
        f"/workspaces/{there.workspace}/jobs", params={"wait": 60}, json={"command": ["echo", "again"]}
    )
    assert job.json()["status"] == "succeeded", job.text
    trail = tenant.owner.get("/audit", params={"action": "tenant.imported"})
    assert len(trail.json()["items"]) == 1
    assert not list((elsewhere.home / region / "imports").glob("*"))


def test_the_manifest_names_every_member_with_its_digest(exported: Exported) -> None:
    members = members_of(exported.archive)
    manifest = json.loads(members.pop("manifest.json"))
    assert list(members_of(exported.archive))[-1] == "manifest.json"
    told = {each["name"]: (each["size_bytes"], each["sha256"]) for each in manifest["members"]}
    assert told == {name: (len(each), hashlib.sha256(each).hexdigest()) for name, each in members.items()}
    assert {each["what"] for each in manifest["left_out"]} == LEFT_OUT.keys()
    named = {table["name"] for table in manifest["tables"]}
    assert named >= {"tenants", "workspaces", "jobs", "job_logs", "artifacts", "audit_events", "queue.purges"}
    assert named >= {"sandboxes", "sandbox_trees", "sandbox_snapshots"}
    assert not named & LEFT_OUT.keys()
    folders = {name.partition("/")[0] for name in members}
    assert folders == {"rows", "objects", "images", "keys"}
    assert not any("exports/" in name for name in members)
    # Content stays sealed: the log's text stands nowhere in the rows of it.
    logs = b"".join(each for name, each in members.items() if name.startswith("rows/job_logs."))
    assert exported.inhabited.word.encode() not in logs


def test_only_administrators_of_the_tenant_fetch_it_and_the_trail_tells(exported: Exported) -> None:
    inhabited = exported.inhabited
    path = f"{inhabited.path}/exports/{exported.operation['id']}"
    platform = inhabited.installation.platform
    viewer = inhabited.tenant.as_role("viewer", None)
    for each in (path, f"{path}/content"):
        assert platform.get(each).json()["code"] == "platform_no_content"
        assert viewer.get(each).json()["code"] == "permission_missing"
    assert viewer.post(f"{inhabited.path}/export").status_code == 403
    trail = inhabited.tenant.owner.get("/audit", params={"action": "tenant.export"}).json()["items"]
    assert {each["action"] for each in trail} == {
        "tenant.export_requested",
        "tenant.export_key_read",
        "tenant.export_read",
    }


def test_the_key_lies_nowhere_in_clear(exported: Exported) -> None:
    home = exported.inhabited.installation.home
    held = [path for path in home.rglob("*") if path.is_file() and exported.key.encode() in path.read_bytes()]
    assert held == []


async def test_a_sandbox_that_ran_arrives_stopped_with_what_was_kept_last(
    make_inhabited: MakeInhabited, elsewhere: Installation
) -> None:
    inhabited = await asyncio.to_thread(make_inhabited)
    path = f"/workspaces/{inhabited.workspace}/sandboxes/{inhabited.sandbox}"
    owner = inhabited.tenant.owner
    assert owner.post(f"{path}/start", params={"wait": 60}).json()["status"] == "running"
    said(owner, path, "echo later > link")
    made = await asyncio.to_thread(export, inhabited)
    assert said(owner, path, "cat link") == "later\n", "it runs on"
    owner.post(f"{path}/stop", params={"wait": 60})

    answer = send_archive(elsewhere, made.archive, made.key)
    assert until_imported(elsewhere, answer.json())["status"] == "succeeded"
    key = answer.json()["bootstrap_key"]["secret"]
    tenant = Tenant(elsewhere, inhabited.tenant.id, inhabited.tenant.slug, "us", key)
    found = tenant.owner.get(path).json()
    assert (found["status"], found["reason"]) == ("stopped", "tenant_imported")
    there = dataclasses.replace(inhabited, tenant=tenant, key=key)
    assert await asyncio.to_thread(there.kept) == there.expected_kept
    connection = await asyncpg.connect(superuser_dsn(elsewhere, "tenantry_us"))
    try:
        held = """select count(*) from tenantry.reservations r where r.tenant_id = $1 and r.state = 'held'
                      and not exists (select from tenantry.sandbox_trees t where t.tree_id = r.reservation_id)"""
        assert await connection.fetchval(held, inhabited.tenant_id) == 0, "what it might have kept holds no room"
    finally:
        await connection.close()


class Meanwhile:
    """A store that lets something happen before it gives what it has."""

    def __init__(self, store: ArchivedStore, happen: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._happen = happen

    async def things(self, tenant_id: UUID, *, region: str) -> AsyncIterator[StoredThing]:
        await self._happen()
        async for thing in self._store.things(tenant_id, region=region):
            yield thing

    async def restore(
        self, tenant_id: UUID, *, region: str, name: str, size: int, about: Mapping[str, Any], content: BinaryIO
    ) -> None:
        raise NotImplementedError


async def purge(parts: Parts) -> None:
    pool = await open_pool(parts.addresses.cells["us"].dispatcher, search_path="queue", max_size=1)
    try:
        cell, kinds = parts.cells.get("us"), parts.content_kinds("us")
        await purge_due(pool, queue=pool, cell=cell, kinds=kinds, clock=parts.clock)
    finally:
        await pool.close()


async def test_what_the_rows_of_an_export_name_is_in_it_though_it_is_let_go_meanwhile(
    make_inhabited: MakeInhabited,
) -> None:
    inhabited = await asyncio.to_thread(make_inhabited)
    async with open_parts(inhabited.installation.settings) as parts:

        async def happen() -> None:
            """The sandbox lives and is stopped: what it kept before is due to go, and must not yet."""
            assert await asyncio.to_thread(inhabited.kept) == inhabited.expected_kept
            await purge(parts)

        exports = Exports(
            access=parts.mover_access,
            objects=parts.objects,
            stores={"objects": Meanwhile(parts.archived["objects"], happen)},
            wrapper=parts.wrapper,
            clock=parts.clock,
        )
        seat = Seat("us", Isolation.ROW_LEVEL, SHARED)
        operation = new_operation(
            OperationKind.EXPORT,
            step=COLLECT,
            tenant_id=inhabited.tenant_id,
            source=seat,
            target=seat,
            requested_by="a test",
            now=parts.clock.now(),
        )
        await exports.run(operation)
        pieces = parts.objects["us"].get(inhabited.tenant_id, archive_key(operation))
        members = members_of(b"".join([piece async for piece in pieces]))
        manifest = json.loads(members["manifest.json"])
        columns = next(table["columns"] for table in manifest["tables"] if table["name"] == "sandbox_trees")
        trees = [dict(zip(columns, json.loads(line), strict=True)) for line in _lines(members, "sandbox_trees")]
        assert len(trees) == 2
        there = {name.rpartition("/")[2] for name in members if "/sandboxes/" in name}
        named = {each["tree_id"].replace("-", "") for each in trees}
        assert named < there
        await exports.abandon(operation)
        await purge(parts)
        left = {name.rpartition("/")[2] for name in files_of(inhabited.installation, inhabited.tenant.id, "us")}
        assert len(named - {name.removesuffix(",") for name in left}) == 1, "what was let go goes once it may"


def _lines(members: dict[str, bytes], table: str) -> list[bytes]:
    return members[f"rows/{table}.000000.jsonl"].splitlines()


async def test_an_export_is_removed_after_its_time(make_inhabited: MakeInhabited) -> None:
    made = export(make_inhabited())
    inhabited = made.inhabited
    async with open_parts(inhabited.installation.settings) as parts:
        log = parts.directory.operations(parts.clock)
        early, late = (parts.clock.now() + timedelta(days=days) for days in (6, 8))
        week = timedelta(days=7)
        assert await remove_old_exports(log, parts.directory, parts.objects, now=early, kept=week) == 0
        assert await remove_old_exports(log, parts.directory, parts.objects, now=late, kept=week) >= 1
    path = f"{inhabited.path}/exports/{made.operation['id']}"
    for each in (path, f"{path}/content"):
        answer = inhabited.tenant.owner.get(each)
        assert (answer.status_code, answer.json()["code"]) == (410, "export_gone")
    assert not [name for name in files_of(inhabited.installation, inhabited.tenant.id, "us") if "exports" in name]


def test_a_tenant_that_is_here_is_not_imported(exported: Exported) -> None:
    answer = send_archive(exported.inhabited.installation, exported.archive, exported.key)
    assert (answer.status_code, answer.json()["code"]) == (409, "tenant_here")


def test_a_tenant_that_was_erased_here_is_not_imported(make_inhabited: MakeInhabited) -> None:
    made = export(make_inhabited())
    installation = made.inhabited.installation
    installation.platform.delete(made.inhabited.path)
    made.inhabited.until_status("erase", "succeeded")
    answer = send_archive(installation, made.archive, made.key, slug="another-slug")
    assert (answer.status_code, answer.json()["code"]) == (409, "tenant_here")
