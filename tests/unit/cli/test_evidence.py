"""Evidence on the command line: verified and indexed by commands that ask nobody; files are whole or absent."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.capabilities.evidence_ground import Json, locked_bundle, open_bundle, put, signer_at

from tenantry.capabilities.evidence.service.envelopes import EvidenceSigner
from tenantry.foundation.ids import Prefix, format_id, new_id

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run

WS = "/workspaces/ws_1/evidence"
A, B = new_id(), new_id()
TEN_A, TEN_B = (format_id(Prefix.TENANT, each) for each in (A, B))


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvidenceSigner:
    monkeypatch.chdir(tmp_path)
    made = signer_at(tmp_path / "keys")
    Path("evidence.keys").write_text("".join(f"{key}\n" for key in made.verifier_keys()))
    return made


def test_a_bundle_is_verified_and_nobody_asked(signer: EvidenceSigner, api: "Api", tenantry: "Run") -> None:
    bundle = locked_bundle(signer, tenant=A)
    put(Path(), "one.json", bundle)
    done = tenantry("evidence", "verify", "one.json", "--keys-file", "evidence.keys")
    assert (done.exit_code, api.asked, done.stderr) == (0, [], "")
    assert f"evidence\t{bundle['meta']['id']}\ntenant\t{TEN_A}\n" in done.stdout
    assert "pinned\ttrue\n" in done.stdout
    done = tenantry("evidence", "verify", "one.json", "-o", "json")
    told = json.loads(done.stdout)
    assert (told["valid"], told["pinned"], told["status"], told["events"]) == (True, False, "succeeded", "7-9")


def test_by_its_own_keys_it_says_so(signer: EvidenceSigner, tenantry: "Run") -> None:
    put(Path(), "one.json", locked_bundle(signer))
    assert "--keys-file" in tenantry("evidence", "verify", "one.json").stderr


def test_what_was_altered_is_named(signer: EvidenceSigner, tenantry: "Run") -> None:
    bundle = locked_bundle(signer)
    bundle["meta"]["subject"] = format_id(Prefix.JOB, new_id())
    put(Path(), "one.json", bundle)
    done = tenantry("evidence", "verify", "one.json", "--keys-file", "evidence.keys")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: meta_mismatch (evidence)\n  what:   meta.subject is not what was signed\n"


def test_an_artifact_is_held_against_what_was_signed(signer: EvidenceSigner, tenantry: "Run", tmp_path: Path) -> None:
    put(Path(), "one.json", locked_bundle(signer))
    (tmp_path / "out.txt").write_text("other")
    done = tenantry("evidence", "verify", "one.json", "--artifact", "out.txt")
    assert (done.exit_code, "artifact_unknown" in done.stderr) == (2, True)
    done = tenantry("evidence", "verify", "one.json", "--artifact", "none.txt")
    assert (done.exit_code, "file_unreadable" in done.stderr) == (2, True)


def test_a_directory_is_indexed_and_nobody_asked(signer: EvidenceSigner, api: "Api", tenantry: "Run") -> None:
    put(Path("bundles"), "a.json", locked_bundle(signer, tenant=A))
    put(Path("bundles"), "b.json", open_bundle(signer, tenant=B))
    put(Path("bundles"), "c.json", {"meta": {}})
    done = tenantry("evidence", "index", "bundles", "--keys-file", "evidence.keys", "--out", "index.json")
    assert (done.exit_code, api.asked, done.stderr) == (0, [], "")
    assert done.stdout.splitlines() == [
        f"{TEN_A}\t1\t0\t1\t0",
        f"{TEN_B}\t1\t1\t0\t0",
        "unknown\t1\t1\t0\t0",
    ]
    written = json.loads(Path("index.json").read_text())
    assert written["summary"]["by_tenant"][TEN_A] == {"count": 1, "wip": 0, "locked": 1, "tampered": 0}
    assert [one["file"] for one in written["items"]] == ["a.json", "b.json", "c.json"]


def test_with_a_tenant_the_index_and_its_file_are_that_ones_alone(signer: EvidenceSigner, tenantry: "Run") -> None:
    put(Path("bundles"), "a.json", locked_bundle(signer, tenant=A))
    put(Path("bundles"), "b.json", locked_bundle(signer, tenant=B))
    done = tenantry(
        "evidence", "index", "bundles", "--tenant", TEN_B, "--out", "index.json", "--keys-file", "evidence.keys"
    )
    assert (done.exit_code, done.stdout) == (0, f"{TEN_B}\t1\t0\t1\t0\n")
    assert TEN_A not in Path("index.json").read_text()
    assert tenantry("evidence", "index", "bundles", "--tenant", "nobody").stdout == ""


def test_what_is_tampered_with_is_named_and_exits_1(signer: EvidenceSigner, tenantry: "Run") -> None:
    bundle = locked_bundle(signer, tenant=A)
    bundle["meta"]["sha256"] = "00" * 32
    put(Path("bundles"), "bad.json", bundle)
    (Path("bundles") / "torn.json").write_text("{")
    done = tenantry("evidence", "index", "bundles", "--keys-file", "evidence.keys")
    assert done.exit_code == 1
    assert done.stderr == (
        "tampered: bad.json: meta_mismatch\ntampered: torn.json: bundle_unreadable\nunreadable: torn.json\n"
    )


def test_an_index_that_cannot_be_written_leaves_the_old_one(signer: EvidenceSigner, tenantry: "Run") -> None:
    put(Path("bundles"), "a.json", locked_bundle(signer, tenant=A))
    done = tenantry("evidence", "index", "none", "--out", "index.json")
    assert (done.exit_code, "directory_unreadable" in done.stderr) == (2, True)
    assert not Path("index.json").exists()


def test_without_a_directory_the_server_is_asked(api: "Api", tenantry: "Run") -> None:
    counts = {"count": 3, "wip": 1, "locked": 1, "tampered": 1}
    api.on("GET", f"{WS}/index", {"summary": {"count": 3, "by_tenant": {"ten_1": counts}}, "keys": []})
    done = tenantry("evidence", "index")
    assert (done.exit_code, done.stdout) == (1, "ten_1\t3\t1\t1\t1\n")
    refused = tenantry("evidence", "index", "--tenant", "acme")
    assert (refused.exit_code, "directory_missing" in refused.stderr) == (2, True)


def test_a_file_name_that_is_no_text_is_shown_escaped(signer: EvidenceSigner, tenantry: "Run", tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "bundles") + b"/\xff.json")).write_text("{")
    done = tenantry("evidence", "index", "bundles", "--out", "index.json")
    assert (done.exit_code, "unreadable: \\xff.json" in done.stderr) == (1, True), done.stderr
    assert json.loads(Path("index.json").read_text())["unreadable"][0]["file"] == "\\xff.json"
    assert tenantry("evidence", "index", "bundles", "-o", "json").exit_code == 1


def test_all_of_a_workspace_is_exported_to_files(
    signer: EvidenceSigner, api: "Api", tenantry: "Run", tmp_path: Path
) -> None:
    bundles = [locked_bundle(signer, tenant=A) for _ in range(2)]
    api.lists(f"{WS}/export", *[{"id": one["meta"]["id"], "bundle": one} for one in bundles])
    assert tenantry("evidence", "export", "--to", "bundles").exit_code == 0
    assert {file.name for file in (tmp_path / "bundles").iterdir()} == {f"{one['meta']['id']}.json" for one in bundles}
    assert tenantry("evidence", "index", "bundles", "--keys-file", "evidence.keys").exit_code == 0


@pytest.mark.parametrize("named", ["../../escaped", "..", ".hidden", "a/b", "x\n", "", None, 7])
def test_no_export_leaves_its_directory(
    named: object, signer: EvidenceSigner, api: "Api", tenantry: "Run", tmp_path: Path
) -> None:
    before = set(tmp_path.rglob("*"))
    api.lists(f"{WS}/export", {"id": named, "bundle": locked_bundle(signer)})
    done = tenantry("evidence", "export", "--to", "deep/bundles")
    assert (done.exit_code, "path_outside" in done.stderr) == (1, True), done.stderr
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "deep", tmp_path / "deep/bundles"}


def test_one_is_exported_by_the_job_it_is_of(signer: EvidenceSigner, api: "Api", tenantry: "Run") -> None:
    bundle = locked_bundle(signer)
    evidence = bundle["meta"]["id"]
    answer: Json = {"id": evidence, "state": "locked", "sha256": bundle["meta"]["sha256"], "bundle": bundle}
    api.lists(WS, {"id": evidence})
    api.on("GET", f"{WS}/{evidence}", answer)
    assert tenantry("evidence", "export", "job_1", "--to", "one.json").exit_code == 0
    assert api.to("GET", WS).query["subject"] == "job_1"
    assert tenantry("evidence", "verify", "one.json", "--keys-file", "evidence.keys").exit_code == 0
    assert "bundle" not in tenantry("evidence", "get", evidence).stdout


def test_keys_are_printed_for_a_file(signer: EvidenceSigner, api: "Api", tenantry: "Run") -> None:
    [key] = signer.verifier_keys()
    api.on("GET", f"{WS}/index", {"keys": [{"key": str(key), "valid_from": None, "valid_until": None}]})
    assert tenantry("evidence", "keys").stdout == f"{key}\n"


def test_a_hold_is_placed_and_released_with_a_word(api: "Api", tenantry: "Run") -> None:
    api.on("POST", f"{WS}/holds", {"id": "hld_1", "active": True}, 201)
    api.on("DELETE", f"{WS}/holds/hld_1", {"id": "hld_1", "active": False})
    placed = tenantry("evidence", "hold", "place", "--case", "c", "--reason", "r", "--label", "env=dev")
    assert placed.exit_code == 0, placed.stderr
    assert api.to("POST", f"{WS}/holds").json == {"case_id": "c", "reason": "r", "label": {"env": "dev"}}
    assert tenantry("evidence", "hold", "release", "hld_1", "--reason", "settled", "--yes").exit_code == 0
    assert api.to("DELETE", f"{WS}/holds/hld_1").query == {"reason": "settled"}
    bad = tenantry("evidence", "hold", "place", "--case", "c", "--reason", "r", "--label", "env")
    assert (bad.exit_code, "label_malformed" in bad.stderr) == (2, True)


def test_what_is_collected_is_first_only_told(api: "Api", tenantry: "Run") -> None:
    api.on("POST", f"{WS}/gc", {"dry_run": True, "deleted": 1})
    tenantry("evidence", "gc")
    assert api.to("POST", f"{WS}/gc").json == {"dry_run": True}
    api.asked.clear()
    tenantry("evidence", "gc", "--delete")
    assert api.to("POST", f"{WS}/gc").json == {"dry_run": False}


def test_the_schema_is_printed(tenantry: "Run") -> None:
    assert json.loads(tenantry("evidence", "schema").stdout)["$id"] == "urn:tenantry:evidence:v1"
