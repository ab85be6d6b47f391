"""An installation that is set to gVisor runs its jobs there, and says what cannot be had."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Installation, start_installation, tenants_of
from tests.integration.sandboxes.ground import Ground, given
from tests.integration.sandboxes.live_ground import LiveGround
from tests.integration.sandboxes.living import Living, heard, start
from tests.integration.sandboxes.test_network import allow


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, docker_socket: Path) -> Iterator[Ground]:
    started: Installation = start_installation(
        tmp_path_factory.mktemp("contained") / "home",
        TENANTRY_SANDBOXES__BACKEND="gvisor",
        TENANTRY_SANDBOXES__DOCKER_SOCKET=str(docker_socket),
        TENANTRY_SERVE_REGIONS='["us"]',
    )
    tenant = tenants_of(started, "row_level")()
    workspace = tenant.workspace("dev", settings={"min_isolation": "gvisor", "persistence_mode": "full"})
    yield Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))
    started.stop()


def test_a_job_runs_under_gvisor_and_its_receipt_says_so(ground: Ground) -> None:
    job = ground.sh(
        "cat /proc/version; cat /inputs/in.txt > /outputs/f; exit 3",
        inputs=[given("in.txt", b"given")],
        artifacts=["outputs/f"],
    )
    assert (job["status"], job["exit_code"]) == ("failed", 3)
    assert ground.lines(job["id"], "stdout").startswith("Linux version 4.4.0")  # gVisor's, whatever the host's is
    kept = ground.artifacts(job["id"])["outputs/f"]
    assert ground.content(job["id"], kept["id"]).content == b"given"
    receipt = ground.client.get(f"{ground.jobs}/{job['id']}/receipt").json()
    assert (receipt["backend"], receipt["isolation"], receipt["network"]) == ("gvisor", "gvisor", "none")
    assert receipt["sentry"]["version"]
    assert receipt["sentry"]["seccomp_mode"] == receipt["seccomp_mode"] == "2"


def test_a_job_that_is_cancelled_ends_there_too(ground: Ground) -> None:
    job = ground.start("sleep", "300")
    ground.until_status(job, "running")
    ground.cancel(job)
    assert ground.ended(job)["status"] == "cancelled"


def test_a_tree_goes_from_phase_to_phase_each_with_a_kernel_of_its_own(ground: Ground) -> None:
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
    assert {receipt["isolation"] for receipt in receipts.values()} == {"gvisor"}


def test_what_a_job_used_is_told_as_far_as_it_is_known(ground: Ground) -> None:
    usage = ground.sh("head -c 1000000 /dev/zero > /workspace/a")["usage"]
    assert usage["cpu_seconds"] > 0
    assert usage["peak_memory_mib"] > 0
    assert usage.get("written_bytes") is None


def test_a_job_that_asks_for_a_network_is_told_why_it_has_none(ground: Ground) -> None:
    allow(ground, 443, "api.example.com")
    job = ground.sh("true", network=[{"host": "api.example.com", "port": 443}])
    assert (job["status"], job["reason"]) == ("failed", "gvisor_no_network")
    assert "gives no network" in ground.lines(job["id"], "system")


def test_a_sandbox_lives_there_and_what_is_kept_of_it_comes_back(ground: Ground) -> None:
    lives = LiveGround(ground)
    made = start(ground, "one")
    assert made.sh("cat; echo $((6*7)) > /workspace/answer", stdin="given")["stdout"] == "given"
    assert made.files("answer", content=True).content == b"42\n"
    assert made.put("more", b"from outside").is_success
    assert made.sh("cat more; exit 4")["exit_code"] == 4
    sandbox = lives.get({"id": made.id})
    fork = lives.done(sandbox, "fork", wait=30, name="two")
    assert Living(ground, fork["id"], "two", made.key).run("cat", "more")["stdout"] == "from outside"
    assert lives.stopped(sandbox)["files_kept"]
    assert ground.client.get(f"{ground.jobs}/{sandbox['job']}/receipt").json()["isolation"] == "gvisor"
    assert lives.done(sandbox, "start", wait=30)["status"] == "running"
    assert made.run("cat", "answer")["stdout"] == "42\n"
    for each in (sandbox, fork):
        assert ground.client.delete(f"{lives.path}/{each['id']}").status_code in (200, 202, 204)


def test_a_terminal_is_told_why_there_is_none(ground: Ground) -> None:
    made = start(ground, "three")
    with made.socket("/terminal?rows=33&columns=111") as connection:
        _, end = heard(connection)
    assert "gvisor_no_terminal" in str(end)
