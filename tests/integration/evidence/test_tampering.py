"""Whoever alters what is locked, in whatever table, is found out: by hand, by itself, and when it is read."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.rounds import behind, round_of
from tests.integration.evidence.seen import base, got, locked, of_job
from tests.integration.sandboxes.ground import Ground, Json, given

from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.ids import Prefix, parse_id

# What is altered of one job's evidence ($1: the job's id), and what must be said of it.
ROW = "update evidence set {} where subject_id = $1"
ENVELOPE = """update evidence_envelopes v set {} from evidence e
              where e.tenant_id = v.tenant_id and e.evidence_id = v.evidence_id and e.subject_id = $1"""
JOB = "update jobs set {} where job_id = $1"
ARTIFACT = "update artifacts set {} where job_id = $1"
TRAIL = """update audit_events a set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), {}), 'UTF8')
           from evidence e where e.tenant_id = a.tenant_id and e.subject_id = $1 and a.action = 'evidence.locked'
             and position(encode((select sha256 from evidence_envelopes v where v.evidence_id = e.evidence_id), 'hex')
                          in convert_from(a.canonical, 'UTF8')) > 0"""
ALTERED = [
    (ROW.format("persistence_mode = 'metadata_only'"), "row_differs"),
    (ROW.format("labels = '{}'"), "row_differs"),
    (ROW.format("judged = '{\"verdict\": \"deny\"}'"), "row_differs"),
    (ROW.format("created_at = created_at - interval '1 microsecond'"), "row_differs"),
    (ROW.format("ended_at = ended_at + interval '1 microsecond'"), "row_differs"),
    (ROW.format("ended_at = null"), "row_differs"),
    (ROW.format("state = 'wip'"), "row_differs"),
    (ENVELOPE.format("sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)"), "envelope_unreadable"),
    (ENVELOPE.format("sealed = substring(sealed from 1 for 30)"), "envelope_unreadable"),
    (ENVELOPE.format("sha256 = decode(repeat('00', 32), 'hex')"), "row_differs"),
    (ENVELOPE.format("size_bytes = size_bytes + 1"), "row_differs"),
    (ENVELOPE.format("first_sequence = 1"), "row_differs"),
    (ENVELOPE.format("last_sequence = last_sequence + 1"), "row_differs"),
    (ENVELOPE.format("locked_at = locked_at + interval '1 second'"), "row_differs"),
    ("delete from evidence_envelopes v using evidence e where e.evidence_id = v.evidence_id and e.subject_id = $1",
     "envelope_missing"),
    (JOB.format("status = 'failed'"), "subject_differs"),
    (JOB.format("exit_code = 1"), "subject_differs"),
    (JOB.format("reason = 'other'"), "subject_differs"),
    (JOB.format("command = '{false}'"), "subject_differs"),
    (JOB.format("image_digest = 'sha256:00'"), "subject_differs"),
    (JOB.format("principal_id = 'svc_other'"), "subject_differs"),
    (JOB.format("limits = jsonb_set(limits, '{memory_mib}', '1')"), "subject_differs"),
    (JOB.format("inputs = '[]'"), "subject_differs"),
    (JOB.format("receipt = jsonb_set(receipt, '{network}', '\"gateway\"')"), "subject_differs"),
    (JOB.format("usage = '{}'"), "subject_differs"),
    (JOB.format("log_sha256 = decode(repeat('00', 32), 'hex')"), "products_differ"),
    (JOB.format("log_bytes = log_bytes + 1"), "subject_differs"),
    (JOB.format("started_at = started_at - interval '1 microsecond'"), "subject_differs"),
    (JOB.format("finished_at = finished_at - interval '1 microsecond'"), "subject_differs"),
    (JOB.format("finished_at = null"), "subject_missing"),
    ("delete from jobs where job_id = $1", "subject_missing"),
    (ARTIFACT.format("sha256 = decode(repeat('00', 32), 'hex')"), "products_differ"),
    (ARTIFACT.format("size_bytes = size_bytes + 1"), "subject_differs"),
    (ARTIFACT.format("path = 'other'"), "subject_differs"),
    ("delete from artifacts where job_id = $1", "products_differ"),
    (TRAIL.format("""'"sha256":"', '"sha256":"0'"""), "trail_differs"),
    ("""delete from audit_events a using evidence e where e.tenant_id = a.tenant_id and e.subject_id = $1
        and a.action = 'evidence.locked'""", "trail_differs"),
]  # fmt: skip


@pytest.fixture(scope="module")
def kept(make_ground: MakeGround) -> Ground:
    return make_ground(persistence_mode="full")


def worked(ground: Ground) -> str:
    job = ground.run(
        "sh", "-c", "echo said; echo kept > out.txt",
        inputs=[given("in.txt", b"given")], artifacts=["out.txt"], labels={"env": "dev"},
    )  # fmt: skip
    locked(ground, job["id"])
    return str(job["id"])


@pytest.fixture(scope="module")
def jobs(kept: Ground) -> Iterator[str]:
    """A job for each alteration; their evidence is locked together, which takes a second or two."""
    with ThreadPoolExecutor(8) as threads:
        return iter(list(threads.map(lambda _: worked(kept), ALTERED)))


async def alter(ground: Ground, job: str, statement: str) -> None:
    async with behind(ground.installation) as connection:
        done = await connection.execute(statement, parse_id(Prefix.JOB, job))
    assert not done.endswith(" 0"), statement


@pytest.mark.parametrize(
    ("statement", "fault"), ALTERED, ids=[f"{number}-{f}" for number, (_, f) in enumerate(ALTERED)]
)
async def test_each_column_counts(statement: str, fault: str, kept: Ground, jobs: Iterator[str]) -> None:
    job = next(jobs)
    before = await asyncio.to_thread(of_job, kept, job)
    assert got(kept, before["id"])["faults"] == []
    await alter(kept, job, statement)
    seen = await asyncio.to_thread(got, kept, before["id"])
    assert (seen["state"], fault in seen["faults"]) == ("tampered", True), seen["faults"]
    assert seen["bundle"]["meta"]["state"] == "tampered"


async def test_an_examination_of_all_marks_it_for_good_and_tells(make_ground: MakeGround) -> None:
    ground = make_ground(persistence_mode="full")
    jobs = [await asyncio.to_thread(worked, ground) for _ in range(2)]
    await alter(ground, jobs[0], JOB.format("exit_code = 7"))
    examined = ground.client.post(f"{base(ground)}/index").json()
    assert (examined["examined"], [one["subject"] for one in examined["tampered"]]) == (2, [jobs[0]])
    assert examined["summary"]["by_tenant"] == {ground.tenant.id: {"count": 2, "wip": 0, "locked": 1, "tampered": 1}}
    await alter(ground, jobs[0], JOB.format("exit_code = 0"))
    found = of_job(ground, jobs[0])
    assert (found["state"], found["faults"]) == ("tampered", ["subject_differs"])
    [event] = ground.audit(action="evidence.tampered")
    assert (event["outcome"], event["reason"], event["details"]["subject"]) == ("error", "subject_differs", jobs[0])
    [told] = ground.audit(action="evidence.examined")
    assert told["details"] == {"examined": 2, "tampered": 1, "allowed_by": told["details"]["allowed_by"]}
    refused = ground.client.post(f"{base(ground)}/{found['id']}/lock")
    assert (refused.status_code, refused.json()["code"]) == (409, "evidence_tampered")


async def test_the_servers_own_round_finds_it_and_sends_a_notice(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground(persistence_mode="full")
    job = await asyncio.to_thread(worked, ground)
    channel = {
        "name": "pager",
        "kind": "webhook",
        "address": "https://hooks.invalid/x",
        "topics": ["evidence.tampered"],
    }
    made = ground.tenant.owner.post(f"/workspaces/{ground.workspace}/notification-channels", json=channel)
    assert made.status_code == 201, made.text
    await alter(ground, job, JOB.format("exit_code = 7"))
    async with behind(ground.installation) as connection:
        await connection.execute("update evidence set due_at = now() where tenant_id = $1", ground.tenant_id)
    async with round_of(parts) as server:
        await server.pass_due()

    def noticed() -> list[Json]:
        path = f"/workspaces/{ground.workspace}/notification-deliveries"
        items: list[Json] = ground.tenant.owner.get(path).json()["items"]
        return items

    found = of_job(ground, job)
    assert (found["state"], found["faults"]) == ("tampered", ["subject_differs"])
    delivered: list[Json] = []
    for _ in range(400):
        if delivered := await asyncio.to_thread(noticed):
            break
        await asyncio.sleep(0.02)
    assert [each["topic"] for each in delivered] == ["evidence.tampered"]


async def test_what_holds_is_due_again_after_a_day(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground()
    await asyncio.to_thread(worked, ground)
    async with behind(ground.installation) as connection:
        await connection.execute("update evidence set due_at = now() where tenant_id = $1", ground.tenant_id)
        async with round_of(parts) as server:
            await server.pass_due()
        row: Any = await connection.fetchrow(
            "select state, due_at > now() + interval '23 hours' as later from evidence where tenant_id = $1",
            ground.tenant_id,
        )
    assert (row["state"], row["later"]) == ("locked", True)


async def test_the_application_may_not_change_an_envelope(kept: Ground, parts: Parts) -> None:
    import asyncpg
    from tests.integration.evidence.rounds import session_of

    for statement in ("update evidence_envelopes set size_bytes = 1", "update evidence_envelopes set sealed = 'x'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with session_of(parts, kept) as session:
                await session.execute(statement)
