"""`tenantry tenant apply` as an operator has it: init, look, apply, repeat, drift, against a running installation."""

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Installation


@dataclass(frozen=True, slots=True)
class Operator:
    """A machine of an operator's own: the command line, a key, a directory of files."""

    installation: Installation
    home: Path
    folder: Path

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "TENANTRY_HOME": str(self.home),
            "TENANTRY_URL": self.installation.url,
            "TENANTRY_KEY": self.installation.platform_key,
        }
        return subprocess.run(
            [sys.executable, "-m", "tenantry.entrypoints.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
        )

    def apply(self, *options: str) -> tuple[int, dict[str, Any]]:
        done = self("tenant", "apply", str(self.folder), *options, "--output", "json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def operator(installation: Installation, tmp_path: Path) -> Operator:
    return Operator(installation, tmp_path / "home", tmp_path / "tenants")


def declare_the_example(operator: Operator) -> str:
    """Take the enterprise example over, under a name of its own; give its slug."""
    assert operator("tenant", "init", str(operator.folder)).returncode == 0
    slug = f"acme-{secrets.token_hex(4)}"
    text = (operator.folder / "acme-corp.yaml.example").read_text()
    (operator.folder / "acme.yaml").write_text(text.replace("slug: acme-corp", f"slug: {slug}"))
    return slug


def test_the_example_becomes_a_tenant_and_applying_again_changes_nothing(operator: Operator) -> None:
    slug = declare_the_example(operator)
    code, told = operator.apply("--dry-run")
    assert code == 2
    assert [(each["tenant"], each["action"], each["applied"]) for each in told["changes"]] == [(slug, "create", False)]
    assert operator.installation.platform.get(f"/tenants/{slug}").status_code == 404
    code, told = operator.apply("--yes")
    [change] = told["changes"]
    assert (code, change["applied"], change["faults"]) == (0, True, [])
    tenant = operator.installation.platform.get(f"/tenants/{slug}").json()
    assert (tenant["region"], tenant["plan"], tenant["clock_skew_ms"]) == ("eu", "enterprise", 2000)
    assert tenant["limits"] == {"max_qps": 1000, "max_storage_gb": 500, "max_users": 250}
    assert (tenant["quotas"]["maxConcurrentAgents"], tenant["quotas"]["maxUsers"]) == (100, "unlimited")
    assert tenant["label_overlay"]["priority"]["values"] == ["critical", "high", "medium", "low"]
    assert operator.apply("--dry-run")[0] == 0
    before = tenant["version"]
    assert operator.apply("--yes")[0] == 0
    assert operator.installation.platform.get(f"/tenants/{slug}").json()["version"] == before
    key_file = Path(change["key_file"])
    logged_in = operator("login", "--url", operator.installation.url, "--key-file", str(key_file), "--output", "json")
    assert json.loads(logged_in.stdout)["tenant"]["slug"] == slug


def test_drift_shows_in_the_diff_and_ends_with_the_next_apply(operator: Operator) -> None:
    slug = declare_the_example(operator)
    assert operator.apply("--yes")[0] == 0
    client = operator.installation.platform
    assert client.patch(f"/tenants/{slug}", json={"limits": {"max_qps": 1}}).status_code == 200
    assert client.post(f"/tenants/{slug}/suspend", json={"reason": "by hand"}).status_code == 200
    shown = operator("tenant", "apply", str(operator.folder), "--dry-run")
    assert shown.returncode == 2
    assert "limits.max_qps: 1 → 1000" in shown.stdout
    assert 'status: "suspended" → "active"' in shown.stdout
    assert operator.apply("--yes")[0] == 0
    tenant = client.get(f"/tenants/{slug}").json()
    assert (tenant["limits"]["max_qps"], tenant["status"]) == (1000, "active")


def test_one_bad_file_and_one_forbidden_change_stop_nobody_else(operator: Operator) -> None:
    slug = declare_the_example(operator)
    other = f"other-{secrets.token_hex(4)}"
    document = f"slug: {other}\nname: Other\nplan: free\nregion: us\nowner: {{email: a@other.example, name: A}}\n"
    (operator.folder / "other.yaml").write_text(document)
    assert operator.apply("--yes")[0] == 0
    acme = operator.folder / "acme.yaml"
    acme.write_text(acme.read_text().replace("region: eu", "region: us"))
    (operator.folder / "bad.yaml").write_text("slug: bad\nplan: 7\n")
    (operator.folder / "other.yaml").write_text(document.replace("name: Other", "name: Renamed"))
    code, told = operator.apply("--yes")
    assert code == 1
    assert [each["tenant"] for each in told["changes"] if each["applied"]] == [other]
    faults = {(each["file"], each["line"], each["field"]) for each in told["skipped"]}
    assert {("acme.yaml", 7, "region"), ("bad.yaml", 2, "plan"), ("bad.yaml", 1, "name")} <= faults
    assert any(f"tenantry tenant move {slug} --region us" in each["rule"] for each in told["skipped"])
    client = operator.installation.platform
    assert client.get(f"/tenants/{other}").json()["name"] == "Renamed"
    assert client.get(f"/tenants/{slug}").json()["region"] == "eu"


def test_the_server_reads_its_own_directory_on_command(operator: Operator) -> None:
    done = operator("tenant", "reload", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mode"] == "check"
