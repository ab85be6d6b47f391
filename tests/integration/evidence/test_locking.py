"""Evidence of jobs: begun with them, locked by itself once their events are signed, on each strategy."""

import asyncio
import hashlib
import json

import pytest
import rfc8785
from google.protobuf import json_format  # type: ignore[import-untyped]  # ships no types
from in_toto_attestation.v1 import statement_pb2 as statement_proto
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Key, SSlibKey  # type: ignore[attr-defined]  # told, not exported
from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.rounds import behind, round_of, session_of
from tests.integration.evidence.seen import base, got, keys_of, listed, locked, of_job, raw, statement_of
from tests.integration.sandboxes.ground import Ground, given, until

from tenantry.capabilities.evidence.service.bundle import read_bundle, verify_bundle
from tenantry.capabilities.evidence.service.envelopes import keyid_of
from tenantry.entrypoints.evidence import make_lockers
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation.ids import Prefix, parse_id


def test_a_jobs_evidence_is_locked_by_itself_and_says_what_ran(ground: Ground) -> None:
    job = ground.run(
        "sh", "-c", "echo said; cat /inputs/in.txt > out.txt",
        inputs=[given("in.txt", b"given")], artifacts=["out.txt"], labels={"env": "dev"},
    )  # fmt: skip
    found = locked(ground, job["id"])
    predicate = statement_of(found)["predicate"]
    execution = predicate["execution"]
    [artifact] = ground.artifacts(job["id"]).values()
    assert (found["subject"], found["kind"], found["faults"]) == (job["id"], "job", [])
    assert (predicate["tenant"], predicate["workspace"]) == (ground.tenant.id, ground.workspace)
    assert predicate["subject"] == {"kind": "job", "id": job["id"]}
    assert (execution["status"], execution["exit_code"]) == ("succeeded", 0)
    assert execution["inputs"] == [{"path": "in.txt", "size_bytes": 5, "sha256": hashlib.sha256(b"given").hexdigest()}]
    assert execution["artifacts"] == [
        {"id": artifact["id"], "path": "out.txt", "size_bytes": 5, "sha256": hashlib.sha256(b"given").hexdigest()}
    ]
    assert execution["programs"][0]["command"] == ["sh", "-c", "echo said; cat /inputs/in.txt > out.txt"]
    assert execution["receipt"]["network"] == "none"
    assert execution["limits"]["memory_mib"] == job["limits"]["memory_mib"]
    assert execution["log"]["size_bytes"] == len("said\n")
    assert predicate["policies"]["verdict"] == "allow"
    assert predicate["labels"] == {"env": "dev"}
    assert predicate["actor"]["type"] == "api_key"


def test_the_range_of_the_log_is_that_of_its_events_under_a_signed_checkpoint(ground: Ground) -> None:
    job = ground.run("true")["id"]
    told = statement_of(locked(ground, job))["predicate"]["audit"]
    trail = ground.audited(job)
    assert [event["action"] for event in told["events"]] == ["job.created", "job.succeeded"]
    assert {event["action"]: event["id"] for event in told["events"]} == {
        action: event["id"] for action, event in trail.items()
    }
    assert [event["sequence"] for event in told["events"]] == [trail[a]["sequence"] for a in trail][::-1]
    assert (told["first"], told["last"]) == (told["events"][0]["sequence"], told["events"][-1]["sequence"])
    assert told["checkpoint"]["size"] >= told["last"]
    proof = ground.tenant.owner.get(f"/audit/proof/{told['events'][-1]['id']}").json()
    assert json.loads(json.dumps(proof["index"])) == told["last"] - 1


def test_others_verify_it_with_libraries_of_theirs(ground: Ground) -> None:
    """By securesystemslib's DSSE and in-toto's own Statement, neither of which the product uses."""
    found = locked(ground, ground.run("true")["id"])
    envelope = Envelope.from_dict(json.loads(json.dumps(found["bundle"]["envelope"])))
    keys: list[Key] = [
        SSlibKey(keyid_of(key), "ed25519", "ed25519", {"public": key.public.hex()}) for key in keys_of(found)
    ]
    assert envelope.verify(keys, 1)
    parsed = json_format.Parse(envelope.payload, statement_proto.Statement())
    InTotoStatement.copy_from_pb(parsed).validate()
    assert parsed.predicate_type == "urn:tenantry:evidence:v1"
    assert parsed.subject[0].name == found["subject"]


def test_what_is_exported_is_verified_without_the_server(ground: Ground) -> None:
    found = locked(ground, ground.run("true")["id"])
    verified = verify_bundle(read_bundle(raw(found["bundle"])), keys=keys_of(found))
    assert verified.pinned
    assert verified.sha256 == found["sha256"] == hashlib.sha256(rfc8785.dumps(found["bundle"]["envelope"])).hexdigest()
    assert verified.statement.predicate.evidence == found["id"]


def test_evidence_begins_with_the_job_and_is_wip_while_it_runs(ground: Ground) -> None:
    job = ground.start("sleep", "60")
    ground.until_status(job, "running")
    found = of_job(ground, job)
    assert (found["state"], found["ended_at"], found["sha256"]) == ("wip", None, None)
    assert got(ground, found["id"])["bundle"]["envelope"] is None
    refused = ground.client.post(f"{base(ground)}/{found['id']}/lock")
    assert (refused.status_code, refused.json()["code"]) == (409, "evidence_open")
    ground.cancel(job)
    told = statement_of(locked(ground, job))["predicate"]
    assert told["execution"]["status"] == "cancelled"
    assert [event["action"] for event in told["audit"]["events"]] == [
        "job.created", "job.cancel_requested", "job.cancelled",
    ]  # fmt: skip


def test_what_is_asked_of_a_job_meanwhile_takes_no_part(ground: Ground) -> None:
    """Reads, and what is tried in vain or changes nothing, however often."""
    job = ground.start("sleep", "60")
    ground.until_status(job, "running")
    viewer = ground.tenant.as_role("viewer", ground.workspace)
    for _ in range(5):
        assert viewer.post(f"{ground.jobs}/{job}/cancel").status_code == 403
        ground.job(job)
    for _ in range(3):
        assert ground.cancel(job).status_code == 200
    told = statement_of(locked(ground, job))["predicate"]["audit"]
    actions = [event["action"] for event in told["events"]]
    assert (actions[0], actions[-1], set(actions[1:-1])) == ("job.created", "job.cancelled", {"job.cancel_requested"})


def test_what_was_denied_leaves_evidence_too(make_ground: MakeGround) -> None:
    ground = make_ground()
    path = f"/workspaces/{ground.workspace}/policies/image"
    put = ground.tenant.owner.put(f"{path}?state=enforced", json={"blocked_images": ["host"]})
    assert put.status_code == 200, put.text
    refused = ground.post("true")
    assert refused.status_code == 403, refused.text
    told = statement_of(locked(ground, refused.json()["job"]))["predicate"]
    assert told["execution"]["status"] == "denied"
    assert told["execution"]["receipt"] is None
    assert told["policies"]["verdict"] == "deny"
    assert [each["name"] for each in told["policies"]["policies"]] == ["workspace/image@1"]
    assert told["policies"]["reasons"][0]["layer"] == "workspace"
    assert [event["action"] for event in told["audit"]["events"]] == ["job.denied"]


def test_locking_by_hand_comes_to_the_same_and_twice_changes_nothing(ground: Ground) -> None:
    job = ground.run("true")["id"]
    evidence = of_job(ground, job)["id"]

    def lock() -> str | None:
        answer = ground.client.post(f"{base(ground)}/{evidence}/lock")
        if answer.status_code == 409:
            assert answer.json()["code"] == "evidence_unsigned", answer.text
            assert answer.headers["retry-after"]
            return None
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sha256"])

    first = until(lock)
    assert lock() == first
    found = got(ground, evidence)
    assert found["sha256"] == first
    told = statement_of(found)["predicate"]["audit"]
    assert told["checkpoint"]["size"] >= told["last"], "it was locked before its events were signed"
    [event] = ground.audit(resource=evidence, action="evidence.locked")
    assert event["details"]["sha256"] == first


async def test_many_jobs_have_one_locked_envelope_each(make_ground: MakeGround) -> None:
    ground = make_ground()
    jobs = [ground.start("true") for _ in range(12)]
    for job in jobs:
        await asyncio.to_thread(ground.ended, job)
        await asyncio.to_thread(locked, ground, job)
    found = listed(ground, state="locked")
    assert {one["subject"] for one in found} == set(jobs)
    events = ground.audit(action="evidence.locked")
    assert len(events) == len(jobs)


@pytest.mark.one_strategy
async def test_rounds_of_several_servers_lock_each_piece_once(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground()
    jobs = [ground.start("true") for _ in range(8)]
    for job in jobs:
        await asyncio.to_thread(ground.ended, job)
    async with round_of(parts) as one, round_of(parts) as other:
        for _ in range(200):
            await asyncio.gather(one.pass_due(), other.pass_due())
            if not listed(ground, state="wip"):
                break
            await asyncio.sleep(0.05)
    assert {one["subject"] for one in listed(ground, state="locked")} == set(jobs)
    assert len(ground.audit(action="evidence.locked")) == len(jobs)


@pytest.mark.one_strategy
async def test_what_is_broken_off_leaves_it_as_it_was(make_ground: MakeGround, parts: Parts) -> None:
    ground = make_ground()
    job = await asyncio.to_thread(lambda: ground.run("true")["id"])
    locker, keyset = make_lockers(parts)["us"], await parts.keyrings["us"].keyset(ground.tenant_id)
    evidence = parse_id(Prefix.EVIDENCE, of_job(ground, job)["id"])
    async with session_of(parts, ground) as session:
        for _ in range(100):
            if made := await locker.lock(session, [evidence], keyset=keyset, wait=True):
                break
            await session.commit()
            await asyncio.sleep(0.05)
        assert [one.evidence_id for one in made] == [evidence] or of_job(ground, job)["state"] == "locked"
        await session.rollback()
    found = await asyncio.to_thread(locked, ground, job)
    assert found["faults"] == []
    assert len(ground.audit(resource=found["id"], action="evidence.locked")) == 1


@pytest.mark.one_strategy
async def test_work_that_cannot_be_described_holds_up_nobody(make_ground: MakeGround, parts: Parts) -> None:
    """Of a neighbour in the same workspace whose row is not what any version of ours has written."""
    ground = make_ground()
    bad = ground.start("sleep", "60")
    await asyncio.to_thread(ground.until_status, bad, "running")
    async with behind(ground.installation) as connection:
        await connection.execute("update jobs set inputs = '[{}]' where job_id = $1", parse_id(Prefix.JOB, bad))
    ground.cancel(bad)
    await asyncio.to_thread(ground.ended, bad)
    good = await asyncio.to_thread(lambda: ground.run("true")["id"])
    await asyncio.to_thread(locked, ground, good)
    assert of_job(ground, bad)["state"] == "wip"
