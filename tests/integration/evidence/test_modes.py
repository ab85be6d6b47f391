"""What evidence has of content: with `metadata_only` digests, sizes and ids; with `full` what ran as well."""

import hashlib
import json

import pytest
from tests.integration.evidence.conftest import MakeGround
from tests.integration.evidence.seen import locked, statement_of
from tests.integration.sandboxes.ground import Ground, Json, given

CANARIES = {
    "command": "canary-command-41",
    "variable": "CANARY_VARIABLE",
    "value": "canary-value-42",
    "input": "canary-input-43.txt",
    "content": "canary-content-44",
    "artifact": "canary-artifact-45.txt",
    "output": "canary-output-46",
    "secret": "CANARY_SECRET",
    "host": "canary-host.example",
}
NEVER = ("value", "content", "output")
"""What no mode has in it: content itself is proved by its digest."""


def worked(ground: Ground) -> Json:
    owner = ground.tenant.owner
    path = f"/workspaces/{ground.workspace}"
    assert owner.post(f"{path}/secrets", json={"name": CANARIES["secret"], "value": "hidden"}).status_code == 201
    network = {"allowed_hosts": [CANARIES["host"]], "allowed_ports": [443]}
    allowed = owner.put(f"{path}/policies/network?state=enforced", json=network)
    assert allowed.status_code == 200, allowed.text
    script = f": {CANARIES['command']}; echo {CANARIES['output']}; echo x > {CANARIES['artifact']}"
    job = ground.sh(
        script,
        env={CANARIES["variable"]: CANARIES["value"]},
        inputs=[given(CANARIES["input"], CANARIES["content"].encode())],
        artifacts=["*.txt"],
        secrets=[{"name": CANARIES["secret"]}],
        network=[{"host": CANARIES["host"], "port": 443}],
    )
    return statement_of(locked(ground, job["id"]))


@pytest.fixture(scope="module")
def redacted(make_ground: MakeGround) -> Json:
    return worked(make_ground(persistence_mode="metadata_only"))


@pytest.fixture(scope="module")
def whole(make_ground: MakeGround) -> Json:
    return worked(make_ground(persistence_mode="full"))


@pytest.mark.parametrize("canary", CANARIES)
def test_metadata_only_has_no_content_and_no_name_of_it(canary: str, redacted: Json) -> None:
    assert CANARIES[canary] not in json.dumps(redacted)


@pytest.mark.parametrize("canary", [name for name in CANARIES if name not in (*NEVER, "variable")])
def test_the_control_full_has_what_ran(canary: str, whole: Json) -> None:
    assert CANARIES[canary] in json.dumps(whole)


@pytest.mark.parametrize("canary", NEVER)
def test_what_was_given_and_left_is_proved_by_digest_alone(canary: str, whole: Json) -> None:
    assert CANARIES[canary] not in json.dumps(whole["predicate"]["execution"]["inputs"])
    if canary != "output":
        assert CANARIES[canary] not in json.dumps(whole)


def test_both_have_the_same_digests(redacted: Json, whole: Json) -> None:
    one, other = (each["predicate"]["execution"] for each in (redacted, whole))
    given_digest = hashlib.sha256(CANARIES["content"].encode()).hexdigest()
    for execution in (one, other):
        assert [each["sha256"] for each in execution["inputs"]] == [given_digest]
        assert [each["sha256"] for each in execution["artifacts"]] == [hashlib.sha256(b"x\n").hexdigest()]
        assert execution["network"]["count"] == 1
    assert one["network"]["sha256"] == other["network"]["sha256"]
    assert one["programs"][0]["command_sha256"] == other["programs"][0]["command_sha256"]
    command = "\0".join(other["programs"][0]["command"]).encode()
    assert one["programs"][0]["command_sha256"] == hashlib.sha256(command).hexdigest()


def test_each_says_its_mode(redacted: Json, whole: Json) -> None:
    assert redacted["predicate"]["persistence_mode"] == "metadata_only"
    assert whole["predicate"]["persistence_mode"] == "full"
