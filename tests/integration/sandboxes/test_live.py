"""The life of a sandbox: made, started, stopped, extended, changed, deleted, and what each of it leaves."""

import time

import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import until
from tests.integration.sandboxes.live_ground import LiveGround


@pytest.fixture(scope="module")
def live(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground())


@pytest.fixture(scope="module")
def kept(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground(persistence_mode="full"))


def test_a_sandbox_runs_until_it_is_stopped_and_starts_again(live: LiveGround) -> None:
    made = live.run("first", labels={"team": "core"})
    assert made["job"]
    assert made["expires_at"]
    assert made["files_kept"] is False
    assert made["kept"] is None
    begun = time.monotonic()
    stopped = live.stopped(made)
    assert time.monotonic() - begun < 3
    assert (stopped["status"], stopped["reason"], stopped["expires_at"]) == ("stopped", "stopped", None)
    again = live.done(made, "start", wait=30)
    assert again["status"] == "running"
    assert again["job"] != made["job"]
    assert live.done(made, "start")["job"] == again["job"], "starting one that runs changes nothing"
    live.stopped(made)
    assert live.stopped(made)["status"] == "stopped", "stopping one that is stopped changes nothing"


def test_one_that_is_made_without_a_start_waits_for_it(live: LiveGround) -> None:
    made = live.make("later", start=False)
    assert (made["status"], made["job"]) == ("stopped", None)
    assert live.done(made, "start", wait=30)["status"] == "running"
    live.stopped(made)


def test_names_are_unique_while_they_are_used_and_free_after_a_deletion(live: LiveGround) -> None:
    made = live.make("only", start=False)
    again = live.post("only", start=False)
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    path = f"{live.path}/{made['id']}"
    assert live.client.delete(path).status_code == 204
    assert live.client.get(path).status_code == 404
    assert live.client.delete(path).status_code == 404
    assert made["id"] not in [each["id"] for each in live.client.get(live.path).json()["items"]]
    live.make("only", start=False)


def test_its_jobs_are_listed_by_its_name_alone(live: LiveGround) -> None:
    made = live.run("listed")
    jobs = live.ground.jobs
    assert made["job"] not in [each["id"] for each in live.client.get(jobs).json()["items"]]
    [job] = live.client.get(jobs, params={"sandbox": made["id"]}).json()["items"]
    assert (job["id"], job["sandbox"], job["command"], job["status"]) == (made["job"], made["id"], [], "running")
    live.stopped(made)
    receipt = live.client.get(f"{jobs}/{made['job']}/receipt").json()
    assert receipt["job"] == made["job"]


def test_changes_name_the_version_they_are_of(live: LiveGround) -> None:
    made = live.make("changed", start=False)
    path = f"{live.path}/{made['id']}"
    first = live.client.get(path)
    tag = first.headers["etag"]
    assert live.client.get(path, headers={"If-None-Match": tag}).status_code == 304
    body = {"labels": {"a": "b"}, "ttl_seconds": 60, "idle_seconds": 0}
    changed = live.client.patch(path, json=body, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    assert {name: changed.json()[name] for name in body} == body
    assert changed.headers["etag"] != tag
    stale = live.client.patch(path, json=body, headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
    assert live.client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_the_tag_changes_with_the_state_though_nobody_changed_the_sandbox(live: LiveGround) -> None:
    made = live.run("tagged")
    path = f"{live.path}/{made['id']}"
    tag = live.client.get(path).headers["etag"]
    live.ground.client.post(f"{live.ground.jobs}/{made['job']}/cancel")
    live.until_status(made, "stopped")
    assert live.client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_it_lives_no_longer_than_a_job_may_run(make_ground: MakeGround) -> None:
    live = LiveGround(make_ground(max_job_timeout_seconds=100))
    refused = live.post("long", ttl_seconds=101)
    assert (refused.status_code, refused.json()["code"]) == (422, "limit_exceeded")
    made = live.run("short")
    assert made["ttl_seconds"] == 100
    too_far = live.do(made, "extend", seconds=101)
    assert (too_far.status_code, too_far.json()["code"]) == (422, "life_too_long")
    extended = live.done(made, "extend", seconds=95)
    assert extended["expires_at"] <= made["expires_at"], "as far as it goes, and never nearer"
    live.stopped(made)
    not_running = live.do(made, "extend")
    assert (not_running.status_code, not_running.json()["code"]) == (409, "sandbox_not_running")


def test_what_policies_deny_is_recorded_as_a_job_and_not_made(make_ground: MakeGround) -> None:
    live = LiveGround(make_ground(allowed_images=["docker:never*"]))
    headers = {"Idempotency-Key": "denied-once"}
    for _ in range(2):
        refused = live.client.post(live.path, json={"name": "denied"}, headers=headers)
        assert refused.status_code == 403, refused.text
        assert refused.json()["code"] == "policy_denied"
    assert live.client.get(live.path).json()["items"] == []
    denied = live.ground.job(refused.json()["job"])
    assert (denied["status"], denied["reason"]) == ("denied", "policy_denied")


def test_sandboxes_that_run_are_counted_and_start_no_more_than_there_may_be(make_ground: MakeGround) -> None:
    live = LiveGround(make_ground())
    limits = f"/workspaces/{live.ground.workspace}/limits"
    assert live.ground.tenant.owner.patch(limits, json={"max_concurrent_sandboxes": 1}).status_code == 200
    first = live.run("first")
    until(lambda: live.post("second").status_code == 429)
    refused = live.post("second")
    assert refused.json()["code"] == "quota_exceeded"
    assert refused.json()["limit"]["name"] == "max_concurrent_sandboxes"
    live.stopped(first)
    live.stopped(live.run("second"))


def test_a_start_counts_to_no_day(make_ground: MakeGround) -> None:
    live = LiveGround(make_ground())
    limits = f"/workspaces/{live.ground.workspace}/limits"
    assert live.ground.tenant.owner.patch(limits, json={"daily_job_limit": 0}).status_code == 200
    until(lambda: live.ground.post("true").status_code == 429)
    live.stopped(live.run("undaunted"))


def test_repeating_a_request_makes_one_sandbox(live: LiveGround) -> None:
    headers = {"Idempotency-Key": "sandbox-once"}
    body = {"name": "once", "start": False}
    first, second = (live.client.post(live.path, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201), second.text
    assert first.json()["id"] == second.json()["id"]


def test_each_step_of_its_life_is_in_the_trail(live: LiveGround) -> None:
    made = live.run("traced")
    live.done(made, "extend")
    live.stopped(made)
    assert live.client.delete(f"{live.path}/{made['id']}").status_code == 204
    events = live.ground.audit(resource=made["id"])
    told = [event["action"] for event in reversed(events) if event["outcome"] == "success"]
    effects = [action for action in told if action != "sandbox.read"]
    assert effects == [
        "sandbox.created",
        "sandbox.started",
        "sandbox.extended",
        "sandbox.stopped",
        "sandbox.deleted",
    ]


def test_a_viewer_sees_sandboxes_and_makes_none(live: LiveGround) -> None:
    made = live.make("seen", start=False)
    viewer = live.ground.tenant.as_role("viewer", live.ground.workspace)
    assert viewer.get(f"{live.path}/{made['id']}").status_code == 200
    for answer in (
        viewer.post(live.path, json={"name": "mine"}),
        viewer.post(f"{live.path}/{made['id']}/start"),
        viewer.delete(f"{live.path}/{made['id']}"),
        viewer.patch(f"{live.path}/{made['id']}", json={"idle_seconds": 1}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_missing")


def test_without_kept_content_a_stop_says_that_files_go_and_nothing_can_be_kept(live: LiveGround) -> None:
    made = live.run("forgetful")
    for verb, body in (("snapshot", {"name": "a"}), ("fork", {"name": "b"})):
        refused = live.do(made, verb, wait=None, **body)
        assert (refused.status_code, refused.json()["code"]) == (409, "content_not_kept"), refused.text
        assert refused.json()["allow_with"]
    stopped = live.stopped(made)
    assert (stopped["files_kept"], stopped["kept"]) == (False, None)


def test_a_started_one_that_was_deleted_is_gone_at_once(kept: LiveGround) -> None:
    made = kept.run("brief")
    assert kept.client.delete(f"{kept.path}/{made['id']}").status_code == 204
    until(lambda: kept.ground.job(made["job"])["status"] == "cancelled")
    assert kept.ground.job(made["job"])["reason"] == "deleted"
