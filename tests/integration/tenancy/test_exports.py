"""An export is everything a tenant has, and an import makes of it the same tenant in another installation."""

import hashlib
import json
from datetime import timedelta

import pytest
from tests.conftest import Installation, Tenant
from tests.integration.tenancy.ground import (
    Exported,
    Inhabited,
    Json,
    MakeInhabited,
    export,
    files_of,
    lasting,
    members_of,
    rows_of,
    send_archive,
    until,
)

from tenantry.capabilities.tenants.service import remove_old_exports
from tenantry.capabilities.tenants.service.archives import LEFT_OUT
from tenantry.entrypoints.runtime import open_parts

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
    assert files_of(elsewhere, inhabited.tenant.id, region) == files
    key = answer.json()["bootstrap_key"]["secret"]
    tenant = Tenant(elsewhere, inhabited.tenant.id, inhabited.tenant.slug, region, key)
    there = Inhabited(tenant, inhabited.word, inhabited.workspace, inhabited.job, inhabited.artifact, key)
    assert there.readable() == inhabited.readable() == there.expected
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
