"""The life of a job, by its API, in real sandboxes."""

import os
import time
from pathlib import Path

import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, given, until

SECRET = "canary-in-the-environment-7413"


def test_success_is_exit_code_0_with_usage_receipt_and_one_event_of_each_kind(ground: Ground) -> None:
    job = ground.sh("echo hello; exit 0", labels={"suite": "jobs"})
    assert (job["status"], job["exit_code"], job["reason"], job["attempt"]) == ("succeeded", 0, "exited", 1)
    assert job["queued_at"] <= job["started_at"] <= job["finished_at"]
    assert job["usage"]["wall_seconds"] > 0
    assert job["log"]["size_bytes"] == 6
    assert job["labels"] == {"suite": "jobs"}
    receipt = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()
    assert receipt["network"] == "none"
    assert receipt["image_digest"] == job["image_digest"]
    assert set(ground.audited(job["id"])) == {"job.created", "job.succeeded"}


def test_usage_is_told_of_a_child_that_was_killed_behind_exit_0(ground: Ground) -> None:
    job = ground.sh("sh -c 'head -c 2000000 /dev/zero > /tmp/a; kill -9 $$'; exit 0")
    assert (job["status"], job["exit_code"]) == ("succeeded", 0)
    usage = job["usage"]
    assert 2_000_000 <= usage["written_bytes"] < 2_100_000
    assert 2_000_000 <= usage["read_bytes"] < 2_100_000
    assert (usage["oom_kills"], usage["memory_limit_hits"], usage["pids_refused"]) == (0, 0, 0)


def test_a_killed_child_behind_exit_0_is_out_of_memory_with_the_limits_it_met(ground: Ground) -> None:
    script = "(head -c 300m /dev/zero | tail -c 290m >/dev/null) 2>/dev/null; exit 0"
    job = ground.sh(script, limits={"memory_mib": 48})
    assert (job["status"], job["reason"]) == ("failed", "out_of_memory")
    assert job["usage"]["oom_kills"] >= 1
    assert job["usage"]["memory_limit_hits"] >= 1
    assert 40 < job["usage"]["peak_memory_mib"] <= 48.1


@pytest.mark.parametrize("code", [1, 42, 255])
def test_failure_keeps_the_exit_code_of_the_program(ground: Ground, code: int) -> None:
    job = ground.sh(f"exit {code}")
    assert (job["status"], job["exit_code"], job["reason"]) == ("failed", code, "exited")
    assert ground.audited(job["id"])["job.failed"]["outcome"] == "error"


def test_a_program_ended_by_its_own_signal_shows_it_as_a_shell_would(ground: Ground) -> None:
    assert ground.sh("kill -9 $$")["exit_code"] == 137


@pytest.mark.parametrize(
    ("command", "code"), [(("no-such-program",), 127), (("/etc/passwd",), 126), (("/no/such/place",), 127)]
)
def test_a_command_that_cannot_run_says_so(ground: Ground, command: tuple[str, ...], code: int) -> None:
    job = ground.run(*command)
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "not_started", code)
    assert command[0] in job["detail"]
    assert command[0] in ground.lines(job["id"], "system")


def test_a_job_ends_at_its_time(ground: Ground) -> None:
    job = ground.run("sleep", "60", limits={"timeout_seconds": 0.3})
    assert (job["status"], job["reason"], job["exit_code"]) == ("timed_out", "timed_out", None)
    assert "timed_out" in ground.lines(job["id"], "system")
    assert set(ground.audited(job["id"])) == {"job.created", "job.timed_out"}


def test_a_job_ends_at_its_memory(ground: Ground) -> None:
    hungry = "x = bytearray()\nwhile True: x += bytes(1 << 20)"
    job = ground.run("python3", "-c", hungry, limits={"memory_mib": 48})
    assert (job["status"], job["reason"]) == ("failed", "out_of_memory")
    assert "48 MiB" in ground.lines(job["id"], "system")


def test_a_job_ends_at_its_output(ground: Ground) -> None:
    job = ground.run("sh", "-c", "yes", limits={"output_bytes": 5000})
    assert (job["status"], job["reason"]) == ("failed", "output_limit")
    assert len(ground.lines(job["id"], "stdout")) <= 5000
    assert "5000" in ground.lines(job["id"], "system")


def test_a_waiting_job_is_cancelled_at_once(make_ground: MakeGround) -> None:
    ground = make_ground()
    slots = ground.installation.settings.jobs.slots
    running = [ground.start("sleep", "60") for _ in range(slots)]
    for job_id in running:
        ground.until_status(job_id, "running")
    waiting = ground.start("true")
    answer = ground.cancel(waiting)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["started_at"] is None
    events = ground.audited(waiting)
    assert set(events) == {"job.created", "job.cancelled"}
    assert (events["job.cancelled"]["reason"], events["job.cancelled"]["actor"]["type"]) == ("cancelled", "api_key")
    for job_id in running:
        assert ground.cancel(job_id).status_code == 200
    for job_id in running:
        assert ground.ended(job_id)["status"] == "cancelled"
    assert ground.run("true")["status"] == "succeeded"


def test_a_running_job_is_killed_within_a_second(ground: Ground) -> None:
    job_id = ground.start("sh", "-c", "echo begun; sleep 60")
    until(lambda: "begun" in ground.lines(job_id))
    asked = time.monotonic()
    assert ground.cancel(job_id).status_code == 200
    job = ground.ended(job_id)
    assert time.monotonic() - asked < 1
    assert (job["status"], job["reason"], job["exit_code"]) == ("cancelled", "cancelled", None)
    events = ground.audited(job_id)
    assert set(events) == {"job.created", "job.cancel_requested", "job.cancelled"}
    assert events["job.cancel_requested"]["actor"]["type"] == "api_key"
    again = ground.cancel(job_id).json()
    assert again["finished_at"] == job["finished_at"]
    assert set(ground.audited(job_id)) - {"job.cancel"} == set(events)  # that it was asked again, in a moment


def test_the_environment_is_in_no_process_title_no_log_and_no_answer(ground: Ground) -> None:
    job_id = ground.start("sh", "-c", 'test "$TOKEN" = "$0" && echo right; sleep 60', SECRET, env={"TOKEN": SECRET})
    # The command is no secret, so the value stands there; one only in the environment must be nowhere.
    other = SECRET.replace("7413", "9926")
    hidden = ground.start("sh", "-c", "echo ${#TOKEN}; sleep 60", env={"TOKEN": other})
    until(lambda: str(len(other)) in ground.lines(hidden))
    until(lambda: "right" in ground.lines(job_id))
    titles = b"".join(_read(place / "cmdline") for place in Path("/proc").glob("[0-9]*"))
    assert SECRET.encode() in titles, "the search finds what is there"
    assert other.encode() not in titles
    for process in Path("/proc").glob("[0-9]*"):
        if _uid(process) < 200_000:  # the sandbox's own processes have it, that is what it is for
            assert other.encode() not in _read(process / "environ")
    assert other not in ground.client.get(f"{ground.jobs}/{hidden}").text
    assert other not in (ground.installation.home.parent / "home.log").read_text()
    for started in (job_id, hidden):
        ground.cancel(started)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _uid(process: Path) -> int:
    try:
        return process.stat().st_uid
    except OSError:
        return 1 << 31


def test_inputs_are_there_and_cannot_be_changed(ground: Ground) -> None:
    script = "cat /inputs/a/b.txt; echo more >> /inputs/a/b.txt || echo held; rm -f /inputs/a/b.txt || echo held"
    job = ground.sh(script, inputs=[given("a/b.txt", b"given\n"), given("c", bytes(range(256)))])
    assert ground.lines(job["id"], "stdout").splitlines() == ["given", "held", "held"]
    assert [(item["path"], item["size_bytes"]) for item in job["inputs"]] == [("a/b.txt", 6), ("c", 256)]


@pytest.mark.parametrize(
    ("name", "wanted", "most"),
    [("cpus", 4.5, 4), ("memory_mib", 8193, 8192), ("pids", 5000, 4096), ("output_bytes", 65 << 20, 64 << 20)],
)
def test_a_limit_above_its_ceiling_is_refused(ground: Ground, name: str, wanted: float, most: float) -> None:
    answer = ground.post("true", limits={name: wanted})
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["limit"], problem["current"]) == ("limit_exceeded", most, wanted)
    assert ground.run("true", limits={name: most})["limits"][name] == most


def test_a_workspace_bounds_the_time_of_its_jobs(make_ground: MakeGround) -> None:
    ground = make_ground(max_job_timeout_seconds=90)
    refused = ground.post("true", limits={"timeout_seconds": 91})
    assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (422, "limit_exceeded", 90)
    assert ground.run("true")["limits"]["timeout_seconds"] == 90
    assert ground.run("true", limits={"timeout_seconds": 90})["status"] == "succeeded"


@pytest.mark.parametrize("value", [0, -1, "1", True, None, [], 1e308])
def test_a_limit_that_is_no_limit_is_refused(ground: Ground, value: object) -> None:
    answer = ground.client.post(ground.jobs, json={"command": ["true"], "limits": {"pids": value}})
    assert answer.status_code == (202 if value is None else 422)


def test_blocked_and_allowed_images_decide_by_name(make_ground: MakeGround) -> None:
    blocked = make_ground(blocked_images=["ho*"])
    refused = blocked.post("true")
    assert (refused.status_code, refused.json()["code"]) == (403, "policy_denied")
    assert "blocked_images" in refused.json()["detail"]
    allowed = make_ground(allowed_images=["registry.example/*"])
    assert allowed.post("true").json()["code"] == "policy_denied"
    assert allowed.post("true", image="registry.example/a").json()["code"] == "image_unknown"
    assert make_ground(allowed_images=["host"]).run("true")["status"] == "succeeded"
    assert [event["outcome"] for event in until(lambda: blocked.audit(action="job.create", outcome="denied"))] == [
        "denied"
    ]


def test_the_list_is_newest_first_by_status_and_in_pages(make_ground: MakeGround) -> None:
    ground = make_ground()
    made = [ground.run("sh", "-c", f"exit {number % 2}")["id"] for number in range(5)]
    seen, cursor = [], None
    while True:
        page = ground.client.get(ground.jobs, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]
    failed = ground.client.get(ground.jobs, params={"status": "failed"}).json()["items"]
    assert [item["id"] for item in failed] == [made[3], made[1]]
    first = ground.client.get(ground.jobs, params={"limit": 1}).json()["next_cursor"]
    assert ground.client.get(ground.jobs, params={"status": "failed", "cursor": first}).status_code == 422
    assert ground.client.get(ground.jobs, params={"status": "lost"}).status_code == 422


def test_wait_holds_no_longer_than_asked(ground: Ground) -> None:
    begun = time.monotonic()
    job = ground.post("sleep", "60", wait=0.4).json()
    assert 0.35 < time.monotonic() - begun < 5
    assert job["status"] == "running"
    ground.cancel(job["id"])


def test_a_sandbox_is_no_root_has_no_network_and_sees_no_other(ground: Ground) -> None:
    job = ground.sh("id -u; ls /sys/class/net 2>/dev/null; ls /proc | grep -c '^[0-9]'; cat /etc/shadow")
    said = ground.lines(job["id"], "stdout").split()
    assert said[0] != "0"
    assert int(said[-1]) < 10
    assert job["status"] == "failed"
    assert os.uname().nodename not in ground.lines(ground.run("uname", "-n")["id"])
