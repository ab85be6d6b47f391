"""An installation that is set to containers runs its jobs in them, with all that a job can have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Installation, start_installation, tenants_of
from tests.integration.sandboxes.ground import Ground, given
from tests.integration.sandboxes.live_ground import LiveGround
from tests.integration.sandboxes.living import Living, heard, start


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, docker_socket: Path) -> Iterator[Ground]:
    started: Installation = start_installation(
        tmp_path_factory.mktemp("contained") / "home",
        TENANTRY_SANDBOXES__BACKEND="docker",
        TENANTRY_SANDBOXES__DOCKER_SOCKET=str(docker_socket),
        TENANTRY_SERVE_REGIONS='["us"]',
    )
    tenant = tenants_of(started, "row_level")()
    workspace = tenant.workspace("dev", settings={"min_isolation": "cgroup", "persistence_mode": "full"})
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


def test_a_sandbox_lives_in_a_container_and_what_is_kept_of_it_comes_back(ground: Ground) -> None:
    lives = LiveGround(ground)
    made = start(ground, "one")
    assert made.sh("cat; echo $((6*7)) > /workspace/answer", stdin="given")["stdout"] == "given"
    assert made.files("answer", content=True).content == b"42\n"
    assert made.put("more", b"from outside").is_success
    with made.socket("/terminal?rows=33&columns=111") as connection:
        connection.send(b"stty size; exit 5\n")
        found, end = heard(connection)
    assert b"33 111" in found
    assert end["exit_code"] == 5
    sandbox = lives.get({"id": made.id})
    fork = lives.done(sandbox, "fork", wait=30, name="two")
    assert Living(ground, fork["id"], "two", made.key).run("cat", "more")["stdout"] == "from outside"
    assert lives.stopped(sandbox)["files_kept"]
    assert ground.client.get(f"{ground.jobs}/{sandbox['job']}/receipt").json()["backend"] == "docker"
    assert lives.done(sandbox, "start", wait=30)["status"] == "running"
    assert made.run("cat", "answer")["stdout"] == "42\n"
    for each in (sandbox, fork):
        assert ground.client.delete(f"{lives.path}/{each['id']}").status_code in (200, 202, 204)
