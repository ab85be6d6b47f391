"""A log whose beginning has left goes where its tenant goes, and passes there: moved, exported, imported."""

import asyncio
import secrets
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Installation, Tenant
from tests.integration.places.test_moves import move
from tests.integration.tenancy.ground import Inhabited, export, send_archive
from tests.integration.tenancy.test_exports import until_imported

from tenantry.capabilities.audit.service import Eraser
from tenantry.capabilities.audit.service.bundle_verifier import BundleReport, verify_bundle
from tenantry.entrypoints.erasing import make_eraser
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.places import dsn_at, is_schema, schema_at
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.settings import load_settings

EVENTS = 300


class MuchLater(SystemClock):
    def now(self) -> Any:
        return super().now() + timedelta(days=40)


def make(installation: Installation) -> Tenant:
    slug = f"t-{secrets.token_hex(6)}"
    owner = {"email": f"owner@{slug}.example", "name": "Owner"}
    body = {"name": slug, "slug": slug, "plan": "enterprise", "owner": owner, "region": "us"}
    answer = installation.platform.post("/tenants", json={**body, "isolation": "row_level"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return Tenant(installation, made["id"], made["slug"], "us", made["bootstrap_key"]["secret"])


def act(tenant: Tenant) -> None:
    """Be seen looking, and wait until all of it is signed."""
    for _ in range(EVENTS):
        assert tenant.owner.get("/me/permissions").status_code in (200, 404)
        assert tenant.owner.get("/audit", params={"limit": 1}).status_code == 200
    signed(tenant)


def signed(tenant: Tenant) -> None:
    newest = tenant.owner.get("/audit", params={"limit": 1}).json()["items"][0]["id"]
    deadline = time.monotonic() + 20
    while tenant.owner.get(f"/audit/proof/{newest}").status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def erased(parts: Parts, tenant: Tenant, region: str) -> None:
    """Erase as the server would much later, until nothing more may leave."""
    tenant_id = parse_id(Prefix.TENANT, tenant.id)
    place = (await parts.directory.get(tenant_id)).placement
    schema = schema_at(place) if is_schema(place) else "tenantry"
    dsn = dsn_at(parts.addresses.cells[region].sealer, place)
    pool = await open_pool(dsn, search_path=schema, max_size=2)
    eraser: Eraser = make_eraser(parts.cells.get(region), replace(parts, clock=MuchLater()))
    deadline = time.monotonic() + 30
    try:
        while await eraser.erase(tenant_id, partial(platform_session, pool, schema=schema)):
            assert time.monotonic() < deadline
            await asyncio.to_thread(signed, tenant)
    finally:
        await pool.close()


def verified(tenant: Tenant, file: Path) -> BundleReport:
    answer = tenant.owner.get("/audit/export")
    assert answer.status_code == 200, answer.text
    file.write_bytes(answer.content)
    return verify_bundle(file)


def left(tenant: Tenant) -> list[int]:
    items = tenant.owner.get("/audit", params={"action": "audit.erased", "limit": 50}).json()["items"]
    return [each["details"]["events"] for each in items]


@pytest.mark.timeout(240)
async def test_it_moves_is_exported_and_imported_with_what_has_left_it(
    leaving: Installation, elsewhere: Installation, tmp_path: Path
) -> None:
    tenant = make(leaving)
    await asyncio.to_thread(act, tenant)
    plain = load_settings(home=leaving.home)
    settings = plain.model_copy(update={"audit": plain.audit.model_copy(update={"retention_days": 30})})
    async with open_parts(settings, serves=False) as parts:
        await erased(parts, tenant, "us")
        [first] = left(tenant)
        assert first >= 256
        report = verified(tenant, tmp_path / "here")
        assert report.erasure is not None
        assert (report.erasure.size, report.keys[-1].rpartition("/")[2]) == (first, "us")

        await asyncio.to_thread(move, tenant, region="eu", isolation="schema_level")
        moved = replace(tenant, region="eu", clients={})
        moved.owner.post("/workspaces", json={"name": "after the move"})
        signed(moved)
        report = verified(moved, tmp_path / "moved")
        assert report.erasure is not None
        assert (report.erasure.size, report.keys[-1].rpartition("/")[2]) == (first, "eu")
        await asyncio.to_thread(act, moved)
        parts.cells.get("eu").places.forget(parse_id(Prefix.TENANT, tenant.id))
        await erased(parts, moved, "eu")
        second, *_ = left(moved)
        assert second > first
        report = verified(moved, tmp_path / "again")
        assert report.erasure is not None
        assert report.erasure.size == second

    archive = await asyncio.to_thread(export, Inhabited(moved, "", "", "", "", "", "", ""))
    answer = send_archive(elsewhere, archive.archive, archive.key, region="us", isolation="database_level")
    assert answer.status_code == 202, answer.text
    assert (await asyncio.to_thread(until_imported, elsewhere, answer.json()))["status"] == "succeeded"
    key = answer.json()["bootstrap_key"]["secret"]
    there = Tenant(elsewhere, tenant.id, tenant.slug, "us", key)
    signed(there)
    report = verified(there, tmp_path / "there")
    assert report.erasure is not None
    assert (report.erasure.size, report.erasure.days) == (second, 0), "another installation signs it anew"
    assert there.owner.get("/audit", params={"order": "sequence", "after": 0}).json()["items"][0]["sequence"] > second
