"""Commands in a running sandbox: asked of the policies, recorded, run, and ended with whoever asked for them."""

import base64
import time
from collections.abc import Iterator

import pytest
from tests.integration.api.conftest import problem
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, until
from tests.integration.sandboxes.living import Living, start, stop


@pytest.fixture(scope="module")
def living(ground: Ground) -> Iterator[Living]:
    made = start(ground, "exec")
    yield made
    stop(made)


def test_a_command_is_answered_with_its_output_and_exit_code(living: Living) -> None:
    told = living.sh("echo out; echo err >&2; exit 7")
    assert told == {
        "exit_code": 7,
        "ending": "exited",
        "detail": "",
        "stdout": "out\n",
        "stderr": "err\n",
        "truncated": False,
    }


def test_what_one_command_leaves_the_next_one_finds(living: Living) -> None:
    living.sh("echo kept > /workspace/note")
    assert living.run("cat", "/workspace/note")["stdout"] == "kept\n"


def test_input_environment_and_directory_are_passed_on(living: Living) -> None:
    assert living.run("cat", stdin="from here ü")["stdout"] == "from here ü"
    content = bytes(range(256))
    given = base64.b64encode(content).decode()
    assert living.run("cat", stdin_base64=given, encoding="base64")["stdout"] == given
    assert living.run("cat")["stdout"] == "", "without any it reads an empty input"
    assert living.sh("echo $MINE; pwd", env={"MINE": "yes"}, workdir="/tmp")["stdout"] == "yes\n/tmp\n"


def test_a_command_that_is_given_too_little_time_is_ended(living: Living) -> None:
    began = time.monotonic()
    told = living.sh("echo begun; sleep 60", timeout_seconds=0.5)
    assert time.monotonic() - began < 10
    assert (told["ending"], told["stdout"]) == ("timed_out", "begun\n")


def test_output_beyond_its_bound_is_cut_and_said_to_be(living: Living) -> None:
    told = living.sh("yes | head -c 100000", output_bytes=1000)
    assert told["truncated"]
    assert told["ending"] == "output_limit"
    assert len(told["stdout"]) == 1000


def test_a_program_that_is_not_there_is_told_as_shells_do(living: Living) -> None:
    told = living.run("no-such-program")
    assert (told["exit_code"], told["ending"]) == (127, "not_started")


def test_what_a_command_leaves_ends_with_it_and_in_a_session_of_its_own_lives_on(living: Living) -> None:
    assert living.sh("sleep 307.1 & exit 0")["exit_code"] == 0
    assert living.run("setsid", "--wait", "sh", "-c", "sleep 307.2 > /dev/null 2>&1 &")["exit_code"] == 0
    until(lambda: "sleep 307.1" not in living.sh("ps ax")["stdout"])
    assert "sleep 307.2" in living.sh("ps ax")["stdout"]
    living.sh("pkill -f 307.2")


def test_a_stream_shows_output_as_it_comes_and_then_the_end(living: Living) -> None:
    with living.streaming("sh", "-c", "echo first; sleep 0.7; echo second >&2; exit 3") as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["event: output", 'data: {"stream": "stdout", "text": "first\\n"}']
        seen = time.monotonic()
        rest = list(lines)
    assert time.monotonic() - seen > 0.3, "the first line did not wait for the second"
    assert 'data: {"stream": "stderr", "text": "second\\n"}' in rest
    assert rest[-3:-1] == [
        "event: exit",
        'data: {"exit_code": 3, "ending": "exited", "detail": "", "truncated": false}',
    ]


def test_a_character_that_pieces_share_is_shown_whole(living: Living) -> None:
    events = living.streamed("sh", "-c", r"printf '\303'; sleep 0.3; printf '\274\303'")
    text = "".join(each["data"]["text"] for each in events if each["event"] == "output")
    assert text == "ü\ufffd"


def _runs(living: Living, name: str) -> bool:
    return bool(living.sh(f"pgrep -f '[{name[0]}]{name[1:]}' > /dev/null")["exit_code"] == 0)


@pytest.mark.parametrize("streams", [True, False])
def test_a_command_ends_with_the_connection(living: Living, streams: bool) -> None:
    script = f"exec sleep 30{int(streams)}.5"
    headers = {"Accept": "text/event-stream"} if streams else {}
    asked = {"command": ["sh", "-c", script]}
    request = living.client.build_request("POST", f"{living.path}/exec", json=asked, headers=headers, timeout=1.5)
    name = f"sleep 30{int(streams)}"
    if streams:
        answer = living.client.send(request, stream=True)
        until(lambda: _runs(living, name))
        answer.close()
    else:
        with pytest.raises(Exception, match="timed out"):
            living.client.send(request)
    until(lambda: not _runs(living, name), seconds=5)


def test_a_command_is_recorded_before_it_runs_and_never_its_arguments(living: Living) -> None:
    living.run("echo", "canary-argument")
    events = living.events("sandbox.exec")
    assert (events[0]["details"]["arguments"], events[0]["withheld"]) == (1, ["details.program"])
    assert events[0]["outcome"] == "success"
    assert "canary-argument" not in str(events)


def test_a_command_that_a_policy_denies_is_refused_recorded_and_not_run(make_ground: MakeGround) -> None:
    ground = make_ground()
    living = start(ground, "policed")
    document = {"blocked_commands": ["touch *"]}
    path = f"/workspaces/{ground.workspace}/policies/command"
    answer = ground.client.put(path, params={"state": "enforced"}, json=document)
    assert answer.status_code == 200, answer.text
    refused = problem(living.exec("touch", "/workspace/never"), 403, "policy_denied")
    assert refused["layer"]
    assert "never" not in living.run("ls", "/workspace")["stdout"]
    assert [each["outcome"] for each in living.events("sandbox.exec")][1] == "denied"


def test_an_idempotency_key_is_refused_where_nothing_could_be_repeated(living: Living) -> None:
    answer = living.client.post(f"{living.path}/exec", json={"command": ["true"]}, headers={"Idempotency-Key": "once"})
    problem(answer, 422, "idempotency_unsupported")


def test_one_that_does_not_run_is_told_to_be_started(ground: Ground) -> None:
    made = ground.client.post(f"/workspaces/{ground.workspace}/sandboxes", json={"name": "still", "start": False})
    asleep = Living(ground, made.json()["id"], "still", ground.client.headers["authorization"].removeprefix("Bearer "))
    refused = problem(asleep.exec("true"), 409, "sandbox_not_running")
    assert refused["current"] == "stopped"


def test_who_may_only_read_runs_nothing(living: Living) -> None:
    key = living.ground.tenant.key(living.ground.workspace, "viewer")
    viewer = Living(living.ground, living.id, living.name, key)
    problem(viewer.exec("true"), 403, "permission_missing")


def test_a_revoked_key_ends_a_command_within_a_second(living: Living) -> None:
    ground = living.ground
    place = f"/workspaces/{ground.workspace}/keys"
    made = ground.client.post(place, json={"name": "short", "roles": ["operator"]}).json()
    short = Living(ground, living.id, living.name, made["secret"])
    with short.streaming("sleep", "301.7") as answer:
        until(lambda: _runs(living, "sleep 301.7"))
        ground.client.delete(f"{place}/{made['id']}")
        began = time.monotonic()
        lines = list(answer.iter_lines())
    assert time.monotonic() - began < 1.5
    assert "event: refused" in lines
    until(lambda: not _runs(living, "sleep 301.7"), seconds=5)


def test_a_secret_is_masked_in_what_a_command_says(make_ground: MakeGround) -> None:
    ground = make_ground()
    value = "s3cr3t-canary-value-of-a-sandbox"
    place = f"/workspaces/{ground.workspace}/secrets"
    assert ground.client.post(place, json={"name": "TOKEN", "value": value}).status_code == 201
    living = start(ground, "secretive", secrets=[{"name": "TOKEN"}])
    told = living.sh("echo $TOKEN; echo ${#TOKEN}")
    assert value not in told["stdout"]
    assert str(len(value)) in told["stdout"], "it is there, and not shown"
    events = living.streamed("sh", "-c", 'echo $TOKEN >&2; printf %s "$TOKEN" | head -c 9; sleep 0.3; echo rest')
    assert value not in str(events)
