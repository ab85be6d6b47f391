"""`tenant apply` and its neighbours against routes that answer what a test says."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.cli.conftest import Api, Run

SECRET = "tenantry_us_ten0000000000_0123456789abcdefghijABCDEFGHIJ01_abc123"
ACME: dict[str, Any] = {
    "slug": "acme",
    "name": "Acme",
    "plan": "free",
    "region": "us",
    "owner": {"email": "a@acme.example", "name": "Ada"},
}


def placement(slug: str, status: str = "active", region: str = "us") -> dict[str, Any]:
    return {"id": f"ten_{slug}", "slug": slug, "region": region, "isolation": "row_level", "status": status}


def present(**fields: Any) -> dict[str, Any]:
    names = ("settings", "quotas", "limits", "billing", "contacts", "metadata", "compliance")
    rest: dict[str, Any] = {name: {} for name in names}
    return {**placement("acme"), **ACME, **rest, "status_reason": None, "version": 4, **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tenants"
    made.mkdir()
    return made


def write(folder: Path, **fields: Any) -> None:
    (folder / "acme.yaml").write_text(yaml.safe_dump(ACME | fields, sort_keys=False))


def keys(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder.parent)) for path in (folder.parent / "keys").glob("*"))


def test_a_dry_run_shows_what_would_change_and_says_so_by_its_exit_code(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants", placement("platform"), placement("acme"), placement("other"))
    api.on("GET", "/tenants/acme", present(metadata={"tier": "x"}))
    write(folder, name="ACME", metadata={"tier": "y"})
    done = tenantry("tenant", "apply", str(folder), "--dry-run")
    assert done.exit_code == 2
    assert done.stdout.splitlines() == [
        "~ acme (acme.yaml)",
        '    name: "Acme" → "ACME"',
        '    metadata.tier: "x" → "y"',
        "not declared, left as they are: other",
        "0 to create, 1 to change, 0 as declared, 0 skipped",
    ]
    assert {each.method for each in api.asked} == {"GET"}
    write(folder, metadata={"tier": "x"})
    done = tenantry("tenant", "apply", str(folder), "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.endswith("0 to create, 0 to change, 1 as declared, 0 skipped\n")


def test_a_tenant_is_made_and_its_key_goes_into_a_file_of_ones_own(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants", placement("platform"))
    api.on("POST", "/tenants", present(bootstrap_key={"id": "key_1", "secret": SECRET, "expires_at": ""}), 201)
    api.on("POST", "/tenants/acme/suspend", present(status="suspended"))
    write(folder, status="suspended", limits={"max_qps": 1})
    done = tenantry("tenant", "apply", str(folder), "--yes", "--keys", str(folder.parent / "keys"))
    assert done.exit_code == 0, done.output
    assert api.to("POST", "/tenants").json == ACME | {"limits": {"max_qps": 1}}
    assert api.to("POST", "/tenants/acme/suspend").json == {"reason": "declared suspended in acme.yaml"}
    assert SECRET not in done.stdout
    assert SECRET not in done.stderr
    file = folder.parent / "keys" / "acme.key"
    assert file.read_text() == f"{SECRET}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_change_names_the_version_that_was_compared(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants", placement("acme", "suspended"))
    api.on("GET", "/tenants/acme", present(status="suspended"))
    api.on("PATCH", "/tenants/acme", present())
    api.on("POST", "/tenants/acme/resume", present())
    write(folder, name="ACME", status="active")
    assert tenantry("tenant", "apply", str(folder), "--yes").exit_code == 0
    patched = api.to("PATCH", "/tenants/acme")
    assert (patched.json, patched.headers["if-match"]) == ({"name": "ACME"}, '"4"')
    assert api.to("POST", "/tenants/acme/resume").json == {}


def test_a_pending_tenant_is_made_again_and_a_deleted_one_is_not(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants", placement("acme", "pending"))
    write(folder)
    assert "+ acme" in tenantry("tenant", "apply", str(folder), "--dry-run").stdout
    api.lists("/tenants", placement("acme", "deleted"))
    done = tenantry("tenant", "apply", str(folder), "--yes")
    assert done.exit_code == 1
    assert "! acme.yaml:1: slug: acme is deleted: `tenantry tenant restore acme`" in done.stdout


def test_nobody_to_ask_changes_nothing(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants")
    write(folder)
    done = tenantry("tenant", "apply", str(folder))
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert {each.method for each in api.asked} == {"GET"}


def test_a_refused_change_is_told_by_its_line_and_the_others_are_made(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants")
    api.refuses("POST", "/tenants", 422, code="plan_unknown", detail="plan: not in the catalogue", field="plan")
    write(folder, plan="gold")
    (folder / "bad.yaml").write_text("slug: bad\n")
    done = tenantry("tenant", "apply", str(folder), "--yes", "--keys", str(folder.parent / "keys"))
    assert done.exit_code == 1
    assert "not applied: acme.yaml:3: plan: plan_unknown: plan: not in the catalogue" in done.stderr
    assert "! bad.yaml:1: name: is required" in done.stdout
    assert keys(folder) == []


def test_a_key_that_could_not_be_kept_is_not_asked_for(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants")
    write(folder)
    (folder.parent / "keys").write_text("in the way")
    done = tenantry("tenant", "apply", str(folder), "--yes", "--keys", str(folder.parent / "keys"))
    assert done.exit_code == 2
    assert "--keys" in done.stderr
    assert {each.method for each in api.asked} == {"GET"}


def test_programs_get_the_same_as_json_without_a_secret(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants", placement("other"))
    api.on("POST", "/tenants", present(bootstrap_key={"id": "key_1", "secret": SECRET, "expires_at": ""}), 201)
    write(folder)
    keep = folder.parent / "keys"
    done = tenantry("tenant", "apply", str(folder), "--yes", "--keys", str(keep), "--output", "json")
    told = json.loads(done.stdout)
    [change] = told["changes"]
    assert (change["tenant"], change["action"], change["applied"]) == ("acme", "create", True)
    assert change["key_file"] == str(keep / "acme.key")
    assert told["not_declared"] == ["other"]
    assert SECRET not in done.stdout


def test_what_a_file_or_a_server_says_steers_no_terminal(api: Api, tenantry: Run, folder: Path) -> None:
    api.lists("/tenants", placement("acme"))
    api.on("GET", "/tenants/acme", present(metadata={"a\x1b[2J": "b\x1b]0;x\x07"}))
    write(folder, metadata={"c\u202e": "d\u009b2J"})
    done = tenantry("tenant", "apply", str(folder), "--dry-run")
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(done.stdout)


def test_examples_are_written_beside_their_schema_and_declare_nothing(tenantry: Run, folder: Path) -> None:
    assert tenantry("tenant", "init", str(folder)).exit_code == 0
    names = {"default.yaml.example", "acme-corp.yaml.example", "tenant.schema.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "tenant.schema.json").read_text() == tenantry("tenant", "schema").stdout
    again = tenantry("tenant", "init", str(folder))
    assert again.exit_code == 2
    assert "file_unwritable" in again.stderr


def test_a_directory_that_is_not_there_is_told(tenantry: Run, folder: Path) -> None:
    done = tenantry("tenant", "apply", str(folder / "none"), "--dry-run")
    assert done.exit_code == 2
    assert "directory_missing" in done.stderr


def test_a_reload_says_what_the_server_found(api: Api, tenantry: Run) -> None:
    change = {"tenant": "acme", "file": "acme.yaml", "action": "update", "fields": ["name"], "applied": True}
    skipped = {"file": "bad.yaml", "line": 3, "field": "plan", "rule": "is required"}
    api.on(
        "POST",
        "/platform/tenants/reload",
        {"mode": "apply", "loaded": 2, "changed": [change], "skipped": [skipped]},
    )
    said = tenantry("tenant", "reload").stderr.splitlines()
    assert said == [
        "applied: acme.yaml: acme: update name",
        "skipped: bad.yaml:3: plan: is required",
        "2 loaded, 1 changed, 1 skipped (mode apply)",
    ]
