"""The demo: its scenes hold on a home of its own and beside other tenants, and what breaks is told."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Installation, MakeTenant

from tenantry.client.credentials import load
from tenantry.entrypoints.demo_stage import Stage
from tenantry.entrypoints.servers import find_server
from tenantry.foundation.database.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(240)]

SCRIPTS = Path(__file__).parents[2] / "src/tenantry/entrypoints/demo_files"
SECRET = re.compile(r"tenantry_[a-z]+_(?:ws|ten|platform)[0-9a-z]*_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}")


def play(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tenantry.entrypoints.cli", "demo", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=220, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("demo") / "home"
    yield home
    EmbeddedPostgres(home).purge()


@pytest.fixture(scope="module")
def played(home: Path) -> "subprocess.CompletedProcess[str]":
    return play(home, "--port", "0", "--exit")


def test_every_expectation_holds_on_a_fresh_home(played: "subprocess.CompletedProcess[str]") -> None:
    assert played.returncode == 0, played.stdout + played.stderr
    assert "BROKEN" not in played.stdout
    held = sum(line.startswith("held ") for line in played.stdout.splitlines())
    assert f"All {held} expectations held" in played.stdout
    scenes = re.findall(r"^(\d+)\. ", played.stdout, re.MULTILINE)
    assert scenes == [str(number) for number in range(1, 23)]


def test_with_exit_its_server_is_gone_at_the_end_and_postgresql_too(
    played: "subprocess.CompletedProcess[str]", home: Path
) -> None:
    assert "Stopped the server" in played.stdout
    assert find_server(home) is None
    assert not EmbeddedPostgres(home).is_running()
    assert not (home / "server.json").exists()


def test_piped_it_prints_plain_lines_and_no_secret(played: "subprocess.CompletedProcess[str]") -> None:
    assert "\x1b" not in played.stdout
    assert not SECRET.search(played.stdout + played.stderr)


def test_it_leaves_a_key_of_each_tenant_to_go_on_with(played: "subprocess.CompletedProcess[str]", home: Path) -> None:
    assert played.returncode == 0
    for name in ("acme", "globex"):
        folder = home / "demo_tenants" / name
        assert SECRET.fullmatch(load(home=folder, environment={}).key)
        assert (folder / "credentials.json").stat().st_mode & 0o077 == 0


def test_beside_other_tenants_no_worker_is_killed_and_the_server_goes_on(
    installation: Installation, make_tenant: MakeTenant
) -> None:
    make_tenant()
    done = play(installation.home, "--exit")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no worker is killed" in done.stdout
    assert "was there before the demo and goes on" in done.stdout
    assert find_server(installation.home) is not None


def test_with_another_key_than_the_platforms_it_says_what_to_do(
    installation: Installation, make_tenant: MakeTenant, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "server.json").write_text((installation.home / "server.json").read_text())
    key = json.dumps({"url": installation.url, "key": make_tenant().bootstrap_key})
    with os.fdopen(os.open(home / "credentials.json", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(key)
    done = play(home)
    assert done.returncode == 3
    assert "demo_needs_platform_key" in done.stderr
    assert not SECRET.search(done.stdout + done.stderr)


def test_what_breaks_is_counted_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    stage.expect("this holds", held=True)
    stage.expect("this does not", held=False, seen="it was open\x1b[2J")
    stage.expect_refusal("a request", None, status=404, code="not_found")
    assert (stage.held, stage.broken) == (1, 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "BROKEN    this does not (it was open\\x1b[2J)"
    assert lines[2] == "BROKEN    a request (it went through)"


def test_what_is_open_to_the_intruder_is_reported(tmp_path: Path) -> None:
    """The program of the third scene tells open from refused: a scene that cannot fail proves nothing."""
    (tmp_path / "open").touch()
    targets = {"open": str(tmp_path / "open"), "absent": str(tmp_path / "absent")}
    plan = [{"kind": "read", "target": target, "what": what} for what, target in targets.items()]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, "-I", str(SCRIPTS / "look_around.py"), str(tmp_path / "plan.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines() == ["OPEN     open", "refused  absent: No such file or directory"]
    assert done.returncode == 1
