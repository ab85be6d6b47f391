"""An installation that is set to containers runs its jobs in them, with all that a job can have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Installation, start_installation, tenants_of
from tests.integration.sandboxes.ground import Ground, given


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, docker_socket: Path) -> Iterator[Ground]:
    started: Installation = start_installation(
        tmp_path_factory.mktemp("contained") / "home",
        TENANTRY_SANDBOXES__BACKEND="docker",
        TENANTRY_SANDBOXES__DOCKER_SOCKET=str(docker_socket),
        TENANTRY_SERVE_REGIONS='["us"]',
    )
    tenant = tenants_of(started, "row_level")()
    workspace = tenant.workspace("dev", settings={"min_isolation": "cgroup"})
    yield Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))
    started.stop()


def test_a_job_runs_in_a_container_and_its_receipt_says_so(ground: Ground) -> None:
    job = ground.sh(
        "echo said; cat /inputs/in.txt > /outputs/f; exit 3",
        inputs=[given("in.txt", b"given")],
        artifacts=["outputs/f"],
    )
    assert (job["status"], job["exit_code"]) == ("failed", 3)
    assert ground.lines(job["id"], "stdout") == "said\n"
    kept = ground.artifacts(job["id"])["outputs/f"]
    assert ground.content(job["id"], kept["id"]).content == b"given"
    receipt = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()
    assert (receipt["backend"], receipt["isolation"], receipt["network"]) == ("docker", "cgroup", "none")


def test_a_job_that_is_cancelled_ends_in_its_container_too(ground: Ground) -> None:
    job = ground.start("sleep", "300")
    ground.until_status(job, "running")
    ground.cancel(job)
    assert ground.ended(job)["status"] == "cancelled"


def test_a_tree_goes_from_phase_to_phase_each_in_a_container_of_its_own(ground: Ground) -> None:
    scripts = {
        "fetch": "echo fetched > source",
        "run": "cat source; echo built > /outputs/built",
        "publish": "cat source /outputs/built; echo x > new || cat /run/secrets/key",
    }
    answer = ground.client.post(f"/workspaces/{ground.workspace}/secrets", json={"name": "TOKEN", "value": "a-secret"})
    assert answer.status_code == 201, answer.text
    phases: dict[str, Any] = {name: {"command": ["sh", "-c", script]} for name, script in scripts.items()}
    phases["publish"]["secrets"] = [{"name": "TOKEN", "file": "key"}]
    begun = ground.client.post(ground.jobs, json={"phases": phases, "artifacts": ["outputs/**"]})
    assert begun.status_code == 202, begun.text
    job = ground.ended(begun.json()["id"])
    said = ground.lines(job["id"])
    assert (job["status"], job["reason"]) == ("succeeded", "exited"), said
    assert "Read-only file system" in said
    assert "a-secret" not in said
    assert list(ground.artifacts(job["id"])) == ["outputs/built"]
    receipts = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()["phases"]
    assert {receipt["backend"] for receipt in receipts.values()} == {"docker"}


def test_a_sandbox_that_is_to_live_fails_and_says_why(ground: Ground) -> None:
    made = ground.client.post(f"/workspaces/{ground.workspace}/sandboxes", json={"name": "one"}, params={"wait": 20})
    assert made.status_code in (201, 202), made.text
    found = ground.client.get(f"/workspaces/{ground.workspace}/sandboxes/{made.json()['id']}").json()
    assert "backend_keeps_none" in str(found), found
