"""Moves between strategies and regions: everything arrives, nothing stays, no acknowledged write is lost."""

import asyncio
import threading
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.conftest import Tenant
from tests.ending import joined
from tests.integration.places.conftest import Eyes, MakeGround
from tests.integration.sandboxes.ground import Ground, until
from tests.schedule import STRATEGIES

from tenantry.capabilities.tenants.service import MoverAccess, Moves, OperationRunner
from tenantry.capabilities.tenants.types import (
    Isolation,
    Operation,
    OperationKind,
    OperationStatus,
    Seat,
    StoreTally,
)
from tenantry.entrypoints.addresses import cell_database
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.places import SHARED, database_of, schema_of
from tenantry.foundation.database.transfer import open_rows
from tenantry.foundation.errors import Fault
from tenantry.foundation.ids import new_id

ROUND = (*STRATEGIES, "row_level")


def ask(tenant: Tenant, **target: Any) -> httpx.Response:
    return tenant.installation.platform.post(f"/tenants/{tenant.id}/move", json={"grace_seconds": 0, **target})


def ended(tenant: Tenant, operation: str, *, seconds: float = 60) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = tenant.installation.platform.get(f"/tenants/{tenant.id}/operations/{operation}").json()
        return found if found.get("status") in ("succeeded", "failed", "cancelled") else None

    answer = until(look, seconds=seconds)
    assert answer is not None
    return answer


def move(tenant: Tenant, **target: Any) -> dict[str, Any]:
    """Move, with the owner's consent where a region is left; gives the ended operation."""
    answer = ask(tenant, **target)
    assert answer.status_code == 202, answer.text
    operation = answer.json()
    if operation["status"] == "waiting":
        agreed = tenant.owner.post(f"/tenants/{tenant.id}/operations/{operation['id']}/confirm")
        assert agreed.status_code == 200, agreed.text
    done = ended(tenant, operation["id"])
    assert (done["status"], done["step"]) == ("succeeded", "done"), done
    return done


async def digests(parts: Parts, ground: Ground, *, region: str, place: str) -> dict[str, tuple[int, str]]:
    """What the tenant has, by table; what a move itself changes is left out."""
    dsn, signer = parts.addresses.cells[region].mover, parts.cells.get(region).signer
    assert dsn is not None
    log = {"audit_heads", "audit_tiles", "audit_unsigned", "audit_checkpoints"}
    left_out = log | {"audit_events", "audit_unsealed", "audit_sequence", "tenants", "workspaces", "outbox"}
    left_out |= {"evidence", "evidence_envelopes"}  # locked meanwhile
    left_out |= {"metering_events", "metering_hours", "metering_marks"}  # a server adds them up meanwhile
    left_out |= {"audit_index", "audit_words", "audit_days"}  # and follows the trail
    async with open_rows(dsn, place=place, signer=signer, tenant_id=ground.tenant_id, snapshot=True) as rows:
        return {
            table.name: (digest.rows, digest.sum)
            for table in await rows.tables()
            if table.name not in left_out and table.name not in ("api_keys", "idempotency_records")
            for digest in [await rows.digest(table)]
        }


def place_of(ground: Ground, isolation: str, region: str) -> str:
    tenant = ground.tenant_id
    return {
        "row_level": SHARED,
        "schema_level": schema_of(tenant),
        "database_level": database_of(region, tenant),
    }[isolation]


async def test_everything_arrives_and_nothing_stays(make_ground: MakeGround, parts: Parts, eyes: Eyes) -> None:
    ground = make_ground()
    first = ground.run("sh", "-c", "echo said; echo kept > file", artifacts=["file"])["id"]
    cell = cell_database("us")
    before = await digests(parts, ground, region="us", place=SHARED)
    assert before["jobs"][0] == 1
    path = f"/tenants/{ground.tenant.id}"
    for old, new in pairwise(ROUND):
        held = {"If-None-Match": ground.tenant.owner.get(path).headers["etag"]}
        for _ in range(3):
            assert ground.tenant.owner.get(path, headers=held).status_code == 304
        move(ground.tenant, isolation=new)
        assert ground.tenant.owner.get(path, headers=held).json()["isolation"] == new
        assert await digests(parts, ground, region="us", place=place_of(ground, new, "us")) == before
        rows = await eyes.rows(cell, ground.tenant_id)
        if old == "row_level":
            assert SHARED not in rows
        elif old == "schema_level":
            assert schema_of(ground.tenant_id) not in await eyes.schemas(cell)
        else:
            assert database_of("us", ground.tenant_id) not in await eyes.databases()
        assert set(rows.get("queue", {})) <= {"purges", "entries", "shares"}
        assert ground.lines(first, "stdout") == "said\n"
        artifact = ground.artifacts(first)["file"]["id"]
        content = ground.client.get(f"{ground.jobs}/{first}/artifacts/{artifact}/content")
        assert content.text == "kept\n"
    assert ground.run("true")["status"] == "succeeded"


@pytest.mark.parametrize(
    ("isolation", "target"),
    [("row_level", "row_level"), ("schema_level", "database_level"), ("database_level", "schema_level")],
)
async def test_a_region_is_left_whole(
    make_ground: MakeGround, parts: Parts, eyes: Eyes, isolation: str, target: str
) -> None:
    ground = make_ground(isolation=isolation)
    first = ground.run("sh", "-c", "echo said; echo kept > file", artifacts=["file"])["id"]
    before = await digests(parts, ground, region="us", place=place_of(ground, isolation, "us"))
    held = {"If-None-Match": ground.client.get(f"/workspaces/{ground.workspace}").headers["etag"]}
    for _ in range(3):
        assert ground.client.get(f"/workspaces/{ground.workspace}", headers=held).status_code == 304
    move(ground.tenant, region="eu", isolation=target)
    assert await digests(parts, ground, region="eu", place=place_of(ground, target, "eu")) == before
    # Keys name the region they were made in; they go along.
    found = ground.tenant.owner.get(f"/tenants/{ground.tenant.id}").json()
    assert (found["region"], found["isolation"]) == ("eu", target)
    workspace = ground.client.get(f"/workspaces/{ground.workspace}", headers=held).json()
    assert workspace["region"] == "eu"
    assert ground.lines(first, "stdout") == "said\n"
    assert ground.artifacts(first)["file"]["size_bytes"] == 5
    assert ground.run("true")["status"] == "succeeded"
    for database in (cell_database("us"), cell_database("eu")):
        rows = await eyes.rows(database, ground.tenant_id)
        assert database == cell_database("eu") or rows == {}, rows
    assert [entry async for entry in parts.objects["us"].list_objects(ground.tenant_id)] == []
    assert database_of("us", ground.tenant_id) not in await eyes.databases()
    trail = ground.tenant.owner.get("/audit", params={"action": "tenant.move"}).json()["items"]
    assert {item["action"] for item in trail} >= {"tenant.moved", "tenant.move_requested", "tenant.move_confirmed"}


def test_another_region_needs_a_second_administrator(make_ground: MakeGround) -> None:
    ground = make_ground()
    tenant, platform = ground.tenant, ground.installation.platform
    operation = ask(tenant, region="eu").json()
    assert operation["status"] == "waiting"
    place = f"/tenants/{tenant.id}/operations/{operation['id']}"
    refused = platform.post(f"{place}/confirm")
    assert (refused.status_code, refused.json()["code"]) == (403, "confirmer_same")
    again = ask(tenant, region="eu")
    assert (again.status_code, again.json()["code"]) == (409, "operation_open")
    stranger = make_ground().tenant.owner
    assert stranger.post(f"{place}/confirm").status_code == 403
    assert tenant.owner.post(f"{place}/cancel").json()["status"] == "cancelled"
    late = tenant.owner.post(f"{place}/confirm")
    assert (late.status_code, late.json()["code"]) == (409, "state_conflict")
    assert tenant.owner.get(f"/tenants/{tenant.id}").json()["region"] == "us"


def test_what_makes_no_sense_is_refused(make_ground: MakeGround) -> None:
    ground = make_ground()
    platform = ground.installation.platform
    for target, code in (
        ({}, "move_nowhere"),
        ({"isolation": "row_level"}, "move_nowhere"),
        ({"region": "ap"}, "region_unknown"),
    ):
        answer = ask(ground.tenant, **target)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert ground.tenant.owner.post(f"/tenants/{ground.tenant.id}/move", json={"region": "eu"}).status_code == 403
    own = platform.post("/tenants/platform/move", json={"isolation": "schema_level"})
    assert (own.status_code, own.json()["code"]) == (403, "platform_tenant")
    platform.delete(f"/tenants/{ground.tenant.id}")
    gone = ask(ground.tenant, isolation="schema_level")
    assert (gone.status_code, gone.json()["code"]) == (409, "state_conflict")


def test_a_suspended_tenant_arrives_suspended(make_ground: MakeGround) -> None:
    ground = make_ground()
    platform, place = ground.installation.platform, f"/tenants/{ground.tenant.id}"
    platform.post(f"{place}/suspend", json={"reason": "unpaid"})
    move(ground.tenant, isolation="schema_level")
    assert platform.get(place).json()["status"] == "suspended"
    assert ground.tenant.owner.get(place).status_code == 403
    assert platform.post(f"{place}/resume").status_code == 200
    assert ground.run("true")["status"] == "succeeded"


@pytest.mark.parametrize("target", ["schema_level", "database_level"])
def test_what_runs_and_what_waits_is_done_once(make_ground: MakeGround, target: str) -> None:
    """More jobs than slots, some of them long, across the move."""
    ground = make_ground()
    slots = ground.installation.settings.jobs.slots
    running = [ground.start("sh", "-c", "echo begun; sleep 3; echo done") for _ in range(slots)]
    for job in running:
        ground.until_status(job, "running")
    waiting = [ground.start("sh", "-c", "echo begun; echo done") for _ in range(6)]
    move(ground.tenant, isolation=target)
    for job in (*running, *waiting):
        found = ground.ended(job)
        assert found["status"] == "succeeded", found
        assert ground.lines(job, "stdout") == "begun\ndone\n"
    # Done once: the queue has forgotten all of it, and new work has the slots.
    assert ground.run("true")["status"] == "succeeded"


async def test_no_acknowledged_write_is_lost(make_ground: MakeGround) -> None:
    """A writer that never stops: each answer is a success that is there afterwards, or a 503 that says when."""
    ground = make_ground()
    stop, made, refused = threading.Event(), [], []

    def write() -> None:
        with httpx.Client(base_url=ground.installation.api, headers=dict(ground.client.headers)) as client:
            while not stop.is_set():
                answer = client.post("/workspaces", json={"name": "w", "owner": {"type": "team", "id": "core"}})
                if answer.status_code == 201:
                    made.append(answer.json()["id"])
                else:
                    refused.append((answer.status_code, answer.json()["code"], answer.headers.get("retry-after")))

    writers = [threading.Thread(target=write, daemon=True) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for isolation in ("schema_level", "database_level", "row_level"):
            await asyncio.to_thread(move, ground.tenant, isolation=isolation)
    finally:
        stop.set()
        for writer in writers:
            joined(writer)
    found, cursor = set(), None
    while True:
        page = ground.client.get("/workspaces", params={"limit": 200, **({"cursor": cursor} if cursor else {})}).json()
        found |= {item["id"] for item in page["items"]}
        if not (cursor := page["next_cursor"]):
            break
    assert set(made) <= found
    assert made
    assert {(status, code) for status, code, _ in refused} <= {(503, "tenant_read_only"), (503, "tenant_moved")}
    assert all(retry for _, _, retry in refused)


class Ahead(SystemClock):
    """A day ahead of everybody's: what is due tomorrow is due, and nobody else takes it."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=1)


class Broken:
    """A store that never arrives whole."""

    def __init__(self) -> None:
        self.erased: list[str] = []

    async def copy(self, tenant_id: UUID, *, source: str, target: str) -> int:
        raise Fault("copy_differs", f"{tenant_id.hex} did not get from {source} to {target}", layer="objects")

    async def measure(self, tenant_id: UUID, *, region: str) -> StoreTally:
        raise NotImplementedError

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        self.erased.append(f"{region}/{tenant_id.hex}")
        return 0


@pytest.mark.parametrize("target", STRATEGIES)
async def test_a_move_that_cannot_succeed_is_given_up_and_leaves_nothing(
    make_ground: MakeGround, parts: Parts, eyes: Eyes, target: str
) -> None:
    ground = make_ground()
    ground.run("true")
    before = await digests(parts, ground, region="us", place=SHARED)
    clock, store = Ahead(), Broken()
    log = parts.directory.operations(clock)
    moves = Moves(
        log=log,
        cells=parts.cells,
        access={
            cell.region: MoverAccess(parts.addresses.cells[cell.region].mover or "", cell.signer)
            for cell in parts.cells
        },
        provisioner=parts.places,
        stores={"broken": store},
        drains=(),
        drain_seconds=900,
        clock=clock,
    )
    now = clock.now()
    await log.begin(
        Operation(
            operation_id=new_id(),
            tenant_id=ground.tenant_id,
            kind=OperationKind.MOVE,
            status=OperationStatus.RUNNING,
            step="provision",
            source=Seat("us", Isolation.ROW_LEVEL, SHARED),
            target=Seat("eu", Isolation(target), place_of(ground, target, "eu")),
            requested_by="a test",
            confirmed_by=None,
            failure=None,
            grace_seconds=0,
            due_at=now - timedelta(hours=1),
            epoch=0,
            created_at=now,
            updated_at=now,
            step_since=now,
        )
    )
    runner = OperationRunner(log, kinds={OperationKind.MOVE: moves}, regions=("us", "eu"), clock=clock)
    assert await runner.run_due() >= 1
    (operation,) = await log.list_operations(ground.tenant_id)
    assert (operation.status, operation.step, operation.failure) == (OperationStatus.FAILED, "files", "copy_differs")
    # The old place is open again, with everything; of the new one there is neither row nor place.
    assert await digests(parts, ground, region="us", place=SHARED) == before
    assert ground.run("true")["status"] == "succeeded"
    assert await eyes.rows(cell_database("eu"), ground.tenant_id) == {}
    assert database_of("eu", ground.tenant_id) not in await eyes.databases()
    assert schema_of(ground.tenant_id) not in await eyes.schemas(cell_database("eu"))
    # A day ahead, other tests' moves are past their grace too, and are closed on the way.
    assert [place for place in store.erased if ground.tenant_id.hex in place] == [f"eu/{ground.tenant_id.hex}"]
