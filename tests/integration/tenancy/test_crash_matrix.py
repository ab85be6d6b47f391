"""Killed at every step, at its begin, in its midst, at its end: whoever comes next finishes it, nothing is lost."""

import asyncio
import base64
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.conftest import Installation, Tenant
from tests.ending import joined
from tests.integration.tenancy.crashing import AheadClock
from tests.integration.tenancy.ground import (
    Exported,
    Inhabited,
    MakeInhabited,
    Sums,
    databases,
    export,
    files_of,
    files_with,
    home_of,
    inhabit,
    lasting,
    members_of,
    only_witnessed,
    rows_of,
)

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.service import PUT_BACK, MoveRequest, MoveService
from tenantry.capabilities.tenants.service.archives import LEFT_OUT, examine, read_key
from tenantry.capabilities.tenants.types import Isolation, Operation, OperationKind, OperationStatus, Seat
from tenantry.entrypoints.api_runtime import make_runtime
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.places import is_schema
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.foundation.signatures import is_signed

AHEAD = timedelta(hours=1)
MOVE = ("provision", "freeze", "copy", "switch", "announce", "close")
MOVE_AWAY = ("provision", "drain", "freeze", "copy", "files", "switch", "announce", "close")
ERASE = ("stop", "tally", "stores", "rows", "certify")
ENVIRONMENT = {"slug": "last", "kind": "dev"}
IMPORT = ("provision", "rows", "things", "settle", "open")


def crash(installation: Installation, operation_id: UUID, *steps: str, start: timedelta = AHEAD) -> dict[str, int]:
    """Have an operation killed at each point of each step, then finished; tells how each process ended."""
    points = [f"{step}:{what}" for step in steps for what in ("begins", "1", "3", "ends")]
    return crash_at(installation, operation_id, *points, start=start)


def crash_at(installation: Installation, operation_id: UUID, *points: str, start: timedelta = AHEAD) -> dict[str, int]:
    """Have it killed at these points only; `cancel` calls it off."""
    script, ahead_by = Path(__file__).with_name("crashing.py"), str(int(start.total_seconds()))
    done = subprocess.run(
        [
            sys.executable,
            str(script),
            str(installation.home),
            operation_id.hex,
            ahead_by,
            *points,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    codes = json.loads(done.stdout)
    told = dict(zip([*points, "last"], codes, strict=True))
    assert told.pop("last") == 0, (told, done.stderr[-4000:])
    wrong = {point: code for point, code in told.items() if code not in ((8, 9) if point[-1].isdecimal() else (9,))}
    assert not wrong, done.stderr[-4000:]
    return told


@asynccontextmanager
async def ahead(installation: Installation) -> AsyncIterator[Parts]:
    """Parts whose clock is ahead: what they begin is not due for the installation's own server."""
    async with open_parts(installation.settings) as parts:
        yield dataclasses.replace(parts, clock=AheadClock(AHEAD))


def operation_of(inhabited: Inhabited, kind: OperationKind, step: str, parts: Parts, seat: Seat) -> Operation:
    now = parts.clock.now()
    return Operation(
        operation_id=new_id(),
        tenant_id=inhabited.tenant_id,
        kind=kind,
        status=OperationStatus.RUNNING,
        step=step,
        source=seat,
        target=seat,
        requested_by="test",
        confirmed_by=None,
        failure=None,
        grace_seconds=0,
        due_at=now,
        epoch=0,
        created_at=now,
        updated_at=now,
        step_since=now,
    )


@dataclass
class Writer:
    """Somebody who writes all the time and keeps what was acknowledged."""

    inhabited: Inhabited
    kept: list[str] = field(default_factory=list)
    refused: list[tuple[int, str | None]] = field(default_factory=list)

    def write(self, stop: threading.Event) -> None:
        client = self.inhabited.tenant.owner
        path = f"/workspaces/{self.inhabited.workspace}/environments"
        number = 0
        while not stop.is_set():
            number += 1
            answer = client.post(path, json={"slug": f"w-{number}", "kind": "dev"})
            if answer.status_code == 201:
                self.kept.append(f"w-{number}")
            else:
                self.refused.append((answer.status_code, answer.headers.get("retry-after")))
            time.sleep(0.05)

    def found(self) -> set[str]:
        found: set[str] = set()
        cursor = None
        while True:
            query = {"limit": "200", **({"cursor": cursor} if cursor else {})}
            path = f"/workspaces/{self.inhabited.workspace}/environments"
            page = self.inhabited.tenant.owner.get(path, params=query).json()
            found |= {each["slug"] for each in page["items"]}
            cursor = page["next_cursor"]
            if not cursor:
                return found


@contextmanager
def writing(inhabited: Inhabited) -> Iterator[Writer]:
    writer, stop = Writer(inhabited), threading.Event()
    thread = threading.Thread(target=writer.write, args=(stop,), daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        stop.set()
        joined(thread, seconds=60)


async def kept_rows(inhabited: Inhabited) -> Sums:
    rows = lasting(await rows_of(inhabited.installation, inhabited.tenant_id))
    return {name: sums for name, sums in rows.items() if name not in ("environments", "idempotency_records")}


def settled(rows: dict[str, Sums]) -> set[str]:
    """Name the places that hold something of a tenant, but for queues, from which an ended job goes by and by."""
    return {name for name in rows if not name.endswith(".queue")}


async def begin_move(inhabited: Inhabited, *, isolation: str | None = None, region: str | None = None) -> Operation:
    async with ahead(inhabited.installation) as parts:
        scope = TenantScope(tenant_id=inhabited.tenant_id, region=inhabited.tenant.region, actor=SYSTEM)
        async with parts.cells.session(scope, lifecycle=True) as session:
            service = MoveService(
                directory=parts.directory,
                log=parts.directory.operations(parts.clock),
                provisioner=parts.places,
                audit=AuditService(session=session, clock=parts.clock),
                clock=parts.clock,
            )
            wanted = MoveRequest(Isolation(isolation) if isolation else None, region, grace_seconds=0)
            operation = await service.request(
                inhabited.tenant_id, wanted, requested_by="one", regions=parts.settings.region_names
            )
            if operation.status is OperationStatus.WAITING:
                operation = await service.confirm(operation, confirmed_by="another")
        return operation


@pytest.mark.parametrize(
    ("isolation", "target", "region"),
    [
        ("row_level", "schema_level", None),
        ("schema_level", "database_level", None),
        ("database_level", "row_level", None),
        ("row_level", None, "eu"),
        ("database_level", "schema_level", "eu"),
    ],
)
async def test_a_move_killed_at_every_step_loses_nothing(
    elsewhere: Installation, isolation: str, target: str | None, region: str | None
) -> None:
    inhabited = await asyncio.to_thread(inhabit, elsewhere, isolation=isolation)
    before, read = await kept_rows(inhabited), inhabited.readable()
    files = files_of(elsewhere, inhabited.tenant.id, "us")
    operation = await begin_move(inhabited, isolation=target, region=region)
    steps = MOVE_AWAY if region else MOVE
    with writing(inhabited) as writer:
        await asyncio.to_thread(crash, elsewhere, operation.operation_id, *steps)
        await asyncio.sleep(1)

    rows = await rows_of(elsewhere, inhabited.tenant_id)
    assert await kept_rows(inhabited) == before
    assert await asyncio.to_thread(inhabited.readable) == read
    assert set(writer.kept) <= await asyncio.to_thread(writer.found)
    assert writer.kept
    assert {status for status, _ in writer.refused} == {503}, writer.refused
    assert all(retry and int(retry) > 0 for _, retry in writer.refused)
    place, there = operation.target.place, region or "us"
    home = place if not is_schema(place) else f"tenantry_{there}"
    schema = place if is_schema(place) else "tenantry"
    assert {name for name, tables in rows.items() if "tenants" in tables} == {f"{home}.{schema}"}
    gone = {inhabited.tenant_id.hex} - {inhabited.tenant_id.hex if not is_schema(place) else ""}
    assert not [name for name in await databases(elsewhere) if any(each in name for each in gone)]
    assert files_of(elsewhere, inhabited.tenant.id, there) == files
    assert await asyncio.to_thread(inhabited.kept) == inhabited.expected_kept
    if region:
        assert not home_of(elsewhere, "us", inhabited.tenant.id).exists()
        assert not [name for name in rows if name.startswith("tenantry_us")]


@pytest.mark.parametrize(
    ("isolation", "target", "region", "point"),
    [
        ("row_level", "schema_level", None, "provision:begins"),
        ("schema_level", "row_level", None, "freeze:ends"),
        ("schema_level", "database_level", None, "copy:3"),
        ("database_level", "row_level", None, "copy:ends"),
        ("row_level", "schema_level", None, "switch:begins"),
        ("row_level", None, "eu", "drain:1"),
        ("row_level", "schema_level", "eu", "files:1"),
        ("database_level", None, "eu", "switch:begins"),
    ],
)
async def test_a_move_called_off_and_killed_while_it_is_put_back_leaves_all_as_it_was(
    elsewhere: Installation, isolation: str, target: str | None, region: str | None, point: str
) -> None:
    inhabited = await asyncio.to_thread(inhabit, elsewhere, isolation=isolation)
    before, read = await kept_rows(inhabited), inhabited.readable()
    files, places = files_of(elsewhere, inhabited.tenant.id, "us"), await databases(elsewhere)
    where = settled(await rows_of(elsewhere, inhabited.tenant_id))
    operation = await begin_move(inhabited, isolation=target, region=region)
    back = [f"{PUT_BACK}:{what}" for what in ("begins", "1", "2", "3", "5", "ends")]
    with writing(inhabited) as writer:
        await asyncio.to_thread(crash_at, elsewhere, operation.operation_id, point, "cancel", *back)
        await asyncio.sleep(1)

    assert await kept_rows(inhabited) == before
    assert await asyncio.to_thread(inhabited.readable) == read
    assert set(writer.kept) <= await asyncio.to_thread(writer.found)
    assert {status for status, _ in writer.refused} <= {503}, writer.refused
    last = inhabited.tenant.owner.post(f"/workspaces/{inhabited.workspace}/environments", json=ENVIRONMENT)
    assert last.status_code == 201, last.text
    rows = await rows_of(elsewhere, inhabited.tenant_id)
    assert settled(rows) == where
    assert not [name for name in rows if name.startswith("tenantry_eu")]
    assert set(await databases(elsewhere)) - set(places) <= {"tenantry_us_empty", "tenantry_eu_empty"}
    assert files_of(elsewhere, inhabited.tenant.id, "us") == files
    assert not home_of(elsewhere, "eu", inhabited.tenant.id).exists()
    told = inhabited.tenant.owner.get("/audit", params={"action": "tenant.move_cancelled"}).json()["items"]
    assert [event["details"]["cancelled_by"] for event in told] == ["another"]
    job = inhabited.tenant.owner.post(
        f"/workspaces/{inhabited.workspace}/jobs", params={"wait": 30}, json={"command": ["true"]}
    )
    assert job.json()["status"] == "succeeded", job.text


@pytest.mark.parametrize("isolation", ["row_level", "schema_level", "database_level"])
async def test_an_erasure_killed_at_every_step_leaves_nothing(elsewhere: Installation, isolation: str) -> None:
    inhabited = await asyncio.to_thread(inhabit, elsewhere, isolation=isolation)
    answer = elsewhere.platform.delete(inhabited.path)
    assert answer.status_code == 200, answer.text
    async with ahead(elsewhere) as parts:
        erasure = await parts.directory.operations(parts.clock).find_erasure(inhabited.tenant_id)
    assert erasure is not None
    await asyncio.to_thread(crash, elsewhere, erasure.operation_id, *ERASE, start=timedelta(days=31))
    assert await rows_of(elsewhere, inhabited.tenant_id) == {}
    assert not files_with(elsewhere, inhabited.word)
    assert only_witnessed(files_with(elsewhere, inhabited.tenant.id))
    assert not [name for name in await databases(elsewhere) if inhabited.tenant_id.hex in name]
    shown = elsewhere.platform.get(f"{inhabited.path}/certificate").json()
    document = shown["document"]
    signature, key = (base64.b64decode(shown[name]) for name in ("signature", "public_key"))
    assert is_signed(document, signature=signature, public_key=key)
    # Counted before anything went, however often it was begun anew.
    assert (document["stores"]["objects"]["count"], document["stores"]["images"]["count"]) == (3, 1)
    assert (document["rows"]["jobs"]["count"], document["keysets"]) == (2, 1)
    trail = elsewhere.platform.get(
        "/audit", params={"action": "tenant.erased"}, headers={"X-Tenant-Id": "platform"}
    ).json()["items"]
    assert len([each for each in trail if each["details"].get("tenant") == inhabited.tenant.id]) == 1


async def test_an_export_killed_at_every_step_is_whole(elsewhere: Installation, tmp_path: Path) -> None:
    inhabited = await asyncio.to_thread(inhabit, elsewhere)
    async with ahead(elsewhere) as parts:
        placement = await parts.directory.get(inhabited.tenant_id)
        seat = Seat(placement.region, placement.isolation, placement.placement)
        operation = operation_of(inhabited, OperationKind.EXPORT, "collect", parts, seat)
        await parts.directory.operations(parts.clock).begin(operation)
    await asyncio.to_thread(crash, elsewhere, operation.operation_id, "collect")
    path = f"{inhabited.path}/exports/{format_id(Prefix.OPERATION, operation.operation_id)}"
    told, content = inhabited.tenant.owner.get(path), inhabited.tenant.owner.get(f"{path}/content")
    assert told.status_code == content.status_code == 200, told.text
    file = tmp_path / "archive.tar"
    file.write_bytes(content.content)
    assert len(examine(file).manifest.members) == len(members_of(content.content)) - 1
    assert len(read_key(told.json()["key"])) == 32
    assert not list(elsewhere.home.glob("us/*/objects/,unfinished/*"))


@pytest.mark.parametrize("isolation", ["row_level", "schema_level", "database_level"])
async def test_an_import_killed_at_every_step_is_the_same_tenant(
    make_inhabited: MakeInhabited, elsewhere: Installation, isolation: str
) -> None:
    made: Exported = await asyncio.to_thread(lambda: export(make_inhabited()))
    inhabited = made.inhabited
    before = lasting(await rows_of(inhabited.installation, inhabited.tenant_id))

    async def content() -> AsyncIterator[bytes]:
        yield made.archive

    async with ahead(elsewhere) as parts:
        operation, key = await make_runtime(parts).imports.request(
            content(),
            key=read_key(made.key),
            region="eu",
            isolation=Isolation(isolation),
            slug=None,
            requested_by="test",
        )
    assert elsewhere.platform.get(inhabited.path).status_code == 404
    await asyncio.to_thread(crash, elsewhere, operation.operation_id, *IMPORT)
    after = lasting(await rows_of(elsewhere, inhabited.tenant_id))
    kept = before.keys() - LEFT_OUT.keys() - {"keysets", "tenants"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["api_keys"][0] == 1
    tenant = Tenant(elsewhere, inhabited.tenant.id, inhabited.tenant.slug, "eu", key.secret)
    there = dataclasses.replace(inhabited, tenant=tenant, key=key.secret)
    assert await asyncio.to_thread(there.readable) == inhabited.readable()
    assert await asyncio.to_thread(there.kept) == there.expected_kept
    assert not list(elsewhere.home.glob("eu/imports/*"))
