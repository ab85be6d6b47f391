"""What a workspace wants kept: by the mode a job began with, in the place its workspace had, as long as a key lives."""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import LargeBinary
from tests.conftest import Installation, start_installation
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, Json, given, until, until_async
from tests.migrations.schema import metadata_of

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.transient import TransientKeys
from tenantry.capabilities.sandboxes.types import CONTENT_KEYS, Job
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

# Columns of bytes that are no content: what they are instead.
NO_CONTENT = {
    "jobs.log_sha256": "digest of the output, which remains",
    "sandbox_trees.sha256": "digest of what is kept, which goes with it",
    "audit_sequence.leaf": "hash of an event, which is no content",
    "audit_heads.frontier": "hashes of the tree over events",
    "audit_tiles.hash": "the same",
    "audit_checkpoints.note": "size and root of that tree, signed",
    "artifacts.sha256": "digest of a file, which remains",
    "keysets.wrapped": "the tenant's keys, which go with the tenant",
    "idempotency_records.request_digest": "digest of a request",
    "api_keys.lookup": "part of a credential by which it is found",
    "api_keys.verifier": "hash of a credential",
    "logins.lookup": "part of a credential by which it is found",
    "logins.verifier": "hash of a credential",
    "refresh_tokens.lookup": "part of a credential by which it is found",
    "refresh_tokens.verifier": "hash of a credential",
    "login_flows.state": "digest by which a login under way is found, which goes with it",
    "login_flows.browser": "digest of the browser's part of a login under way",
    "login_flows.code": "digest of a code, which goes with its login",
    "identity_providers.sealed_secret": "secret of a provider, which goes with it",
    "signing_keys.public_key": "public by nature",
    "client_certificates.fingerprint": "digest of a certificate",
    "audit_events.canonical": "the event as it was sealed",
    "audit_events.leaf": "digest of an event",
    "audit_events.sealed": "what an event says about persons, which goes with its key, or after `audit.personal_days`",
    "notification_channels.sealed": "address and secret of a channel, which go with it",
    **dict.fromkeys(
        ("region_log.leaf", "region_tiles.hash", "region_head.frontier", "region_roots.note", "seen_roots.root"),
        "hashes of hashes, and what is signed of them",
    ),
    "audit_streams.sealed": "address and secret of a stream, which go with it",
    "audit_days.sha256": "digest of a day's file",
    "secret_versions.sealed": "a secret, which goes when it is removed or too old",
    "approvals.digest": "digest of what will be done, which remains",
    "approval_decisions.comment_sha256": "digest of what was said, which remains",
    "evidence_envelopes.sealed": "what is signed of work, which in mode metadata_only holds none, and has its own days",
    "evidence_envelopes.sha256": "digest of that",
    "certificates.signature": "signature of what is shown of an erased tenant",
}


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings, regions=("us",)) as opened:
        await opened.cells.get("us").start()
        yield opened


def kept_for(job: Json) -> timedelta:
    return datetime.fromisoformat(job["content_until"]) - datetime.fromisoformat(job["finished_at"])


async def stored(parts: Parts, ground: Ground, job: Json) -> Job:
    scope = TenantScope(tenant_id=ground.tenant_id, region="us", actor=SYSTEM)
    async with parts.cells.session(scope) as session:
        found = await repository.find_job(session, parse_id(Prefix.JOB, job["id"]))
    assert found is not None
    return found


def set_mode(ground: Ground, mode: str) -> None:
    path = f"/workspaces/{ground.workspace}"
    answer = ground.tenant.owner.patch(path, json={"settings": {"persistence_mode": mode}})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("begun", "then"), [("metadata_only", "full"), ("full", "metadata_only")])
async def test_a_job_keeps_the_mode_it_began_with(begun: str, then: str, make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground(persistence_mode=begun, retention_days=7)
    ended = await asyncio.to_thread(ground.sh, "echo said")
    running = ground.start("sh", "-c", "echo said; sleep 1.5")
    await asyncio.to_thread(ground.until_status, running, "running")
    set_mode(ground, then)
    late = await asyncio.to_thread(ground.ended, running)
    after = await asyncio.to_thread(ground.sh, "echo said")
    for job, mode in ((ended, begun), (late, begun), (after, then)):
        found = await stored(parts, ground, job)
        assert (job["persistence_mode"], found.persistence_mode) == (mode, mode)
        assert kept_for(job) == (timedelta(days=7) if mode == "full" else timedelta(minutes=15))
        assert (found.transient_key is None) == (mode == "full")
        assert (found.content_key is None) == (mode == "metadata_only")
        assert await asyncio.to_thread(ground.lines, job["id"]) == "said\n"


async def test_objects_lie_in_the_place_the_workspace_had_and_none_is_lost_when_it_moves(
    make_ground: MakeGround, parts: Parts
) -> None:
    ground = make_ground()
    path, moved = (f"teams/{secrets.token_hex(4)}/dev" for _ in range(2))
    owner = ground.tenant.owner
    owner.patch(f"/workspaces/{ground.workspace}", json={"path": path})

    async def leave() -> tuple[Json, Path]:
        job = await asyncio.to_thread(ground.sh, "echo content > /outputs/f", artifacts=["outputs/f"])
        found = await stored(parts, ground, job)
        objects = parts.settings.home / "us" / ground.tenant.id / "objects"
        return job, objects / found.place / "jobs" / found.job_id.hex / "artifacts"

    first, folder = await leave()
    assert f"/objects/workspaces/{path}/_{ground.workspace.removeprefix('ws_')}/jobs/" in str(folder)
    assert len(list(folder.iterdir())) == 1
    up = folder
    while up.name != ground.tenant.id:
        assert up.stat().st_mode & 0o777 == 0o700, up
        up = up.parent
    owner.patch(f"/workspaces/{ground.workspace}", json={"path": moved})
    second, elsewhere = await leave()
    assert f"/workspaces/{moved}/" in str(elsewhere)
    owner.delete(f"/workspaces/{ground.workspace}")
    heir = ground.tenant.workspace("heir", path=path)
    heirs = Ground(ground.tenant, heir, ground.tenant.as_role("workspace-admin", heir))
    third = await asyncio.to_thread(heirs.sh, "echo content > /outputs/f", artifacts=["outputs/f"])
    assert (await stored(parts, heirs, third)).place != (await stored(parts, ground, first)).place
    for of, job in ((ground, first), (ground, second), (heirs, third)):
        [artifact] = of.artifacts(job["id"]).values()
        content = await asyncio.to_thread(of.content, job["id"], artifact["id"])
        assert content.text == "content\n"


async def test_who_cannot_prove_the_installations_secret_gets_no_key(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground()
    found = await stored(parts, ground, await asyncio.to_thread(ground.sh, "echo said"))
    assert found.transient_holder is not None
    cell = parts.cells.get("us")
    known = TransientKeys(cell=cell, secret=parts.secrets.context_key)
    assert await known.get(found.transient_holder, tenant_id=ground.tenant_id) is not None
    stranger = TransientKeys(cell=cell, secret=b"x" * 32)
    with pytest.raises(Unavailable) as refused:
        await stranger.get(found.transient_holder, tenant_id=ground.tenant_id)
    assert refused.value.code == "content_key_away"
    with pytest.raises(Unavailable):
        await known.get(new_id(), tenant_id=ground.tenant_id)


async def test_what_is_said_on_the_channel_opens_nothing(make_ground: MakeGround, parts: Parts) -> None:
    """Nor does noise on it disturb anybody."""
    ground = make_ground()
    found = await stored(parts, ground, await asyncio.to_thread(ground.sh, "echo said"))
    assert found.transient_holder is not None
    cell, heard = parts.cells.get("us"), []
    connection = await asyncpg.connect(parts.addresses.cells["us"].app)
    try:
        await connection.add_listener(CONTENT_KEYS, lambda *told: heard.append(told[-1]))
        for noise in ("", "{", "[]", '{"text": "{}", "mac": ""}', '{"text": 1, "mac": 2}', "null", "\u2028"):
            await connection.execute("select pg_notify($1, $2)", CONTENT_KEYS, noise)
        keys = TransientKeys(cell=cell, secret=parts.secrets.context_key)
        keyset = await keys.get(found.transient_holder, tenant_id=ground.tenant_id)
        await until_async(lambda: any("give" in message for message in heard))
        given = [message for message in heard if "give" in message]
        assert len(given) == 1
        assert keyset.secret().hex() not in given[0]
    finally:
        await connection.close()


def test_content_goes_at_once_when_what_held_its_key_is_started_anew(tmp_path: Path) -> None:
    home = tmp_path / "home"
    installation = start_installation(home, TENANTRY_SERVE_REGIONS='["us"]')
    try:
        owner = {"email": "owner@acme.example", "name": "Owner"}
        body = {"name": "acme", "slug": "acme", "plan": "enterprise", "region": "us", "owner": owner}
        key = installation.platform.post("/tenants", json=body).json()["bootstrap_key"]["secret"]
        client = installation.client(key)
        jobs = {}
        for mode in ("metadata_only", "full"):
            settings = {"persistence_mode": mode}
            made = client.post("/workspaces", json={"name": mode, "path": f"teams/{mode[:4]}", "settings": settings})
            jobs[mode] = path = f"/workspaces/{made.json()['id']}/jobs"
            script = "echo said; echo kept > /outputs/f"
            command: Json = {"command": ["sh", "-c", script], "artifacts": ["outputs/f"]}
            command["inputs"] = [given("in.txt", b"given")]
            job = client.post(path, params={"wait": 60}, json=command).json()
            jobs[mode] = f"{path}/{job['id']}"
            assert "said" in client.get(f"{jobs[mode]}/logs?follow=false").text
        installation.stop()
        installation = start_installation(home, TENANTRY_SERVE_REGIONS='["us"]')
        client = installation.client(key)
        gone = until(
            lambda: (
                answer
                if (answer := client.get(f"{jobs['metadata_only']}/logs?follow=false")).status_code == 410
                else None
            )
        )
        assert gone is not None
        job = client.get(jobs["metadata_only"]).json()
        assert (gone.json()["size_bytes"], gone.json()["sha256"]) == (job["log"]["size_bytes"], job["log"]["sha256"])
        [artifact] = client.get(f"{jobs['metadata_only']}/artifacts").json()["items"]
        answer = client.get(f"{jobs['metadata_only']}/artifacts/{artifact['id']}/content")
        assert (answer.status_code, answer.json()["size_bytes"]) == (410, artifact["size_bytes"])
        [item] = client.get(f"{jobs['metadata_only']}/inputs").json()["items"]
        answer = client.get(f"{jobs['metadata_only']}/inputs/{item['sha256']}/content")
        assert (answer.status_code, answer.json()["size_bytes"]) == (410, 5)
        assert client.get(f"{jobs['full']}/inputs/{item['sha256']}/content").content == b"given"
        assert "said" in client.get(f"{jobs['full']}/logs?follow=false").text
        left = [path for path in (home / "us").rglob("objects/**/*") if path.is_file()]
        assert len(left) == 1, "what the full workspace keeps"
    finally:
        installation.stop()
        EmbeddedPostgres(home).purge()


async def test_no_stored_key_opens_what_a_metadata_only_job_left(make_ground: MakeGround, parts: Parts) -> None:
    """A dump, the key file and the tenant's keyset together do not: the wrapping key was never written."""
    ground = make_ground()
    found = await stored(parts, ground, await asyncio.to_thread(ground.sh, "echo said"))
    content = parts.content["us"]
    assert found.content_key is None
    as_if_stored = dataclasses.replace(found, content_key=found.transient_key, transient_key=None)
    with pytest.raises(Exception, match="does not open"):
        await content.open_key(tenant_id=ground.tenant_id, job=as_if_stored)


async def test_every_column_of_bytes_is_of_a_registered_kind_of_content_or_known_to_be_none(parts: Parts) -> None:
    """A capability that seals content and registers no kind fails here: nobody would ever purge it."""
    held = {
        f"{table.name}.{column.name}"
        for table in metadata_of("cell").sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    kinds = parts.content_kinds("us")
    registered = {column for kind in kinds.values() for column in kind.columns}
    assert held - registered - NO_CONTENT.keys() == set()
    assert (registered | NO_CONTENT.keys()) - held == set(), "what is gone is listed no more"
    assert registered.isdisjoint(NO_CONTENT)
    assert {name: kind.name for name, kind in kinds.items()} == {name: name for name in kinds}
