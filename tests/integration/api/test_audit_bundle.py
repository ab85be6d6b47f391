"""A tenant's whole log as a file: verified without the server, and what whoever owns the database changes is named."""

import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import problem

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service import bundle_receipts
from tenantry.capabilities.audit.service.bundle_verifier import BundleReport, verify_bundle
from tenantry.capabilities.audit.service.consistency import KeptCheckpoint
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.entrypoints.addresses import cell_database
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.ids import Prefix, parse_id

pytestmark = pytest.mark.xdist_group("api")
EVENTS = 40


@pytest.fixture
def logged(make_tenant: MakeTenant) -> Tenant:
    """A tenant of some events, all of them signed."""
    tenant = make_tenant()
    for number in range(EVENTS):
        tenant.workspace(f"w-{number}")
    newest = tenant.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"]
    _signed(tenant, newest)
    return tenant


def _signed(tenant: Tenant, event: str) -> None:
    deadline = time.monotonic() + 20
    while tenant.owner.get(f"/audit/proof/{event}").status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
async def superuser(installation: Installation) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    server = replace(EmbeddedPostgres(installation.home).superuser, database=cell_database("us"))
    connection = await asyncpg.connect(**asdict(server))
    yield connection
    await connection.close()


def export(tenant: Tenant, file: Path) -> Path:
    answer = tenant.owner.get("/audit/export", params={"format": "bundle"})
    assert answer.status_code == 200, answer.text
    file.write_bytes(answer.content)
    return file


def witness_of(installation: Installation) -> list[bytes]:
    import json

    files = sorted((installation.home / "us" / "checkpoints").iterdir())
    return [json.loads(line)["note"].encode() for file in files for line in file.read_text().splitlines()]


def verify(installation: Installation, file: Path) -> BundleReport:
    """As somebody would who has the witness."""
    return verify_bundle(file, witnessed=witness_of(installation))


def named(refused: BundleRefused) -> range:
    """The events among which the bad one is: mostly it alone."""
    told = refused.fields
    first, last = (told.get("sequence", told.get(end)) for end in ("first", "last"))
    assert isinstance(first, int), told
    assert isinstance(last, int), told
    return range(first, last + 1)


def test_what_is_exported_verifies_without_the_server_and_against_the_witness(
    logged: Tenant, installation: Installation, tmp_path: Path
) -> None:
    file = export(logged, tmp_path / "acme.audit")
    report = verify(installation, file)
    assert report.tenant == logged.id
    assert report.size > EVENTS
    assert report.witnessed >= 1
    shown = logged.owner.get("/audit", params={"action": "workspace.created", "limit": 200}).json()["items"]
    content = file.read_text()
    assert all(event["id"] in content for event in shown)
    (told,) = logged.owner.get("/audit", params={"action": "audit.exported"}).json()["items"]
    assert told["details"]["size"] == report.size


def test_it_is_of_the_whole_tenant_and_for_its_auditors(logged: Tenant, tmp_path: Path) -> None:
    workspace = logged.owner.get("/workspaces").json()["items"][0]["id"]
    problem(logged.as_role("auditor", workspace).get("/audit/export"), 403, "permission_missing")
    problem(logged.owner.get("/audit/export", params={"format": "csv"}), 422, "invalid_request")
    answer = logged.as_role("auditor", None).get("/audit/export")
    (tmp_path / "a").write_bytes(answer.content)
    assert verify_bundle(tmp_path / "a").tenant == logged.id


Change = tuple[str, str, Callable[[int], int]]
CHANGES: dict[str, Any] = {
    "an event is edited": "update tenantry.audit_events set canonical = convert_to(replace(convert_from(canonical,"
    " 'UTF8'), 'success', 'denied'), 'UTF8') where tenant_id = $1 and event_id = $2",
    "an event and its leaf are": "with changed as (update tenantry.audit_events set canonical = canonical || ' '::bytea"
    " where tenant_id = $1 and event_id = $2 returning canonical) update tenantry.audit_sequence set leaf ="
    " sha256('\\x00'::bytea || (select canonical from changed)) where tenant_id = $1 and event_id = $2",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
async def test_an_edited_event_is_named(
    logged: Tenant, installation: Installation, superuser: Any, tmp_path: Path, change: str
) -> None:
    tenant = parse_id(Prefix.TENANT, logged.id)
    event = await superuser.fetchval(
        "select event_id from tenantry.audit_sequence where tenant_id = $1 and sequence = 7", tenant
    )
    await superuser.execute(change, tenant, event)
    with pytest.raises(BundleRefused) as refused:
        verify(installation, export(logged, tmp_path / "edited"))
    assert 7 in named(refused.value)


async def test_events_that_changed_places_are_named(
    logged: Tenant, installation: Installation, superuser: Any, tmp_path: Path
) -> None:
    tenant = parse_id(Prefix.TENANT, logged.id)
    async with superuser.transaction():
        for old, new in ((5, 1_000_005), (6, 5), (1_000_005, 6)):
            await superuser.execute(
                "update tenantry.audit_sequence set sequence = $3 where tenant_id = $1 and sequence = $2",
                tenant, old, new,
            )  # fmt: skip
    with pytest.raises(BundleRefused) as refused:
        verify(installation, export(logged, tmp_path / "moved"))
    assert 5 in named(refused.value)


async def test_a_log_that_was_rolled_back_or_cut_is_found_out_by_the_witness(
    logged: Tenant, installation: Installation, superuser: Any, tmp_path: Path
) -> None:
    """All of the database is set back to how it was at an earlier checkpoint: each row is true, and some are gone."""
    tenant, id_ = parse_id(Prefix.TENANT, logged.id), logged.id
    sizes = await superuser.fetch(
        "select size from tenantry.audit_checkpoints where tenant_id = $1 order by size", tenant
    )
    assert sizes
    logged.workspace("later")
    newest = logged.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"]
    _signed(logged, newest)
    earlier = sizes[-1]["size"]
    await superuser.execute(
        "delete from tenantry.audit_checkpoints where tenant_id = $1 and size > $2", tenant, earlier
    )
    file = export(logged, tmp_path / "cut")
    assert verify_bundle(file).size == earlier, "by itself it is a log, and whole"
    with pytest.raises(BundleRefused) as refused:
        verify(installation, file)
    assert refused.value.code == "log_rolled_back", (id_, refused.value)


async def test_a_deleted_event_ends_the_export(
    logged: Tenant, installation: Installation, superuser: Any, tmp_path: Path
) -> None:
    tenant = parse_id(Prefix.TENANT, logged.id)
    async with superuser.transaction():
        event = await superuser.fetchval(
            "delete from tenantry.audit_sequence where tenant_id = $1 and sequence = 9 returning event_id", tenant
        )
        await superuser.execute(
            "delete from tenantry.audit_events where tenant_id = $1 and event_id = $2", tenant, event
        )
    with pytest.raises(BundleRefused):
        verify(installation, export(logged, tmp_path / "deleted"))


async def test_what_is_removed_before_it_is_sealed_is_shown_by_its_receipt(
    logged: Tenant, superuser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has signed a tree with it, no checkpoint tells of it: the receipt alone does."""
    monkeypatch.setattr(bundle_receipts, "_SKEW", timedelta(0))  # all is on one machine here
    tenant = parse_id(Prefix.TENANT, logged.id)
    kept = [logged.owner.post("/workspaces", json={"name": "kept", "owner": {"type": "team", "id": "core"}})]
    async with superuser.transaction():
        await superuser.execute("select from fence.sealer_gate for update")
        made = logged.owner.post("/workspaces", json={"name": "gone", "owner": {"type": "team", "id": "core"}})
        (event,) = logged.owner.get("/audit", params={"resource": made.json()["id"]}).json()["items"]
        gone = tenant, parse_id(Prefix.AUDIT_EVENT, event["id"])
        for table in ("audit_unsealed", "audit_events"):
            await superuser.execute(f"delete from tenantry.{table} where tenant_id = $1 and event_id = $2", *gone)
    logged.workspace("later")
    _signed(logged, logged.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"])
    file = export(logged, tmp_path / "removed")
    assert verify_bundle(file).size, "by itself it is a log, and whole"
    receipts = [b64decode(answer.headers["audit-receipt"]) for answer in (*kept, made)]
    assert verify_bundle(file, receipts=receipts[:1]).receipts == 1
    with pytest.raises(BundleRefused) as refused:
        verify_bundle(file, receipts=receipts)
    assert (refused.value.code, refused.value.fields["event"]) == ("event_unrecorded", event["id"])


async def test_what_is_altered_before_it_is_sealed_is_shown_by_its_receipt(
    logged: Tenant, superuser: Any, tmp_path: Path
) -> None:
    async with superuser.transaction():
        await superuser.execute("select from fence.sealer_gate for update")
        made = logged.owner.post("/workspaces", json={"name": "mine", "owner": {"type": "team", "id": "core"}})
        (event,) = logged.owner.get("/audit", params={"resource": made.json()["id"]}).json()["items"]
        await superuser.execute(
            """update tenantry.audit_events set canonical = convert_to(replace(convert_from(canonical, 'UTF8'),
               'teams/mine', 'teams/ours'), 'UTF8') where event_id = $1""",
            parse_id(Prefix.AUDIT_EVENT, event["id"]),
        )
        await superuser.execute(
            "update tenantry.audit_events set leaf = sha256('\\x00'::bytea || canonical) where event_id = $1",
            parse_id(Prefix.AUDIT_EVENT, event["id"]),
        )
    _signed(logged, event["id"])
    file = export(logged, tmp_path / "altered")
    assert verify_bundle(file).size, "by itself it is a log, and whole"
    with pytest.raises(BundleRefused) as refused:
        verify_bundle(file, receipts=[b64decode(made.headers["audit-receipt"])])
    assert (refused.value.code, refused.value.fields["event"]) == ("event_replaced", event["id"])


def test_the_log_begins_with_what_it_was_at_any_checkpoint(logged: Tenant) -> None:
    kept = logged.owner.get("/audit/checkpoint").json()
    logged.workspace("later")
    _signed(logged, logged.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"])
    proof = logged.owner.get("/audit/consistency", params={"size": kept["size"]}).json()
    newest, keys = proof["checkpoint"], [VerifierKey.parse(one["key"]) for one in kept["keys"]]
    checkpoint = KeptCheckpoint.parse(kept["note"].encode())
    size = checkpoint.require_within(newest["note"].encode(), proof["path"], keys=keys)
    assert size == newest["size"] > kept["size"]
    problem(logged.owner.get("/audit/consistency", params={"size": size + 1000}), 409, "log_shorter")
    problem(logged.owner.get("/audit/consistency", params={"size": 0}), 422, "invalid_request")
    problem(logged.as_role("operator", None).get("/audit/consistency", params={"size": 1}), 403, "permission_missing")
