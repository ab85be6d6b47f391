"""A closed tenant or workspace: what runs is killed, what waits is cancelled, nothing new begins, until it resumes."""

import time
from collections.abc import Callable

import httpx
import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, until

Close = Callable[[Ground], httpx.Response]


def suspend_tenant(ground: Ground) -> httpx.Response:
    return ground.installation.platform.post(f"/tenants/{ground.tenant.id}/suspend", json={"reason": "unpaid"})


def suspend_workspace(ground: Ground) -> httpx.Response:
    return ground.client.post(f"/workspaces/{ground.workspace}/suspend", json={"reason": "review"})


def archive_workspace(ground: Ground) -> httpx.Response:
    return ground.client.delete(f"/workspaces/{ground.workspace}")


def resume(ground: Ground) -> None:
    suspended = ground.installation.platform.post(f"/tenants/{ground.tenant.id}/resume")
    assert suspended.status_code in (200, 409), suspended.text
    reopened = ground.tenant.owner.post(f"/workspaces/{ground.workspace}/resume")
    assert reopened.status_code == 200, reopened.text


@pytest.mark.parametrize(
    ("close", "reason"),
    [
        (suspend_tenant, "tenant_suspended"),
        (suspend_workspace, "workspace_suspended"),
        (archive_workspace, "workspace_suspended"),
    ],
    ids=["tenant", "workspace", "archive"],
)
def test_closing_stops_everything_within_a_second_and_resuming_lets_it_go_on(
    make_ground: MakeGround, close: Close, reason: str
) -> None:
    ground = make_ground()
    slots = ground.installation.settings.jobs.slots
    running = [ground.start("sh", "-c", "echo begun; sleep 60") for _ in range(slots)]
    for job_id in running:
        ground.until_status(job_id, "running")
    waiting = [ground.start("true") for _ in range(3)]
    other = make_ground()
    answer = close(ground)
    assert answer.status_code < 300, answer.text
    closed = time.monotonic()
    # The slots are another's within the second: everything that ran is dead.
    assert other.run("true")["status"] == "succeeded"
    assert time.monotonic() - closed < 3
    refused = ground.post("true")
    assert refused.status_code == 403
    assert refused.json()["code"].endswith(("suspended", "archived"))
    resume(ground)
    for job_id in [*running, *waiting]:
        job = ground.job(job_id)
        assert (job["status"], job["reason"]) == ("cancelled", reason), job
        assert "job.cancelled" in ground.audited(job_id)
    assert all(ground.job(job_id)["started_at"] is None for job_id in waiting)
    until(lambda: ground.post("true").status_code == 202, seconds=2)
    assert ground.run("true")["status"] == "succeeded"


def test_one_workspace_closed_leaves_its_sibling_at_work(make_ground: MakeGround) -> None:
    ground = make_ground()
    sibling = Ground(ground.tenant, ground.tenant.workspace("other"), ground.tenant.owner)
    theirs = sibling.start("sleep", "60")
    sibling.until_status(theirs, "running")
    ours = ground.start("sleep", "60")
    ground.until_status(ours, "running")
    begun = time.monotonic()
    assert suspend_workspace(ground).status_code == 200
    assert ground.ended(ours)["reason"] == "workspace_suspended"
    assert time.monotonic() - begun < 1
    assert sibling.job(theirs)["status"] == "running"
    sibling.cancel(theirs)
