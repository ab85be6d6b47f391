"""Moves that end early, by themselves or by a wish: the tenant works on where it was, the new place is empty."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.integration.places.conftest import Eyes, MakeGround
from tests.integration.sandboxes.ground import Ground, until

from tenantry.capabilities.tenants.ports import TenantStore
from tenantry.capabilities.tenants.service import MoverAccess, Moves, OperationLog, OperationRunner, Steps
from tenantry.capabilities.tenants.service.operations import new_operation
from tenantry.capabilities.tenants.types import Isolation, Operation, OperationKind, OperationStatus, Seat, StoreTally
from tenantry.entrypoints.addresses import cell_database
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.places import SHARED, database_of, schema_of
from tenantry.foundation.errors import Conflict, Unavailable
from tenantry.foundation.ids import Prefix, format_id

Json = dict[str, Any]
DRAIN_SECONDS = 900


class Tomorrow(SystemClock):
    """A day ahead, so that nobody else takes what is due by it, and moved on by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(days=1)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Endless:
    """A store whose copy never ends by itself."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.left = asyncio.Event()

    async def copy(self, tenant_id: UUID, *, source: str, target: str) -> int:
        del tenant_id, source, target
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return 0

    async def measure(self, tenant_id: UUID, *, region: str) -> StoreTally:
        raise NotImplementedError

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        del tenant_id, region
        return 0


class Away(Endless):
    """A store of the new region that does not answer, until it does."""

    away = True

    async def erase(self, tenant_id: UUID, *, region: str) -> int:
        if self.away:
            raise Unavailable("object_store_unavailable", "it does not answer", layer="objects")
        return await super().erase(tenant_id, region=region)


def moves_of(parts: Parts, clock: SystemClock, stores: Mapping[str, TenantStore]) -> tuple[OperationLog, Moves]:
    log = parts.directory.operations(clock)
    access = {
        cell.region: MoverAccess(parts.addresses.cells[cell.region].mover or "", cell.signer) for cell in parts.cells
    }
    return log, Moves(
        log=log,
        cells=parts.cells,
        access=access,
        provisioner=parts.places,
        stores=stores,
        drains=(),
        drain_seconds=DRAIN_SECONDS,
        clock=clock,
    )


def runner_of(log: OperationLog, moves: Moves, clock: SystemClock) -> OperationRunner:
    kinds: dict[str, Steps] = {OperationKind.MOVE: moves}
    return OperationRunner(log, kinds=kinds, regions=("us", "eu"), clock=clock, renew_seconds=0.05)


async def begin(log: OperationLog, ground: Ground, clock: SystemClock, *, step: str = "provision") -> Operation:
    """Begin a confirmed move from the shared tables of us to those of eu."""
    return await log.begin(
        new_operation(
            OperationKind.MOVE,
            step=step,
            tenant_id=ground.tenant_id,
            source=Seat("us", Isolation.ROW_LEVEL, SHARED),
            target=Seat("eu", Isolation.ROW_LEVEL, SHARED),
            requested_by="one",
            now=clock.now() - timedelta(seconds=1),
        )
    )


async def read(log: OperationLog, operation: Operation) -> Operation:
    return await log.get(operation.operation_id, tenant_id=operation.tenant_id)


def write(ground: Ground) -> httpx.Response:
    owner = ground.tenant.owner
    return owner.post("/workspaces", json={"name": "w", "owner": {"type": "team", "id": "core"}})


def told(ground: Ground, action: str) -> list[Json]:
    items: list[Json] = ground.tenant.owner.get("/audit", params={"action": action}).json()["items"]
    return items


async def assert_nothing_is_in_eu(eyes: Eyes, ground: Ground, parts: Parts) -> None:
    assert await eyes.rows(cell_database("eu"), ground.tenant_id) == {}
    assert database_of("eu", ground.tenant_id) not in await eyes.databases()
    assert schema_of(ground.tenant_id) not in await eyes.schemas(cell_database("eu"))
    assert not (parts.settings.home / "eu" / ground.tenant.id).exists()


async def test_a_move_that_does_not_come_to_rest_in_time_fails_and_the_tenant_stays(
    make_ground: MakeGround, parts: Parts, eyes: Eyes
) -> None:
    ground, clock = make_ground(), Tomorrow()
    job = ground.start("sh", "-c", "echo begun; sleep 20; echo done")
    await asyncio.to_thread(ground.until_status, job, "running")
    log, moves = moves_of(parts, clock, parts.stores)
    runner = runner_of(log, moves, clock)
    operation = await begin(log, ground, clock)
    for waited in (0, DRAIN_SECONDS - 10):
        clock.ahead += timedelta(seconds=waited)
        await runner.run_due()
        found = await read(log, operation)
        assert (found.status, found.step, found.failure) == (OperationStatus.RUNNING, "drain", "tenant_draining")
    refused = write(ground)
    assert (refused.status_code, refused.json()["code"]) == (503, "tenant_read_only")
    clock.ahead += timedelta(seconds=11)
    await runner.run_due()
    found = await read(log, operation)
    assert (found.status, found.step, found.failure) == (OperationStatus.FAILED, "drain", "move_overdue")
    assert write(ground).status_code == 201
    await assert_nothing_is_in_eu(eyes, ground, parts)
    [event] = told(ground, "tenant.move_failed")
    assert (event["outcome"], event["reason"]) == ("error", "move_overdue")
    assert event["details"]["step"] == "drain"
    ended = await asyncio.to_thread(ground.ended, job)
    assert ended["status"] == "succeeded"
    assert await asyncio.to_thread(lambda: ground.run("true")["status"]) == "succeeded"


def _until_step(ground: Ground, operation: str, step: str) -> None:
    path = f"/tenants/{ground.tenant.id}/operations/{operation}"
    platform = ground.installation.platform
    assert until(lambda: platform.get(path).json()["step"] == step or None)


@pytest.mark.parametrize("who", ["owner", "platform"])
async def test_a_move_that_waits_for_jobs_can_be_called_off(
    make_ground: MakeGround, parts: Parts, eyes: Eyes, who: str
) -> None:
    ground = make_ground()
    tenant, platform = ground.tenant, ground.installation.platform
    local_admin = tenant.as_role("workspace-admin", ground.workspace)
    job = ground.start("sh", "-c", "echo begun; sleep 10; echo done")
    await asyncio.to_thread(ground.until_status, job, "running")
    asked = platform.post(f"/tenants/{tenant.id}/move", json={"region": "eu", "isolation": "schema_level"}).json()
    path = f"/tenants/{tenant.id}/operations/{asked['id']}"
    assert tenant.owner.post(f"{path}/confirm").status_code == 200
    await asyncio.to_thread(_until_step, ground, asked["id"], "drain")
    assert await asyncio.to_thread(until, lambda: write(ground).status_code == 503 or None)
    stranger = make_ground().tenant.owner
    assert stranger.post(f"{path}/cancel").status_code == 403
    assert local_admin.post(f"{path}/cancel").status_code == 403
    # The tenant takes no writes, and still its owner is heard.
    caller = tenant.owner if who == "owner" else platform
    answer = caller.post(f"{path}/cancel", headers={"Idempotency-Key": "once"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.json()["ending"]) in (("running", "cancelled"), ("cancelled", "cancelled"))

    def ended() -> Json | None:
        found: Json = platform.get(path).json()
        return found if found["status"] != "running" else None

    done = await asyncio.to_thread(until, ended)
    assert done is not None
    assert (done["status"], done["step"], done["failure"]) == ("cancelled", "drain", None)
    assert done["cancelled_by"]
    again = caller.post(f"{path}/cancel", headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert write(ground).status_code == 201
    assert tenant.owner.get(f"/tenants/{tenant.id}").json()["region"] == "us"
    await assert_nothing_is_in_eu(eyes, ground, parts)
    [event] = told(ground, "tenant.move_cancelled")
    assert event["details"]["cancelled_by"] == done["cancelled_by"]
    finished = await asyncio.to_thread(ground.ended, job)
    assert finished["status"] == "succeeded"
    # And another one may be asked for, which arrives.
    next_one = platform.post(f"/tenants/{tenant.id}/move", json={"isolation": "schema_level", "grace_seconds": 0})
    assert next_one.status_code == 202, next_one.text


async def test_after_the_switch_nothing_is_called_off(make_ground: MakeGround) -> None:
    ground = make_ground()
    platform, path = ground.installation.platform, f"/tenants/{ground.tenant.id}"
    asked = platform.post(f"{path}/move", json={"isolation": "schema_level", "grace_seconds": 3600}).json()
    await asyncio.to_thread(_until_step, ground, asked["id"], "close")
    for caller in (platform, ground.tenant.owner):
        refused = caller.post(f"{path}/operations/{asked['id']}/cancel")
        assert (refused.status_code, refused.json()["code"]) == (409, "move_switched")
        assert "move it back" in refused.json()["detail"]
    found = platform.get(f"{path}/operations/{asked['id']}").json()
    assert (found["status"], found["ending"], found["cancelled_by"]) == ("running", None, None)


def test_only_moves_are_called_off(make_ground: MakeGround) -> None:
    ground = make_ground()
    owner, path = ground.tenant.owner, f"/tenants/{ground.tenant.id}"
    export = owner.post(f"{path}/export").json()
    place = f"{path}/operations/{export['id']}"
    refused = owner.post(f"{place}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
    assert until(lambda: owner.get(place).json()["status"] == "succeeded" or None)


async def test_a_long_step_is_left_when_its_move_is_called_off(
    make_ground: MakeGround, parts: Parts, eyes: Eyes
) -> None:
    ground, clock, store = make_ground(), Tomorrow(), Endless()
    log, moves = moves_of(parts, clock, {"endless": store})
    operation = await begin(log, ground, clock)
    working = asyncio.create_task(runner_of(log, moves, clock).run_due())
    await asyncio.wait_for(store.began.wait(), timeout=30)
    assert write(ground).status_code == 503
    assert await log.call_off(operation, cancelled_by="another") is not None
    await asyncio.wait_for(working, timeout=30)
    assert store.left.is_set()
    found = await read(log, operation)
    assert (found.status, found.step, found.cancelled_by) == (OperationStatus.CANCELLED, "files", "another")
    assert write(ground).status_code == 201
    await assert_nothing_is_in_eu(eyes, ground, parts)


async def test_the_tenant_works_again_though_the_new_place_cannot_be_cleared_yet(
    make_ground: MakeGround, parts: Parts, eyes: Eyes
) -> None:
    ground, clock, store = make_ground(), Tomorrow(), Away()
    log, moves = moves_of(parts, clock, {"away": store})
    operation = await begin(log, ground, clock)
    runner = runner_of(log, moves, clock)
    working = asyncio.create_task(runner.run_due())
    await asyncio.wait_for(store.began.wait(), timeout=30)
    await log.call_off(operation, cancelled_by="another")
    await asyncio.wait_for(working, timeout=30)
    found = await read(log, operation)
    assert (found.status, found.ending) == (OperationStatus.RUNNING, OperationStatus.CANCELLED)
    assert found.failure == "object_store_unavailable"
    assert write(ground).status_code == 201
    store.away = False
    clock.ahead += timedelta(seconds=3)
    # As it is looked for again and again: a row that is held at this moment is left for the next time.
    async with asyncio.timeout(30):
        while not await runner.run_due():
            pass
    found = await read(log, operation)
    assert (found.status, found.failure) == (OperationStatus.CANCELLED, None)
    assert len(told(ground, "tenant.move_cancelled")) == 1
    await assert_nothing_is_in_eu(eyes, ground, parts)


async def test_a_switch_and_a_cancellation_never_both_happen(make_ground: MakeGround, parts: Parts) -> None:
    """Whichever comes first, with the other waiting for the same row."""
    outcomes = set()
    for first in ("switch", "cancel", "together"):
        ground, clock = make_ground(), Tomorrow()
        log = parts.directory.operations(clock)
        operation = await begin(log, ground, clock, step="switch")

        async def switch(log: OperationLog = log, operation: Operation = operation) -> bool:
            try:
                await log.switch(operation)
            except Conflict:
                return False
            return True

        async def cancel(log: OperationLog = log, operation: Operation = operation) -> bool:
            return await log.call_off(operation, cancelled_by="another") is not None

        if first == "switch":
            switched, cancelled = await switch(), await cancel()
        elif first == "cancel":
            cancelled, switched = await cancel(), await switch()
        else:
            switched, cancelled = await asyncio.gather(switch(), cancel())
        assert switched != cancelled
        placement = await parts.directory.get(ground.tenant_id)
        assert placement.region == ("eu" if switched else "us")
        outcomes.add(switched)
        await log.seat(ground.tenant_id, operation.source)
        ended = await read(log, operation)
        await log.advance(ended, status=OperationStatus.FAILED, step="switch", at=None, failure="a test")
    assert outcomes == {True, False}


async def test_what_suspends_a_tenant_while_its_move_is_put_back_stands(make_ground: MakeGround, parts: Parts) -> None:
    ground, clock = make_ground(), Tomorrow()
    log, moves = moves_of(parts, clock, parts.stores)
    operation = await begin(log, ground, clock, step="drain")
    job = ground.start("sh", "-c", "sleep 8")
    await asyncio.to_thread(ground.until_status, job, "running")
    await runner_of(log, moves, clock).run_due()
    path = f"/tenants/{ground.tenant.id}"
    platform = ground.installation.platform
    assert platform.post(f"{path}/suspend", json={"reason": "unpaid"}).status_code == 200
    await log.call_off(operation, cancelled_by="another")
    async with asyncio.timeout(60):
        while (ended := await read(log, operation)).status is OperationStatus.RUNNING:  # a busy machine: tried again
            clock.ahead += timedelta(seconds=3)
            await runner_of(log, moves, clock).run_due()
    assert ended.status is OperationStatus.CANCELLED
    assert ground.tenant.owner.get(path).status_code == 403
    assert platform.post(f"{path}/resume").status_code == 200
    assert write(ground).status_code == 201
    name = format_id(Prefix.OPERATION, operation.operation_id)
    assert [event["resource"]["id"] for event in told(ground, "tenant.move_cancelled")] == [name]
