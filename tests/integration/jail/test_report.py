"""What `tenantry selftest` says and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tenantry.engines.jail.escape import catalogue
from tenantry.entrypoints.egress_suite import cases as egress

CASES = (*catalogue.CASES, *egress.CASES)


def command(home: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "tenantry.entrypoints.cli", "selftest", "--home", str(home), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)


def test_on_an_installation_it_reports_every_case_and_ends_well(installation: Any) -> None:
    done = command(installation.home, "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    told = report["results"]
    regions = [one["case"] for one in told if one["group"] == "fence"]
    assert [f"{one['group']}.{one['case']}" for one in told[: len(CASES)]] == [case.code for case in CASES]
    assert sorted(regions) == sorted(installation.addresses.cells)
    assert set(told[0]) == {"group", "case", "verdict", "expected", "detail"}
    assert all(one["detail"].startswith("needs ") for one in told if one["verdict"] == "skipped")
    assert report["held"] is True
    assert report["summary"]["open"] == 0
    assert sum(report["summary"].values()) == len(told)


def test_where_a_case_is_open_it_says_which_and_exits_1(tmp_path: Path) -> None:
    """A home without an installation has no fence to show."""
    done = command(tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert [line.split()[1:3] for line in lines if line.startswith("OPEN")] == [["fence", "unknown"]]
    assert lines[-1].startswith(f"{len(CASES) + 1} cases: ")
    assert ", 1 open, " in lines[-1]


def test_its_help_teaches() -> None:
    words = " ".join(command(Path("/"), "--help").stdout.split())
    for taught in ("Exit code 1", "verdict", "escape-suite.md", "--output"):
        assert taught in words
