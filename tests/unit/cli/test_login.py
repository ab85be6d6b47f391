import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run

KEY = "tenantry_eu_platform_ABCDEFGHIJ01234567890123456789AB_abc123"


@pytest.fixture
def home(environment: dict[str, str | None]) -> Path:
    """Not logged in."""
    environment["TENANTRY_URL"] = environment["TENANTRY_KEY"] = None
    return Path(str(environment["TENANTRY_HOME"]))


def test_a_key_from_standard_input_is_verified_and_stored_for_its_owner_alone(
    api: "Api", tenantry: "Run", home: Path
) -> None:
    result = tenantry("login", "--url", f"{api.url}/", given=f"{KEY}\n")
    assert result.exit_code == 0, result.stderr
    assert api.to("GET", "/me").headers["authorization"] == f"Bearer {KEY}"
    path = home / "credentials.json"
    assert json.loads(path.read_text()) == {"url": api.url, "key": KEY}
    assert path.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert KEY not in result.output
    shown = tenantry("whoami").stdout
    assert "principal.acts_for\tusr_1\n" in shown
    assert "tenant.slug\tacme\n" in shown
    assert shown.endswith("ws_1\toperator\tjob:create\n")


def test_a_key_may_come_from_a_file(api: "Api", tenantry: "Run", home: Path, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"  {KEY}\n")
    result = tenantry("login", "--url", api.url, "--key-file", str(file), "--output", "json")
    assert json.loads(result.stdout)["tenant"]["slug"] == "acme"
    assert json.loads((home / "credentials.json").read_text())["key"] == KEY


def test_a_key_that_is_refused_is_not_stored(api: "Api", tenantry: "Run", home: Path) -> None:
    api.refuses("GET", "/me", 401, code="key_unknown", detail="no such key")
    result = tenantry("login", "--url", api.url, given=f"{KEY}\n")
    assert result.exit_code == 3
    assert KEY not in result.output
    assert not (home / "credentials.json").exists()


def test_a_key_is_never_an_argument(tenantry: "Run", home: Path) -> None:
    assert tenantry("login", "--key", KEY).exit_code == 2
    assert tenantry("login", KEY).exit_code == 2
    assert not home.exists()


def test_no_key_at_all_is_a_usage_error(api: "Api", tenantry: "Run", home: Path) -> None:
    assert tenantry("login", "--url", api.url, given="\n").exit_code == 2
    assert not home.exists()


def test_a_credentials_file_others_may_read_is_refused_and_logging_in_replaces_it(
    api: "Api", tenantry: "Run", home: Path
) -> None:
    tenantry("login", "--url", api.url, given=KEY)
    path = home / "credentials.json"
    path.chmod(0o644)
    refused = tenantry("whoami")
    assert refused.exit_code == 3
    assert f"chmod 600 {path}" in refused.stderr
    assert tenantry("login", "--url", api.url, given=KEY).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_login_a_command_says_how_to(tenantry: "Run", home: Path) -> None:
    result = tenantry("whoami")
    assert result.exit_code == 3
    assert "tenantry login" in result.stderr
    assert not home.exists()


@pytest.fixture
def workspaces(api: "Api") -> None:
    for identity in ("ws_1", "ws_2", "ws_3"):
        api.on("GET", f"/workspaces/{identity}", {"id": identity, "name": identity})
        api.lists(f"/workspaces/{identity}/jobs")
    api.lists(
        "/workspaces",
        {"id": "ws_2", "name": "ci", "path": "teams/core/test"},
        {"id": "ws_3", "name": "twin"},
        {"id": "ws_1", "name": "twin"},
    )


def used(api: "Api") -> str:
    return [each.path for each in api.asked if each.path.endswith("/jobs")][-1].split("/")[4]


@pytest.mark.usefixtures("workspaces")
def test_the_workspace_is_the_one_named_nearest(
    api: "Api", tenantry: "Run", environment: dict[str, str | None]
) -> None:
    tenantry("job", "list")
    assert used(api) == "ws_1", "the only one the credential reaches"
    assert tenantry("workspace", "use", "teams/core/test").stderr == "using ws_2 ws_2\n"
    tenantry("job", "list")
    assert used(api) == "ws_2", "the one in use"
    environment["TENANTRY_WORKSPACE"] = "ws_3"
    tenantry("job", "list")
    assert used(api) == "ws_3", "the environment"
    tenantry("--workspace", "ws_1", "job", "list")
    assert used(api) == "ws_1", "the option before the command"
    tenantry("--workspace", "ws_1", "job", "list", "--workspace", "ci")
    assert used(api) == "ws_2", "the option of the command, by name"


@pytest.mark.usefixtures("workspaces")
def test_the_current_workspace_is_told_with_what_chose_it(tenantry: "Run", environment: dict[str, str | None]) -> None:
    def told(*arguments: str) -> tuple[str, str]:
        result = tenantry(*arguments, "--output", "json")
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        return found["id"], found["chosen_by"]

    current = ("workspace", "current")
    assert told(*current) == ("ws_1", "being the only one")
    for way in ("teams/core/test", "ci", "ws_2"):
        tenantry("workspace", "use", way)
        assert told(*current) == ("ws_2", "workspace use")
    config = Path(str(environment["TENANTRY_HOME"])) / "config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    assert "chosen by workspace use" in tenantry(*current).stderr
    environment["TENANTRY_WORKSPACE"] = "ws_3"
    assert told(*current) == ("ws_3", "TENANTRY_WORKSPACE")
    assert told(*current, "--workspace", "ws_1") == ("ws_1", "--workspace")


@pytest.mark.usefixtures("workspaces")
def test_a_workspace_that_is_not_one_is_not_guessed(api: "Api", tenantry: "Run") -> None:
    for name, what in (("nowhere", "no workspace is"), ("twin", "2 workspaces are")):
        result = tenantry("job", "list", "--workspace", name)
        assert result.exit_code == 2
        assert what in result.stderr
    api.on("GET", "/me", {"principal": {}, "workspaces": [{"id": "ws_1"}, {"id": "ws_2"}]})
    assert "more than one workspace" in tenantry("job", "list").stderr


@pytest.mark.usefixtures("workspaces")
def test_a_key_of_the_whole_tenant_reaches_what_there_is(api: "Api", tenantry: "Run") -> None:
    api.on("GET", "/me", {"principal": {}, "workspaces": []})
    assert "more than one workspace" in tenantry("job", "list").stderr
    api.lists("/workspaces", {"id": "ws_3"})
    assert tenantry("job", "list").exit_code == 0
    assert used(api) == "ws_3"
    api.lists("/workspaces")
    assert "no workspace" in tenantry("job", "list").stderr


@pytest.mark.usefixtures("workspaces")
def test_a_workspace_in_use_is_forgotten_when_the_next_key_does_not_reach_it(
    api: "Api", tenantry: "Run", home: Path
) -> None:
    tenantry("login", "--url", api.url, given=KEY)
    tenantry("workspace", "use", "ws_2")
    tenantry("login", "--url", api.url, given=KEY)
    assert json.loads((home / "config.json").read_text()) == {"workspaces": {api.url: "ws_2"}}
    api.refuses("GET", "/workspaces/ws_2", 404, code="not_found")
    tenantry("login", "--url", api.url, given=KEY)
    tenantry("job", "list")
    assert used(api) == "ws_1"
