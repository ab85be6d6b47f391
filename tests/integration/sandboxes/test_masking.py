"""Secrets in what a job says: masked before anything is written, in both modes, however the program cuts them."""

import base64
import hashlib

import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground

SECRET = "correct-horse-battery-7731"
KEY = "ghp_" + "a1B2c3D4e5" * 4
CUT = (
    "import os, sys, time\n"
    "for byte in os.environ['DB_PASSWORD'].encode() + b' ' + os.environ['SHOWN'].encode() + b'\\n':\n"
    "    os.write(1, bytes([byte])); os.write(2, bytes([byte])); time.sleep(0.02)\n"
)


@pytest.fixture(scope="module", params=["metadata_only", "full"])
def masked_ground(request: pytest.FixtureRequest, make_ground: MakeGround) -> Ground:
    return make_ground(persistence_mode=request.param)


def test_a_known_value_is_masked_in_output_errors_and_followed_log(masked_ground: Ground) -> None:
    job_id = masked_ground.start("python3", "-c", CUT, env={"DB_PASSWORD": SECRET, "SHOWN": "plain-value-of-a-name"})
    followed = "".join(e["data"]["text"] for e in masked_ground.followed(job_id) if e["event"] == "log")
    text = "[masked] plain-value-of-a-name\n"
    for stream in ("stdout", "stderr"):
        assert masked_ground.lines(job_id, stream) == text
    assert SECRET[:8] not in followed
    job = masked_ground.job(job_id)
    assert job["log"]["size_bytes"] == 2 * len(text)


def test_size_and_digest_are_of_what_is_kept(masked_ground: Ground) -> None:
    """A digest of what was said would let anybody try values of a short secret against it, for ever."""
    job = masked_ground.sh('echo "pin $DOOR_KEY"', env={"DOOR_KEY": "471193"})
    kept = b"pin [masked]\n"
    assert masked_ground.lines(job["id"], "stdout").encode() == kept
    assert job["log"] == {"size_bytes": len(kept), "sha256": hashlib.sha256(kept).hexdigest()}


def test_a_key_is_masked_by_its_form_and_a_value_in_its_other_spellings(masked_ground: Ground) -> None:
    encoded = base64.b64encode(f"user:{SECRET}".encode()).decode()
    job = masked_ground.sh(f"echo {KEY}; echo {encoded}; echo done", env={"API_TOKEN": SECRET})
    said = masked_ground.lines(job["id"])
    assert KEY not in said
    assert encoded[8:-4] not in said
    assert said.startswith("[masked]\n")
    assert said.endswith("done\n")


def test_what_we_say_of_a_job_is_masked_too(masked_ground: Ground) -> None:
    job = masked_ground.run(f"/no/such/{SECRET}", env={"A_SECRET": SECRET})
    assert job["status"] == "failed"
    assert SECRET not in str(job["detail"])
    assert SECRET not in masked_ground.lines(job["id"])


def test_a_secret_cut_off_by_the_limit_of_output_is_masked(masked_ground: Ground) -> None:
    job = masked_ground.sh("printf %s $A_TOKEN; sleep 5", env={"A_TOKEN": SECRET}, limits={"output_bytes": 20})
    assert job["reason"] == "output_limit"
    assert masked_ground.lines(job["id"], "stdout") == "[masked]"


def test_a_file_is_kept_byte_for_byte(masked_ground: Ground) -> None:
    job = masked_ground.sh("printf %s $A_TOKEN > /outputs/f", env={"A_TOKEN": SECRET}, artifacts=["outputs/f"])
    [artifact] = masked_ground.artifacts(job["id"]).values()
    assert masked_ground.content(job["id"], artifact["id"]).text == SECRET
