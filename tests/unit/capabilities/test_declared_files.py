"""Files of declared tenants: each that breaks a rule is told by file, line, field and rule, and hides no other."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.capabilities.tenants.service.catalogues import load_catalogue
from tenantry.capabilities.tenants.service.declared import (
    DeclaredTenant,
    FileFault,
    Loaded,
    TenantFolder,
    examples,
    render_schema,
    schema_text,
)
from tenantry.capabilities.tenants.service.declared.folder import MAX_FILE_BYTES, changed_files
from tenantry.capabilities.tenants.service.plans import load_plans
from tenantry.foundation.clock import SystemClock
from tenantry.interfaces.api.routes.tenants import TenantBody, TenantChanges

GOOD = """\
slug: good
name: Good
plan: free
region: us
owner:
  email: owner@good.example
  name: Owner
"""
BASE = GOOD.replace("good", "bad")


def load(folder: Path, *, private: bool = False) -> Loaded:
    return TenantFolder(folder, private=private, clock=SystemClock()).load()


def skipped(folder: Path, content: str | bytes, *, private: bool = False) -> list[FileFault]:
    """What is told of one bad file; the good one beside it loads."""
    (folder / "good.yaml").write_text(GOOD)
    (folder / "bad.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "bad.yaml").chmod(0o644)
    loaded = load(folder, private=private)
    assert [each.file for each in loaded.declared] == ["good.yaml"]
    assert {each.file for each in loaded.skipped} == {"bad.yaml"}
    return list(loaded.skipped)


def test_a_file_gives_what_it_names_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    [declaration] = load(tmp_path).declared
    assert declaration.named == yaml.safe_load(GOOD)
    assert load(tmp_path).skipped == ()


@pytest.mark.parametrize(
    ("lines", "line", "field", "rule"),
    [
        ("status: deleted", 8, "status", "'active' or 'suspended'"),
        ("status: pending", 8, "status", "'active' or 'suspended'"),
        ("isolation: none", 8, "isolation", "'row_level', 'schema_level' or 'database_level'"),
        ("surprise: 1", 8, "surprise", "is no field here"),
        ("version: 3", 8, "version", "is no field here"),
        ("limits: {max_qsp: 1}", 8, "limits.max_qsp", "'max_qps'"),
        ("limits:\n  max_qps: 10\n  max_users: -1", 10, "limits.max_users", "greater than or equal to 0"),
        ("limits:\n  max_qps: many", 9, "limits.max_qps", "integer"),
        ("limits: 7", 8, "limits", "must be a mapping"),
        ("quotas:\n  maxUsers: lots", 9, "quotas.maxUsers", "'unlimited'"),
        ("quotas:\n  maxUser: 1", 9, "quotas.maxUser", "'maxUsers'"),
        ("clock_skew_ms: 300001", 8, "clock_skew_ms", "300000"),
        ("clock_skew_ms: -1", 8, "clock_skew_ms", "0"),
        ("settings:\n  persistence_mode: part", 9, "settings.persistence_mode", "'metadata_only' or 'full'"),
        ("settings:\n  allowed_models: [a, 5]", 9, "settings.allowed_models.1", "must be text"),
        ("billing:", 8, "billing", "must be a mapping"),
        ("billing:\n  customer: 5", 9, "billing.customer", "must be text"),
        ("contacts:\n  a: b\n  security: [x]", 10, "contacts.security", "must be text"),
        ("metadata:\n  a: [x]", 9, "metadata.a", ""),
        ("compliance:\n  a: {b: c}", 9, "compliance.a", ""),
        ("slo_overlay: fast", 8, "slo_overlay", "must be a mapping"),
        ("label_overlay: []", 8, "label_overlay", "must be a mapping"),
        ("tenant_id: bad", 8, "tenant_id", "say the same"),
        ("type: free", 8, "type", "say the same"),
        ("name: Again", 8, "name", "stands twice, first on line 2"),
        ("billing: &all {a: b}\ncontacts: *all", 8, "billing", "anchors and aliases"),
        ("billing: !!binary aGk=", 8, "billing", "tags"),
        ("metadata: {a: 007}", 8, "metadata.a", "different numbers"),
        ('metadata: {a: "\\0"}', 8, "metadata.a", "NUL"),
        ("billing: [", 9, "", "is not YAML"),
        ("---\nslug: other", 8, "", "second document"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_by_line_and_field(lines: str, line: int, field: str, rule: str, tmp_path: Path) -> None:
    [fault] = skipped(tmp_path, f"{BASE}{lines}\n")
    assert (fault.line, fault.field) == (line, field)
    assert rule in fault.rule


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "rule"),
    [
        ("slug: bad", "slug: Bad", 1, "slug", "pattern"),
        ("slug: bad", "slug: bad_one", 1, "slug", "pattern"),
        ("slug: bad", "slug: 12", 1, "slug", "must be text"),
        ("slug: bad", "slug: platform", 1, "slug", "the installation itself"),
        ("slug: bad\n", "", 1, "slug", "is required"),
        ("name: Good", "name: ' x'", 2, "name", "must be printable"),
        ("name: Good", 'name: "a\\e[2Jb"', 2, "name", "must be printable"),
        ("plan: free", "plan: ''", 3, "plan", "at least 1"),
        ("region: us\n", "", 1, "region", "is required"),
        ("region: us", "region: no", 4, "", ""),
        ("  email: owner@bad.example\n", "", 5, "owner.email", "is required"),
        ("owner@bad.example", "nobody", 6, "owner.email", "pattern"),
        ("  name: Owner", "  nome: Owner", 7, "owner.nome", "is no field here"),
    ],
)
def test_a_faulty_or_missing_field_is_told_where_it_is_or_should_be(
    old: str, new: str, line: int, field: str, rule: str, tmp_path: Path
) -> None:
    assert old in BASE
    if not field:  # `no` is Norway, not false: text, like any other
        (tmp_path / "bad.yaml").write_text(BASE.replace(old, new))
        [declaration] = load(tmp_path).declared
        assert declaration.tenant.region == "no"
        return
    faults = skipped(tmp_path, BASE.replace(old, new))
    assert (line, field) in {(each.line, each.field) for each in faults}
    assert any(rule in each.rule for each in faults if each.field == field)


def test_every_fault_of_a_file_is_told_at_once_and_none_repeats_a_value(tmp_path: Path) -> None:
    faults = skipped(tmp_path, BASE + "status: hunter2\nbilling: {card: {pin: hunter2}}\nhello: hunter2\n")
    assert [(each.line, each.field) for each in faults] == [(8, "status"), (9, "billing.card"), (10, "hello")]
    assert not any("hunter2" in str(each) for each in faults)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "is empty"),
        (b"- slug: bad\n", "must be a mapping"),
        (b"slug\n", "must be a mapping"),
        (BASE.encode("utf-16"), "is not UTF-8"),
        (BASE.encode() + b"#\xff\n", "is not UTF-8"),
        (BASE.encode() + b"#" + b"x" * MAX_FILE_BYTES, "is larger than"),
        (b"[" * 60_000, "is nested deeper"),
    ],
    ids=["empty", "list", "text", "utf-16", "bytes", "giant", "deep"],
)
def test_what_is_no_declaration_at_all_is_told(content: bytes, rule: str, tmp_path: Path) -> None:
    [fault] = skipped(tmp_path, content)
    assert rule in fault.rule


def test_other_spellings_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("slug:", "tenant_id:").replace("plan:", "type:"))
    [declaration] = load(tmp_path).declared
    assert (declaration.tenant.slug, declaration.tenant.plan) == ("good", "free")
    assert declaration.fault("plan", "x").line == 3
    (tmp_path / "a.yaml").write_text(BASE.replace("slug: bad", "tenant_id: Bad"))
    [fault] = load(tmp_path).skipped
    assert (fault.line, fault.field) == (1, "tenant_id")


def test_of_two_files_with_one_slug_neither_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("# the same\n" + GOOD.replace("slug", "tenant_id"))
    (tmp_path / "c.yml").write_text(BASE)
    loaded = load(tmp_path)
    assert [each.file for each in loaded.declared] == ["c.yml"]
    assert [(each.file, each.line, each.field) for each in loaded.skipped] == [
        ("a.yaml", 1, "slug"),
        ("b.yaml", 2, "slug"),
    ]
    assert "b.yaml" in loaded.skipped[0].rule


def test_an_invalid_rival_still_makes_a_slug_unclear(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD + "surprise: 1\n")
    loaded = load(tmp_path)
    assert loaded.declared == ()
    assert {(each.file, each.field) for each in loaded.skipped} == {
        ("a.yaml", "slug"),
        ("b.yaml", "slug"),
        ("b.yaml", "surprise"),
    }


def test_a_link_counts_only_inside_of_the_directory(tmp_path: Path) -> None:
    folder, outside = tmp_path / "tenants", tmp_path / "outside"
    (folder / "..data").mkdir(parents=True)
    outside.mkdir()
    (folder / "..data" / "good.yaml").write_text(GOOD)
    (outside / "secret.yaml").write_text(BASE)
    (folder / "good.yaml").symlink_to("..data/good.yaml")  # as Kubernetes mounts them
    (folder / "out.yaml").symlink_to(outside / "secret.yaml")
    (folder / "up.yaml").symlink_to("../outside/secret.yaml")
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "folder.yaml").mkdir()
    loaded = load(folder)
    assert [each.file for each in loaded.declared] == ["good.yaml"]
    rules = {each.file: each.rule for each in loaded.skipped}
    assert rules["out.yaml"] == rules["up.yaml"] == "is a link that leads out of the directory"
    assert set(rules) == {"out.yaml", "up.yaml", "gone.yaml", "loop.yaml", "folder.yaml"}


def test_a_pipe_or_a_device_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    os.mkfifo(tmp_path / "pipe.yaml")
    loaded = load(tmp_path)
    assert [each.file for each in loaded.declared] == ["good.yaml"]
    assert [each.rule for each in loaded.skipped] == ["is not a regular file"]


def test_names_that_declare_nothing_are_left_alone(tmp_path: Path) -> None:
    for name in (".hidden.yaml", "default.yaml.example", "notes.txt", "good.yaml~", "tenant.schema.json"):
        (tmp_path / name).write_text(GOOD)
    assert load(tmp_path) == Loaded()


def test_a_name_that_could_forge_a_log_line_is_told_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\nb\x1b[2J.yaml").write_text(GOOD)
    [fault] = load(tmp_path).skipped
    assert fault.file == "a\\nb\\x1b[2J.yaml"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_server_that_acts_takes_no_file_that_others_may_write(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "good.yaml").chmod(0o644)
    assert len(load(tmp_path, private=True).declared) == 1
    (tmp_path / "good.yaml").chmod(mode)
    [fault] = load(tmp_path, private=True).skipped
    assert "chmod go-w" in fault.rule
    assert len(load(tmp_path, private=False).declared) == 1


def test_a_server_that_acts_takes_nothing_from_a_directory_that_others_may_write(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    tmp_path.chmod(0o777)
    loaded = load(tmp_path, private=True)
    assert loaded.declared == ()
    assert "chmod go-w" in loaded.skipped[0].rule


def test_a_server_that_acts_takes_no_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "good.yaml").chmod(0o644)
    if os.geteuid() == 0:
        os.chown(tmp_path / "good.yaml", 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    loaded = load(tmp_path, private=True)
    assert loaded.declared == ()
    assert "belongs to another user" in loaded.skipped[0].rule


def test_no_directory_declares_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == Loaded()
    (tmp_path / "file").write_text("")
    [fault] = load(tmp_path / "file").skipped
    assert "cannot be read" in fault.rule


def test_a_second_look_names_what_has_changed(tmp_path: Path) -> None:
    folder = TenantFolder(tmp_path, private=False, clock=SystemClock())
    (tmp_path / "good.yaml").write_text(GOOD)
    first = folder.load()
    assert list(changed_files(first, folder.load())) == []
    assert folder.load().declared[0] is first.declared[0]
    assert TenantFolder(tmp_path, private=False, clock=SystemClock()).load().digests == first.digests
    # The same size at the same time: only the content tells.
    times = (tmp_path / "good.yaml").stat()
    (tmp_path / "good.yaml").write_text(GOOD.replace("Good", "Food"))
    os.utime(tmp_path / "good.yaml", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "bad.yaml").write_text("surprise: 1")
    second = folder.load()
    assert list(changed_files(first, second)) == ["bad.yaml", "good.yaml"]
    assert second.declared[0].tenant.name == "Food"


def test_the_shipped_examples_are_valid_and_fit_the_shipped_catalogues(tmp_path: Path) -> None:
    for name, text in examples().items():
        (tmp_path / name).write_text(text)
    loaded = load(tmp_path)
    assert loaded.skipped == ()
    assert {each.tenant.slug for each in loaded.declared} == {"default", "acme-corp"}
    plans = load_plans()
    catalogue = load_catalogue(plans=plans)
    for declaration in loaded.declared:
        plans.require(declaration.tenant.plan)
        named = declaration.named
        catalogue.require_of_tenant(
            plan=declaration.tenant.plan, slos=named["slo_overlay"], labels=named["label_overlay"]
        )
    acme = next(each.tenant for each in loaded.declared if each.tenant.slug == "acme-corp")
    assert acme.slo_overlay["latency_p95_ms"] == 100.0
    assert acme.label_overlay["business_unit"]["values"] == ["sales", "engineering", "finance", "operations"]
    assert acme.label_overlay["priority"]["values"] == ["critical", "high", "medium", "low"]
    assert set(DeclaredTenant.model_fields) <= set(acme.model_fields_set) | {"isolation"}


def test_the_shipped_schema_is_that_of_the_model() -> None:
    assert schema_text() == render_schema(), "run: python -m scripts.reference.tenant_schema"
    schema = json.loads(schema_text())
    assert {"slug", "tenant_id", "plan", "type"} <= schema["properties"].keys()
    assert schema["required"] == ["name", "region", "owner"]


def test_a_file_declares_exactly_what_the_api_takes() -> None:
    declared = set(DeclaredTenant.model_fields)
    assert declared - {"status"} == set(TenantBody.model_fields)
    assert declared - {"status", "slug", "region", "isolation"} == set(TenantChanges.model_fields)


@pytest.mark.parametrize("body", [TenantBody])
def test_what_a_file_may_say_the_api_accepts(body: Any, tmp_path: Path) -> None:
    for name, text in examples().items():
        (tmp_path / name).write_text(text)
    for declaration in load(tmp_path).declared:
        named = declaration.named
        named.pop("status")
        body.model_validate_json(json.dumps(named))


class Tomorrow(SystemClock):
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=1)


def test_an_old_file_is_known_unread_until_anything_of_it_changes(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    file.chmod(0o644)
    folder = TenantFolder(tmp_path, private=True, clock=Tomorrow())
    first = folder.load()
    read = file.stat().st_atime_ns
    os.utime(file, ns=(0, file.stat().st_mtime_ns))
    assert folder.load().digests == first.digests
    file.chmod(0o666)
    assert "chmod go-w" in folder.load().skipped[0].rule
    file.chmod(0o644)
    file.unlink()
    file.write_text(GOOD.replace("Good", "Food"))
    os.utime(file, ns=(read, read))
    assert folder.load().declared[0].tenant.name == "Food"
