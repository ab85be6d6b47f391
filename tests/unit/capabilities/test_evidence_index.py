"""The index of a directory: filtered by tenant while it is scanned, counted by tenant, nothing of one in another's."""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from tests.unit.capabilities.evidence_ground import AT, Json, locked_bundle, open_bundle, predicate_of, put, signer_at

from tenantry.capabilities.evidence.service import bundle, scanning, statement
from tenantry.capabilities.evidence.service.envelopes import EvidenceSigner
from tenantry.capabilities.evidence.service.scanning import scan_directory
from tenantry.capabilities.evidence.service.statement import written
from tenantry.engines.merkle.errors import Malformed
from tenantry.foundation.ids import Prefix, format_id, new_id

A, B = new_id(), new_id()
TEN_A, TEN_B = (format_id(Prefix.TENANT, each) for each in (A, B))


@pytest.fixture
def signer(tmp_path: Path) -> EvidenceSigner:
    return signer_at(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path: Path, signer: EvidenceSigner) -> Path:
    """Of A two that are locked, one open, one tampered with; of B one locked and one open; two that name nobody."""
    folder = tmp_path / "bundles"
    for name, tenant in (("a1", A), ("deep/a2", A), ("b1", B)):
        put(folder, f"{name}.json", locked_bundle(signer, tenant=tenant))
    for name, tenant in (("a3", A), ("b2", B)):
        put(folder, f"{name}.json", open_bundle(signer, tenant=tenant))
    put(folder, "a4.json", tampered(locked_bundle(signer, tenant=A)))
    put(folder, "u1.json", {"meta": {}})
    put(folder, "u2.json", {"anything": True})
    return folder


def tampered(found: Json) -> Json:
    changed = copy.deepcopy(found)
    changed["meta"]["sha256"] = "00" * 32
    return changed


def scan(folder: Path, signer: EvidenceSigner | None, tenant: str | None = None) -> Json:
    return scan_directory(folder, keys=signer.verifier_keys() if signer else None, now=AT, tenant=tenant)


def test_without_a_filter_all_evidence_is_in_it(folder: Path, signer: EvidenceSigner) -> None:
    index = scan(folder, signer)
    names = [one["file"] for one in index["items"]]
    assert names == sorted(names)
    assert set(names) == {f"{n}.json" for n in ("a1", "deep/a2", "a3", "a4", "b1", "b2", "u1", "u2")}
    assert index["summary"]["count"] == 8


def test_it_is_counted_by_tenant_and_state(folder: Path, signer: EvidenceSigner) -> None:
    assert scan(folder, signer)["summary"]["by_tenant"] == {
        TEN_A: {"count": 4, "wip": 1, "locked": 2, "tampered": 1},
        TEN_B: {"count": 2, "wip": 1, "locked": 1, "tampered": 0},
        "unknown": {"count": 2, "wip": 2, "locked": 0, "tampered": 0},
    }


def test_with_a_filter_it_is_that_tenants_alone(folder: Path, signer: EvidenceSigner) -> None:
    index = scan(folder, signer, TEN_B)
    assert {one["tenant"] for one in index["items"]} == {TEN_B}
    assert index["summary"] == {
        "count": 2, "by_tenant": {TEN_B: {"count": 2, "wip": 1, "locked": 1, "tampered": 0}},
    }  # fmt: skip
    assert TEN_A not in json.dumps(index)


def test_a_tenant_that_is_not_there_has_nothing(folder: Path, signer: EvidenceSigner) -> None:
    index = scan(folder, signer, format_id(Prefix.TENANT, new_id()))
    assert (index["items"], index["summary"]) == ([], {"count": 0, "by_tenant": {}})


def test_what_names_no_tenant_is_unknown(folder: Path, signer: EvidenceSigner) -> None:
    index = scan(folder, signer, "unknown")
    assert [one["file"] for one in index["items"]] == ["u1.json", "u2.json"]


@pytest.mark.parametrize(
    "meta", [{}, {"tenant": ""}, {"tenant": None}, {"tenant": 7}, {"tenant": ["a"]}, [], None, "x"]
)
def test_a_tenant_that_is_no_text_is_unknown(meta: Any, tmp_path: Path) -> None:
    put(tmp_path, "one.json", {"meta": meta})
    assert list(scan(tmp_path, None)["summary"]["by_tenant"]) == ["unknown"]


def test_other_forms_count_by_what_their_meta_says(tmp_path: Path) -> None:
    """Bundles of other programs: a tenant by a name, nothing signed."""
    for number in range(3):
        put(tmp_path, f"{number}.json", {"meta": {"tenant": "tenant-a"}, "body": {"n": number}})
    assert scan(tmp_path, None)["summary"]["by_tenant"] == {
        "tenant-a": {"count": 3, "wip": 3, "locked": 0, "tampered": 0}
    }


def test_whats_another_tenants_is_not_verified_for_a_filter(
    folder: Path, signer: EvidenceSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filter comes first: what is somebody else's is not even examined."""
    seen = []
    real = bundle.verify_bundle

    def spy(found: Json, **more: Any) -> Any:
        seen.append(found["meta"]["tenant"])
        return real(found, **more)

    monkeypatch.setattr(scanning, "verify_bundle", spy)
    scan(folder, signer, TEN_B)
    assert set(seen) == {TEN_B}


def test_evidence_under_anothers_name_is_tampered_and_shows_nothing_of_its_owner(
    tmp_path: Path, signer: EvidenceSigner
) -> None:
    mixed = locked_bundle(signer, tenant=B)
    mixed["meta"]["tenant"] = TEN_A
    put(tmp_path / "mixed", "one.json", mixed)
    index = scan(tmp_path / "mixed", signer, TEN_A)
    assert index["items"] == [{"file": "one.json", "tenant": TEN_A, "state": "tampered", "fault": "tenant_mismatch"}]
    assert scan(tmp_path / "mixed", signer, TEN_B)["items"] == []
    assert TEN_B not in json.dumps(index)


def test_what_cannot_be_read_is_listed_whoever_is_asked_for(folder: Path, signer: EvidenceSigner) -> None:
    (folder / "torn.json").write_bytes(b'{"meta": {"tenant": ')
    for tenant in (None, TEN_A, TEN_B):
        assert scan(folder, signer, tenant)["unreadable"] == [{"file": "torn.json", "fault": "bundle_unreadable"}]
    assert scan(folder, signer)["summary"]["by_tenant"]["unknown"] == {
        "count": 3, "wip": 2, "locked": 0, "tampered": 1,
    }  # fmt: skip


def test_a_stripped_envelope_is_tampering_and_no_open_work(tmp_path: Path, signer: EvidenceSigner) -> None:
    stripped = locked_bundle(signer, tenant=A) | {"envelope": None}
    put(tmp_path / "s", "one.json", stripped)
    [item] = scan(tmp_path / "s", signer)["items"]
    assert (item["state"], item["fault"]) == ("tampered", "evidence_unlocked")


@pytest.mark.parametrize("kept", [("sha256", "locked_at"), ("sha256",), ("locked_at",)])
@pytest.mark.parametrize("state", ["wip", None, "other"])
def test_what_was_signed_is_no_open_work_whatever_it_says(
    kept: tuple[str, ...], state: str | None, tmp_path: Path, signer: EvidenceSigner
) -> None:
    stripped = locked_bundle(signer, tenant=A) | {"envelope": None}
    stripped["meta"] |= {"state": state} | {name: None for name in ("sha256", "locked_at") if name not in kept}
    put(tmp_path / "s", "one.json", stripped)
    [item] = scan(tmp_path / "s", signer)["items"]
    assert (item["state"], item["fault"]) == ("tampered", "evidence_unlocked")


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Whom modes of files bind, also where the tests are run by root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("ordinary_user")
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_folder_that_may_not_be_read_is_listed(mode: int) -> None:
    with TemporaryDirectory() as place:
        folder = Path(place)
        put(folder, "open.json", {"meta": {"tenant": TEN_A}})
        put(folder, "sub/one.json", {"meta": {"tenant": TEN_B}})
        (folder / "sub").chmod(mode)
        found = scan(folder, None, TEN_A)
        (folder / "sub").chmod(0o700)
    name = "sub/one.json" if mode == 0o400 else "sub"
    assert found["unreadable"] == [{"file": name, "fault": "bundle_unreadable"}]
    assert [one["file"] for one in found["items"]] == ["open.json"]


def test_no_file_ends_the_index_of_the_others(
    tmp_path: Path, signer: EvidenceSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "b"
    put(folder, "sound.json", locked_bundle(signer, tenant=A))
    for name, at in (("naive", "2020-01-01T00:00:00"), ("early", "0001-01-01T00:00:00+10:00"), ("none", "")):
        timed = locked_bundle(signer, tenant=A)
        timed["keys"][0]["valid_from"] = at
        put(folder, f"{name}.json", timed)
    predicate = predicate_of(A, new_id(), new_id(), new_id(), locked_at=written(AT))
    monkeypatch.setattr(statement.Statement, "model_validate", lambda _form: None)  # a signer that signs anything
    envelope = signer.signed(
        statement.Statement.make(predicate | {"locked_at": "2026-13-45T99:99:99.000000+00:00"}, products=[])
    )
    monkeypatch.undo()
    put(folder, "moment.json", {"envelope": envelope})
    states = {one["file"]: (one["state"], one.get("fault")) for one in scan(folder, None)["items"]}
    assert states == {
        "sound.json": ("locked", None),
        "moment.json": ("tampered", "key_unknown"),
        **{f"{name}.json": ("tampered", "bundle_malformed") for name in ("naive", "early", "none")},
    }
    [moment] = [one for one in scan(folder, signer)["items"] if one["file"] == "moment.json"]
    assert (moment["state"], moment["fault"]) == ("tampered", "statement_malformed")


@pytest.mark.parametrize("error", [ValueError, OverflowError, RecursionError, KeyError, Malformed])
def test_what_nobody_has_foreseen_is_tampering(
    error: type[Exception], tmp_path: Path, signer: EvidenceSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: Any, **_more: Any) -> Any:
        raise error("of a form")

    put(tmp_path / "b", "one.json", locked_bundle(signer, tenant=A))
    monkeypatch.setattr(bundle, "require_signature", fails)
    [item] = scan(tmp_path / "b", signer)["items"]
    assert (item["state"], item["fault"]) == ("tampered", "bundle_malformed")


def test_what_says_it_is_tampered_stays_so(tmp_path: Path, signer: EvidenceSigner) -> None:
    said = locked_bundle(signer, tenant=A)
    said["meta"]["state"] = "tampered"
    put(tmp_path / "s", "one.json", said)
    [item] = scan(tmp_path / "s", signer)["items"]
    assert item["state"] == "tampered"


def test_an_index_among_them_links_and_other_files_are_passed_over(folder: Path, signer: EvidenceSigner) -> None:
    before = scan(folder, signer)
    put(folder, "index.json", before)
    (folder / "again.json").symlink_to(folder / "a1.json")
    (folder / "readme.txt").write_text("none")
    put(folder.parent / "outside", "one.json", {"meta": {"tenant": "outside"}})
    (folder / "linked").symlink_to(folder.parent / "outside")
    assert scan(folder, signer) == before


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        scan(tmp_path / "none", None)


def test_without_keys_each_is_believed_by_its_own_and_the_index_says_so(folder: Path) -> None:
    index = scan(folder, None)
    assert not index["pinned"]
    assert index["summary"]["by_tenant"][TEN_A]["locked"] == 2


def test_ids_are_told_of_what_holds(folder: Path, signer: EvidenceSigner) -> None:
    for item in scan(folder, signer)["items"]:
        assert ("id" in item) == (item["state"] == "locked")
    assert isinstance(A, UUID)
