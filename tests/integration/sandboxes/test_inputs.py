"""What a job was given can be read as long as what it said; its environment goes at its end."""

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.conftest import Installation
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, Json, given

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.types import Job
from tenantry.capabilities.tenants.service import purge_due
from tenantry.engines.rules.types import Phase
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.ids import Prefix, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope

FILES = {"main.py": b"print('hello')\n", "lib/a.bin": bytes(range(256)) * 100, "same.py": b"print('hello')\n"}
SECRET = "variable-93ac01e7"
MODES = ("metadata_only", "full")


class Later(SystemClock):
    """An hour ahead: the grace of a `metadata_only` job is over, no day of a `full` one is."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(scope="module")
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings, regions=("us",)) as opened:
        await opened.cells.get("us").start()
        yield opened


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wanted(**more: Any) -> dict[str, Any]:
    return {"inputs": [given(path, content) for path, content in FILES.items()], "env": {"V": SECRET}, **more}


def content_of(ground: Ground, job: str, content: bytes) -> httpx.Response:
    return ground.client.get(f"{ground.jobs}/{job}/inputs/{digest(content)}/content")


def assert_kept(ground: Ground, job: str) -> None:
    listed = ground.client.get(f"{ground.jobs}/{job}/inputs")
    assert listed.status_code == 200, listed.text
    assert listed.json()["items"] == [
        {"path": path, "size_bytes": len(content), "sha256": digest(content)} for path, content in FILES.items()
    ]
    for content in FILES.values():
        answer = content_of(ground, job, content)
        assert answer.status_code == 200, answer.text
        assert answer.content == content
        assert answer.headers["content-disposition"].startswith("attachment")
    unknown = ground.client.get(f"{ground.jobs}/{job}/inputs/{'0' * 64}/content")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


def assert_gone(ground: Ground, job: str) -> None:
    assert len(ground.client.get(f"{ground.jobs}/{job}/inputs").json()["items"]) == len(FILES)
    for content in FILES.values():
        problem = content_of(ground, job, content)
        assert problem.status_code == 410, problem.text
        told = problem.json()
        assert (told["code"], told["size_bytes"], told["sha256"]) == ("content_gone", len(content), digest(content))


async def stored(parts: Parts, ground: Ground, job: str) -> tuple[Job, bytes | None, bytes | None]:
    """Read the job, its sealed environment and its sealed inputs."""
    scope = TenantScope(tenant_id=ground.tenant_id, region="us", actor=SYSTEM)
    job_id: UUID = parse_id(Prefix.JOB, job)
    async with parts.cells.session(scope) as session:
        found = await repository.find_job(session, job_id)
        row = await session.fetchrow(
            "select given, given_inputs from jobs where tenant_id = $1 and job_id = $2", ground.tenant_id, job_id
        )
    assert found is not None
    assert row is not None
    return found, row["given"], row["given_inputs"]


async def purge(parts: Parts) -> None:
    pool = await open_pool(parts.addresses.cells["us"].dispatcher, search_path="queue", max_size=1)
    try:
        cell, kinds = parts.cells.get("us"), parts.content_kinds("us")
        while await purge_due(pool, queue=pool, cell=cell, kinds=kinds, clock=Later()):
            pass
    finally:
        await pool.close()


async def test_inputs_are_read_as_long_as_the_output_is(make_ground: MakeGround, parts: Parts) -> None:
    grounds = {mode: make_ground(persistence_mode=mode) for mode in MODES}
    jobs: dict[str, Json] = {}
    for mode, ground in grounds.items():
        running = ground.start("sh", "-c", "cat /inputs/main.py; sleep 1.5", **wanted())
        await asyncio.to_thread(ground.until_status, running, "running")
        await asyncio.to_thread(assert_kept, ground, running)
        jobs[mode] = await asyncio.to_thread(ground.ended, running)
        assert jobs[mode]["status"] == "succeeded"
        await asyncio.to_thread(assert_kept, ground, running)
    await purge(parts)
    await asyncio.to_thread(assert_kept, grounds["full"], jobs["full"]["id"])
    await asyncio.to_thread(assert_gone, grounds["metadata_only"], jobs["metadata_only"]["id"])
    assert (await stored(parts, grounds["metadata_only"], jobs["metadata_only"]["id"]))[1:] == (None, None)


@pytest.mark.parametrize("mode", MODES)
async def test_the_environment_goes_at_the_end(make_ground: MakeGround, parts: Parts, mode: str) -> None:
    ground = make_ground(persistence_mode=mode)
    running = ground.start("sleep", "1.5", **wanted())
    await asyncio.to_thread(ground.until_status, running, "running")
    found, environment, _ = await stored(parts, ground, running)
    content = parts.content["us"]
    key = await content.open_given_key(tenant_id=ground.tenant_id, job=found)
    assert content.open_given(key, environment, job_id=found.job_id)[0] == {Phase.RUN: {"V": SECRET}}
    await asyncio.to_thread(ground.ended, running)
    found, environment, inputs = await stored(parts, ground, running)
    assert environment is None
    assert inputs is not None
    key = await content.open_inputs_key(tenant_id=ground.tenant_id, job=found)
    assert SECRET.encode() not in key.open(inputs, b"inputs/" + found.job_id.bytes)


async def test_no_stored_key_opens_the_inputs_of_a_metadata_only_job_that_has_ended(
    make_ground: MakeGround, parts: Parts
) -> None:
    ground = make_ground(persistence_mode="metadata_only")
    job = await asyncio.to_thread(ground.run, "true", **wanted())
    found, _, inputs = await stored(parts, ground, job["id"])
    assert found.content_key is None
    assert inputs is not None
    as_if_stored = dataclasses.replace(found, content_key=found.transient_key, transient_key=None)
    with pytest.raises(Exception, match="does not open"):
        await parts.content["us"].open_inputs_key(tenant_id=ground.tenant_id, job=as_if_stored)


@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_never_began_keeps_its_inputs_in_full_only(make_ground: MakeGround, mode: str) -> None:
    """Nobody has a key for them that is not stored."""
    ground = make_ground(persistence_mode=mode)
    running = [ground.start("sleep", "60") for _ in range(ground.installation.settings.jobs.slots)]
    for job_id in running:
        ground.until_status(job_id, "running")
    waiting = ground.start("true", **wanted())
    assert_kept(ground, waiting)
    assert ground.cancel(waiting).json()["status"] == "cancelled"
    (assert_kept if mode == "full" else assert_gone)(ground, waiting)
    for job_id in running:
        ground.cancel(job_id)
    for job_id in running:
        ground.ended(job_id)


def test_a_job_can_be_run_again_from_what_it_was_given(make_ground: MakeGround) -> None:
    ground = make_ground(persistence_mode="full")
    first = ground.sh("cat /inputs/main.py /inputs/lib/a.bin | sha256sum", **wanted())
    listed = ground.client.get(f"{ground.jobs}/{first['id']}/inputs").json()["items"]
    again = [
        given(each["path"], ground.client.get(f"{ground.jobs}/{first['id']}/inputs/{each['sha256']}/content").content)
        for each in listed
    ]
    second = ground.run(*first["command"], inputs=again)
    assert ground.lines(second["id"], "stdout") == ground.lines(first["id"], "stdout")


def test_kept_inputs_are_counted(make_ground: MakeGround) -> None:
    ground = make_ground(persistence_mode="full")
    ground.run("true", **wanted())
    usage = ground.tenant.owner.get(f"/tenants/{ground.tenant.id}/usage").json()
    assert usage["storage_bytes"]["inputs"] >= sum(len(content) for content in FILES.values()), usage
