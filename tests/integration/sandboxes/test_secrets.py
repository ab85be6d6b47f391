"""Secrets of a workspace: written and never shown, given to jobs alone, masked in what they say."""

import base64
import hashlib
import secrets as random
from typing import Any

import asyncpg
import httpx
import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground
from tests.integration.tenancy.ground import superuser_dsn

from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id

Json = dict[str, Any]
TELLS = 'printf %s "$TOKEN" | sha256sum; echo "it is $TOKEN"; printf %s "$TOKEN" | base64 -w0'


def value_of() -> str:
    return f"canary-{random.token_hex(16)}"


def digest_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def write(ground: Ground, name: str, value: str, *, client: httpx.Client | None = None) -> httpx.Response:
    return (client or ground.client).post(
        f"/workspaces/{ground.workspace}/secrets", json={"name": name, "value": value}
    )


def written(ground: Ground, name: str, value: str) -> Json:
    answer = write(ground, name, value)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


def remove(ground: Ground, secret: str) -> httpx.Response:
    return ground.client.delete(f"/workspaces/{ground.workspace}/secrets/{secret}")


@pytest.fixture(scope="module", params=["metadata_only", "full"])
def place(request: pytest.FixtureRequest, make_ground: MakeGround) -> Ground:
    return make_ground(persistence_mode=request.param)


async def test_a_value_is_in_no_answer(ground: Ground) -> None:
    value = value_of()
    answer = write(ground, "ANSWERED", value)
    secret = answer.json()
    assert {"id", "name", "version", "created_at", "created_by"} <= secret.keys()
    path = f"/workspaces/{ground.workspace}/secrets"
    found = [
        answer,
        ground.client.get(path),
        ground.client.get(f"{path}/{secret['id']}"),
        write(ground, "bad-name", value),
    ]
    found += [write(ground, "LARGE", value * 2000), ground.client.post(path, json={"name": "A", "value": [value]})]
    assert [each.status_code for each in found] == [201, 200, 200, 422, 422, 422]
    assert [each.url for each in found if value in each.text] == []


async def test_a_job_has_its_secret_and_cannot_say_it(place: Ground) -> None:
    value = value_of()
    written(place, "TOKEN", value)
    job = place.sh(TELLS, secrets=[{"name": "TOKEN"}])
    said = place.lines(job["id"])
    assert digest_of(value) in said
    assert "it is [masked]" in said
    assert value not in said
    assert base64.b64encode(value.encode()).decode()[:-4] not in said
    assert value not in str(job)


async def test_a_file_is_the_jobs_alone_and_read_only(place: Ground) -> None:
    value = value_of() + "\nsecond line of it\n"
    written(place, "PEM", value)
    script = (
        "set -e; cd /run/secrets; stat -c '%a %u %n' . deep deep/key.pem; sha256sum deep/key.pem; "
        "cat deep/key.pem; env | grep -c PEM || true; touch /run/secrets/x || echo closed"
    )
    job = place.sh(script + "; rm -f deep/key.pem || echo kept", secrets=[{"name": "PEM", "file": "deep/key.pem"}])
    said = place.lines(job["id"], "stdout")
    assert "700 1000 .\n700 1000 deep\n400 1000 deep/key.pem\n" in said
    assert digest_of(value) in said
    assert "[masked]\n0\n" in said
    assert said.endswith("closed\nkept\n"), said


async def test_the_largest_value_is_given_whole_and_masked(ground: Ground) -> None:
    value = "".join(random.choice("abcdefghij \u00e9") for _ in range(60_000))[:60_000]
    value = value.encode()[: (64 << 10) - 1].decode(errors="ignore")
    value += "x" * ((64 << 10) - len(value.encode()))
    written(ground, "LARGEST", value)
    used = [{"name": "LARGEST"}, {"name": "LARGEST", "file": "largest"}]
    job = ground.sh('sha256sum /run/secrets/largest; printf %s "$LARGEST" | sha256sum; echo "$LARGEST"', secrets=used)
    said = ground.lines(job["id"])
    assert said.count(digest_of(value)) == 2
    assert said.endswith("-\n[masked]\n")
    assert write(ground, "LARGER", value + "y").status_code == 422
    many = [{"name": "LARGEST", "env": f"V{number}"} for number in range(17)]
    refused = ground.sh("true", secrets=many)
    assert (refused["status"], refused["reason"]) == ("failed", "sandbox_spec_invalid"), refused
    assert value[:20] not in str(refused)


async def test_a_value_is_masked_from_six_bytes_on(ground: Ground) -> None:
    written(ground, "FIVE", "7q8w9")
    written(ground, "SIX", "7q8w9e")
    job = ground.sh('echo "$FIVE"; echo "$SIX"', secrets=[{"name": "FIVE"}, {"name": "SIX"}])
    assert ground.lines(job["id"]) == "7q8w9\n[masked]\n"


async def test_each_write_is_a_version_and_a_job_is_given_the_newest_or_the_one_it_names(ground: Ground) -> None:
    values = [value_of() for _ in range(2)]
    ids = {written(ground, "VERSIONED", value)["id"] for value in values}
    assert len(ids) == 1
    script = 'printf %s "$NEW" | sha256sum; printf %s "$OLD" | sha256sum'
    wanted = [{"name": "VERSIONED", "env": "NEW"}, {"name": "VERSIONED", "version": 1, "env": "OLD"}]
    job = ground.sh(script, secrets=wanted)
    assert ground.lines(job["id"]).split() == [digest_of(values[1]), "-", digest_of(values[0]), "-"]
    assert [(each["name"], each["version"], each["env"]) for each in job["secrets"]] == [
        ("VERSIONED", 2, "NEW"),
        ("VERSIONED", 1, "OLD"),
    ]


async def test_only_the_newest_values_are_kept(ground: Ground) -> None:
    for number in range(11):
        secret = written(ground, "MANY", f"number {number}")
    found = ground.client.get(f"/workspaces/{ground.workspace}/secrets/{secret['id']}").json()
    assert found["version"] == 11
    assert [each["version"] for each in found["versions"]] == list(range(11, 0, -1))
    assert [each["version"] for each in found["versions"] if not each["kept"]] == [1]
    refused = ground.post("true", secrets=[{"name": "MANY", "version": 1}])
    assert (refused.status_code, refused.json()["code"]) == (422, "secret_unknown")
    assert (await sealed_of(ground, secret["id"], 1)) is None


async def test_what_is_not_there_refuses_the_job_when_it_is_asked_for(ground: Ground) -> None:
    for wanted in ({"name": "ABSENT"}, {"name": "ABSENT", "version": 3}):
        answer = ground.post("true", secrets=[wanted])
        assert answer.status_code == 422
        problem = answer.json()
        assert (problem["code"], problem["field"]) == ("secret_unknown", "secrets")
        assert problem["allow_with"] == ["tenantry secret set ABSENT"]


async def test_two_things_cannot_have_one_place(ground: Ground) -> None:
    written(ground, "PLACED", value_of())
    here = {"name": "PLACED"}
    for body in (
        {"secrets": [here], "env": {"PLACED": "x"}},
        {"secrets": [here, here]},
        {"secrets": [{**here, "file": "a"}, {**here, "file": "a"}]},
        {"secrets": [{**here, "file": "a/b"}, {**here, "file": "a"}]},
    ):
        answer = ground.post("true", **body)
        assert (answer.status_code, answer.json()["code"]) == (422, "secret_place_taken"), body
    for wanted in ({"env": "A", "file": "a"}, {"file": "../a"}, {"file": "/etc/passwd"}, {"env": "A=B"}):
        assert ground.post("true", secrets=[{**here, **wanted}]).status_code == 422, wanted


async def test_a_secret_that_was_removed_fails_the_job_that_waits_for_it(make_ground: MakeGround) -> None:
    """Made anew under the same name, it is another."""
    ground = make_ground(on_limit="queue")
    secret = written(ground, "GOING", value_of())
    narrowed = ground.client.patch(f"/workspaces/{ground.workspace}/limits", json={"max_concurrent_jobs": 1})
    assert narrowed.status_code == 200, narrowed.text
    running = ground.start("sleep", "60")
    ground.until_status(running, "running")
    waiting = ground.start("sh", "-c", 'echo "it began with $GOING"', secrets=[{"name": "GOING"}])
    assert remove(ground, secret["id"]).status_code == 204
    written(ground, "GOING", value_of())
    ground.cancel(running)
    job = ground.ended(waiting)
    assert (job["status"], job["reason"]) == ("failed", "secret_missing"), job
    assert "it began" not in ground.lines(waiting)
    assert remove(ground, secret["id"]).status_code == 404


async def test_a_moved_value_does_not_open(ground: Ground) -> None:
    """Whoever writes to the database cannot give a job another secret than it was promised: it fails."""
    mine, other = written(ground, "MINE", value_of()), written(ground, "OTHER", value_of())
    written(ground, "MINE", value_of())
    control = ground.sh("true", secrets=[{"name": "MINE"}, {"name": "OTHER"}])
    assert control["status"] == "succeeded"
    await set_sealed(ground, mine["id"], 2, await sealed_of(ground, other["id"], 1))
    from_another = ground.sh("env", secrets=[{"name": "MINE"}])
    await set_sealed(ground, mine["id"], 2, await sealed_of(ground, mine["id"], 1))
    from_another_version = ground.sh("env", secrets=[{"name": "MINE"}])
    for job in (from_another, from_another_version):
        assert (job["status"], job["reason"]) == ("failed", "sealed_unreadable"), job
        assert "MINE=" not in ground.lines(job["id"])


async def test_a_value_moved_from_another_workspace_or_tenant_does_not_open(
    ground: Ground, make_ground: MakeGround
) -> None:
    mine = written(ground, "STOLEN", value_of())
    sibling = Ground(ground.tenant, ground.tenant.workspace("sibling"), ground.tenant.owner)
    for other in (sibling, make_ground()):
        theirs = written(other, "STOLEN", value_of())
        await set_sealed(ground, mine["id"], 1, await sealed_of(other, theirs["id"], 1))
        job = ground.sh("env", secrets=[{"name": "STOLEN"}])
        assert (job["status"], job["reason"]) == ("failed", "sealed_unreadable"), job


async def test_another_workspaces_secrets_are_not_there(ground: Ground, make_ground: MakeGround) -> None:
    secret = written(ground, "NEAR", value_of())
    sibling = Ground(ground.tenant, ground.tenant.workspace("beside"), ground.tenant.owner)
    for other in (sibling, make_ground()):
        absent = other.post("true", secrets=[{"name": "ABSENT"}]).json()
        found = other.post("true", secrets=[{"name": "NEAR"}]).json()
        assert found | {"trace_id": ""} == _named(absent, "NEAR") | {"trace_id": ""}
        path = f"/workspaces/{other.workspace}/secrets"
        never = format_id(Prefix.SECRET, new_id())
        for verb in ("GET", "DELETE"):
            answers = [other.client.request(verb, f"{path}/{each}") for each in (secret["id"], never)]
            assert [each.status_code for each in answers] == [404, 404]
            assert answers[0].json() | {"trace_id": ""} == answers[1].json() | {"trace_id": ""}
        assert secret["id"] not in other.client.get(path).text


def _named(problem: Json, name: str) -> Json:
    text = {key: value.replace("ABSENT", name) for key, value in problem.items() if isinstance(value, str)}
    return {**problem, **text, "allow_with": [f"tenantry secret set {name}"]}


async def test_giving_a_secret_takes_the_permission_to_use_it(ground: Ground) -> None:
    written(ground, "USED", value_of())
    body = {"command": ["true"], "secrets": [{"name": "USED"}]}
    for role, status in (("ci", 403), ("operator", 202), ("workspace-admin", 202)):
        client = ground.tenant.as_role(role, ground.workspace)
        answer = client.post(ground.jobs, json=body)
        assert answer.status_code == status, f"{role}: {answer.text}"
        asked = client.post("/explain", json={"workspace": ground.workspace, "job": body}).json()
        assert asked["decision"] == ("deny" if status == 403 else "allow"), asked
    refused = ground.tenant.as_role("ci", ground.workspace).post(ground.jobs, json=body).json()
    assert (refused["code"], refused["missing"]) == ("permission_missing", "secret:use")
    for role in ("operator", "viewer", "ci"):
        assert write(ground, "MINE_NOW", "x", client=ground.tenant.as_role(role, ground.workspace)).status_code == 403


async def test_writing_using_and_removing_are_in_the_trail_without_the_value(ground: Ground) -> None:
    value = value_of()
    secret = written(ground, "TRACED", value)
    job = ground.sh("true", secrets=[{"name": "TRACED"}])
    assert remove(ground, secret["id"]).status_code == 204
    events = ground.audit(resource=secret["id"])
    told = {event["action"]: event for event in events if event["action"] != "secret.read"}
    assert set(told) == {"secret.written", "secret.used", "secret.removed"}
    assert told["secret.used"]["details"] == {"name": "TRACED", "version": 1, "used_by": job["id"]}
    assert ground.audited(job["id"])["job.created"]["details"]["secrets"] == ["TRACED@1"]
    assert value not in str(ground.audit())


async def test_a_repeated_key_answers_again_and_its_digest_is_of_no_use_to_who_reads_the_database(
    ground: Ground,
) -> None:
    """A digest without a key would let anybody try values of a short secret."""
    body = {"name": "REPEATED", "value": "471193"}
    path, key = f"/workspaces/{ground.workspace}/secrets", random.token_hex(8)
    answers = [ground.client.post(path, json=body, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert [each.json()["version"] for each in answers] == [1, 1]
    request = answers[0].request
    said = f"POST /api/v1{path}?\n".encode() + request.content
    async with superuser(ground) as connection:
        kept = await connection.fetchval("select request_digest from tenantry.idempotency_records where key = $1", key)
    assert len(kept) == 32
    assert kept != hashlib.sha256(said).digest()


async def test_if_match_protects_from_removing_what_was_written_meanwhile(ground: Ground) -> None:
    secret = written(ground, "GUARDED", value_of())
    path = f"/workspaces/{ground.workspace}/secrets/{secret['id']}"
    read = ground.client.get(path)
    assert read.headers["etag"] == '"1"'
    written(ground, "GUARDED", value_of())
    refused = ground.client.delete(path, headers={"If-Match": '"1"'})
    assert (refused.status_code, refused.json()["code"]) == (412, "version_mismatch")
    assert ground.client.delete(path, headers={"If-Match": '"2"'}).status_code == 204


async def test_there_are_so_many_secrets_and_no_more(make_ground: MakeGround) -> None:
    ground = make_ground()
    for number in range(100):
        assert write(ground, f"S{number}", "value").status_code == 201
    refused = write(ground, "ONE_MORE", "value")
    assert (refused.status_code, refused.json()["code"]) == (429, "secret_limit")
    assert write(ground, "S0", "another value").status_code == 201


async def test_what_policies_ask_of_variables_holds_for_secrets_too(make_ground: MakeGround) -> None:
    ground = make_ground()
    written(ground, "FORBIDDEN", value_of())
    rule = {"name": "no-such", "expression": '"FORBIDDEN" in job.env_names', "message": "no"}
    made = ground.client.put(
        f"/workspaces/{ground.workspace}/policies/rules", params={"state": "enforced"}, json={"rules": [rule]}
    )
    assert made.status_code == 200, made.text
    denied = ground.post("true", secrets=[{"name": "FORBIDDEN"}])
    assert (denied.status_code, denied.json()["code"]) == (403, "policy_denied")
    assert ground.post("true", secrets=[{"name": "FORBIDDEN", "env": "OTHER"}]).status_code == 202


def superuser(ground: Ground) -> Any:
    return _Connected(superuser_dsn(ground.installation, f"tenantry_{ground.tenant.region}"))


class _Connected:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __aenter__(self) -> Any:
        self._connection = await asyncpg.connect(self._dsn)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def sealed_of(ground: Ground, secret: str, version: int) -> bytes | None:
    async with superuser(ground) as connection:
        sealed: bytes | None = await connection.fetchval(
            "select sealed from tenantry.secret_versions where secret_id = $1 and version = $2",
            parse_id(Prefix.SECRET, secret),
            version,
        )
    return sealed


async def set_sealed(ground: Ground, secret: str, version: int, sealed: bytes | None) -> None:
    assert sealed is not None
    async with superuser(ground) as connection:
        done = await connection.execute(
            "update tenantry.secret_versions set sealed = $3 where secret_id = $1 and version = $2",
            parse_id(Prefix.SECRET, secret),
            version,
            sealed,
        )
    assert done == "UPDATE 1"
