"""What a job was given and what it said: sealed wherever it lies, gone when its time is over, bound to its place."""

import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from tests.conftest import Installation
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, Json, given

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types import JobInput
from tenantry.capabilities.tenants.service import purge_due
from tenantry.engines.rules.types import Phase
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault, Gone
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

CANARIES = {kind: f"canary-{kind}-5b1f0c" for kind in ("output", "errors", "variable", "input", "artifact")}
SCRIPT = """
cat /inputs/i | rev | rev >/dev/null
printf '%s-%s-5b1f0c\\n' canary output; printf '%s-%s-5b1f0c\\n' canary errors >&2
printf '%s-%s-5b1f0c' canary artifact > /outputs/a
"""


class Later(SystemClock):
    """The machine's clock, a quarter of an hour and more ahead."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings, regions=("us",)) as opened:
        await opened.cells.get("us").start()
        yield opened


def canary_job(ground: Ground) -> Json:
    job = ground.sh(
        SCRIPT,
        env={"V": CANARIES["variable"]},
        inputs=[given("i", CANARIES["input"].encode())],
        artifacts=["outputs/a"],
    )
    assert job["status"] == "succeeded", job
    assert CANARIES["output"] in ground.lines(job["id"], "stdout")
    assert CANARIES["errors"] in ground.lines(job["id"], "stderr")
    return job


def session_of(parts: Parts, ground: Ground) -> TenantSession:
    scope = TenantScope(tenant_id=ground.tenant_id, region="us", actor=SYSTEM)
    return parts.cells.session(scope)


def job_id_of(job: Json) -> UUID:
    return parse_id(Prefix.JOB, str(job["id"]))


def files_with(roots: tuple[Path, ...], needles: list[str]) -> dict[str, list[Path]]:
    """Search every file, PostgreSQL's too, which may lie elsewhere."""
    found: dict[str, list[Path]] = {needle: [] for needle in needles}
    for path in {Path(folder, name) for root in roots for folder, _, names in os.walk(root) for name in names}:
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for needle in needles:
                if needle.encode() in content:
                    found[needle].append(path)
    return found


async def purge(parts: Parts) -> None:
    pool = await open_pool(parts.addresses.cells["us"].dispatcher, search_path="queue", max_size=1)
    try:
        cell, kinds = parts.cells.get("us"), parts.content_kinds("us")
        while await purge_due(pool, queue=pool, cell=cell, kinds=kinds, clock=Later()):
            pass
    finally:
        await pool.close()


async def test_no_file_of_the_installation_holds_content_in_clear(make_ground: MakeGround) -> None:
    ground = make_ground()
    label = "metadata-7d20a4"
    job = canary_job(ground)
    ground.sh("true", labels={"mark": label})
    home = ground.installation.home
    postgres = EmbeddedPostgres(home)
    connection = await asyncpg.connect(**dataclasses.asdict(postgres.superuser))
    await connection.execute("checkpoint")
    await connection.close()
    found = files_with((home, postgres.location), [label, *CANARIES.values()])
    assert {path.parts[-3] for path in found.pop(label)} >= {"base"}, "the search finds what lies in clear"
    assert found == {canary: [] for canary in CANARIES.values()}
    for canary in CANARIES.values():
        assert canary not in (home.parent / "home.log").read_text()
    assert job["log"]["size_bytes"] > 0


async def test_content_goes_with_its_key_when_its_time_is_over_and_its_measures_stay(
    make_ground: MakeGround, parts: Parts
) -> None:
    ground, kept = make_ground(persistence_mode="metadata_only"), make_ground(persistence_mode="full")
    gone, full = canary_job(ground), canary_job(kept)
    [artifact] = ground.artifacts(gone["id"]).values()
    objects = parts.settings.home / "us" / ground.tenant.id / "objects"
    assert list(objects.rglob("*artifacts*"))
    before = ground.client.get(f"{ground.jobs}/{gone['id']}/logs?follow=false")
    assert before.status_code == 200
    await purge(parts)
    for path in ("logs?follow=false", "logs"):
        answer = ground.client.get(f"{ground.jobs}/{gone['id']}/{path}")
        assert answer.status_code == 410, answer.text
        problem = answer.json()
        assert (problem["code"], problem["size_bytes"], problem["sha256"]) == (
            "content_gone",
            gone["log"]["size_bytes"],
            gone["log"]["sha256"],
        )
    answer = ground.content(gone["id"], artifact["id"])
    assert (answer.status_code, answer.json()["size_bytes"], answer.json()["sha256"]) == (
        410,
        len(CANARIES["artifact"]),
        hashlib.sha256(CANARIES["artifact"].encode()).hexdigest(),
    )
    assert ground.artifacts(gone["id"])["outputs/a"]["sha256"] == artifact["sha256"]
    assert [path for path in objects.rglob("*") if path.is_file()] == []
    async with session_of(parts, ground) as session:
        stored = await repository.find_job(session, job_id_of(gone))
        assert stored is not None
        assert not stored.content_kept
        assert await repository.list_lines(session, stored.job_id, after=0, limit=10) == []
        with pytest.raises(Gone):
            await parts.content["us"].open_key(tenant_id=ground.tenant_id, job=stored)
    # `full` keeps it for the days of the workspace.
    assert CANARIES["output"] in kept.lines(full["id"])
    [artifact] = kept.artifacts(full["id"]).values()
    assert kept.content(full["id"], artifact["id"]).text == CANARIES["artifact"]
    until = datetime.fromisoformat(full["content_until"]) - datetime.fromisoformat(full["finished_at"])
    assert until == timedelta(days=30)


def test_a_workspace_decides_how_many_days_its_content_stays(make_ground: MakeGround) -> None:
    job = make_ground(persistence_mode="full", retention_days=7).run("true")
    until = datetime.fromisoformat(job["content_until"]) - datetime.fromisoformat(job["finished_at"])
    assert until == timedelta(days=7)


def test_a_cancelled_waiting_job_of_a_full_workspace_keeps_its_inputs_as_long(make_ground: MakeGround) -> None:
    ground = make_ground(persistence_mode="full", retention_days=7)
    running = [ground.start("sleep", "60") for _ in range(ground.installation.settings.jobs.slots)]
    for job_id in running:
        ground.until_status(job_id, "running")
    job = ground.cancel(ground.start("true")).json()
    for job_id in running:
        ground.cancel(job_id)
    until = datetime.fromisoformat(job["content_until"]) - datetime.fromisoformat(job["finished_at"])
    assert until == timedelta(days=7)


async def test_what_was_sealed_opens_in_its_own_place_only(make_ground: MakeGround, parts: Parts) -> None:
    ours, theirs = make_ground(), make_ground()
    content = parts.content["us"]
    stored = {}
    for ground in (ours, theirs):
        job = canary_job(ground)
        async with session_of(parts, ground) as session:
            found = await repository.find_job(session, job_id_of(job))
            assert found is not None
            stored[ground.workspace] = found, await repository.list_lines(session, found.job_id, after=0, limit=10)
    mine, lines = stored[ours.workspace]
    other, _ = stored[theirs.workspace]
    key = await content.open_key(tenant_id=ours.tenant_id, job=mine)
    assert CANARIES["output"] in "".join(content.open_line(key, line, job_id=mine.job_id).text for line in lines)
    # A key moved to another tenant's row, or to another row of its own tenant.
    foreign = dataclasses.replace(other, transient_key=mine.transient_key)
    with pytest.raises(Fault):
        await content.open_key(tenant_id=theirs.tenant_id, job=foreign)
    sibling = dataclasses.replace(mine, job_id=other.job_id)
    with pytest.raises(Fault):
        await content.open_key(tenant_id=ours.tenant_id, job=sibling)
    # A line moved to another number, stream or job.
    line = lines[0]
    for moved in (dataclasses.replace(line, seq=line.seq + 1), dataclasses.replace(line, stream="system")):
        with pytest.raises(Fault):
            content.open_line(key, moved, job_id=mine.job_id)
    with pytest.raises(Fault):
        content.open_line(key, line, job_id=other.job_id)
    # What one job is given, taken for another's.
    given = content.seal_given(key, {Phase.RUN: {"A": "b"}, Phase.FETCH: {"C": "d"}}, job_id=mine.job_id)
    assert content.open_given(key, given, job_id=mine.job_id) == ({Phase.RUN: {"A": "b"}, Phase.FETCH: {"C": "d"}}, [])
    inputs = content.seal_inputs(key, [JobInput("i", b"c")], job_id=mine.job_id)
    assert content.open_inputs(key, inputs, job_id=mine.job_id) == [JobInput("i", b"c")]
    for opens, sealed, job_id in (
        (content.open_given, given, other.job_id),
        (content.open_inputs, inputs, other.job_id),
        (content.open_given, inputs, mine.job_id),
        (content.open_inputs, given, mine.job_id),
    ):
        with pytest.raises(Fault):
            opens(key, sealed, job_id=job_id)
