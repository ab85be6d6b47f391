"""Sandboxes on the command line: by name or id."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run

SANDBOXES = "/workspaces/ws_1/sandboxes"
DEV = {"id": "sbx_1", "name": "dev", "status": "running", "files_kept": True}
KEPT = {"id": "snp_1", "name": "one", "size_bytes": 10, "files": 2, "created_at": "x"}


def test_one_is_made_with_what_it_may_and_how_long_it_lives(api: "Api", tenantry: "Run") -> None:
    api.on("POST", SANDBOXES, DEV, 201)
    arguments = ["--ttl", "60", "--idle", "0", "-e", "A=b", "--cpus", "2", "--connect", "example.com:443", "--no-start"]
    assert tenantry("sandbox", "create", "dev", *arguments).exit_code == 0
    assert api.to("POST", SANDBOXES).json == {
        "name": "dev",
        "image": "host",
        "env": {"A": "b"},
        "limits": {"cpus": 2.0},
        "network": [{"host": "example.com", "port": 443}],
        "ttl_seconds": 60,
        "idle_seconds": 0,
        "start": False,
    }


def test_a_name_is_looked_up_and_an_id_is_taken_as_it_is(api: "Api", tenantry: "Run") -> None:
    api.lists(SANDBOXES, DEV)
    api.on("POST", f"{SANDBOXES}/sbx_1/stop", {**DEV, "status": "stopped"})
    assert "stopped" in tenantry("sandbox", "stop", "dev").stdout
    assert "stopped" in tenantry("sandbox", "stop", "sbx_1").stdout
    unknown = tenantry("sandbox", "stop", "other")
    assert unknown.exit_code != 0
    assert "sandbox_unknown" in unknown.output


def test_it_is_deleted_without_a_question_only_where_that_is_said(api: "Api", tenantry: "Run") -> None:
    api.on("DELETE", f"{SANDBOXES}/sbx_1", None, 204)
    assert tenantry("sandbox", "rm", "sbx_1", given="n\n").exit_code != 0
    assert tenantry("sandbox", "rm", "sbx_1", "--yes").exit_code == 0


def test_snapshots_are_taken_listed_deleted_and_forked_by_name(api: "Api", tenantry: "Run") -> None:
    api.on("POST", f"{SANDBOXES}/sbx_1/snapshot", KEPT, 201)
    api.lists(f"{SANDBOXES}/sbx_1/snapshots", KEPT)
    api.on("DELETE", f"{SANDBOXES}/sbx_1/snapshots/snp_1", None, 204)
    api.on("POST", f"{SANDBOXES}/sbx_1/fork", {**DEV, "id": "sbx_2", "name": "try"}, 201)
    assert tenantry("sandbox", "snapshot", "sbx_1", "one").exit_code == 0
    assert api.to("POST", f"{SANDBOXES}/sbx_1/snapshot").json == {"name": "one"}
    assert "snp_1\tone\t10" in tenantry("sandbox", "snapshot", "sbx_1").stdout
    assert tenantry("sandbox", "fork", "sbx_1", "try", "--snapshot", "one").exit_code == 0
    assert api.to("POST", f"{SANDBOXES}/sbx_1/fork").json == {"name": "try", "snapshot": "snp_1", "start": True}
    assert tenantry("sandbox", "snapshot", "sbx_1", "--delete", "one").exit_code == 0
    assert "snapshot_unknown" in tenantry("sandbox", "snapshot", "sbx_1", "--delete", "two").output
