"""Each contract in `.importlinter` is seen red: against a small house of its own, with one wrong import planted."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")
INSIDE = ("__init__", "types", "errors", "models", "repository", "service")
CAPABILITIES = ("audit", "tenants", "identity", "approvals", "access", "sandboxes", "workflows")
HOUSE = (
    "entrypoints/server", "interfaces/api/app", "interfaces/cli/app", "interfaces/console/app", "engines/jail/jail",
    "foundation/clock", "foundation/database/platform_session", "kit/cursors", "client/calls",
    *(f"capabilities/{name}/{part}" for name in CAPABILITIES for part in INSIDE),
)  # fmt: skip
ALLOWED = {
    "entrypoints/server": "import tenantry.foundation.database.platform_session",
    "interfaces/api/app": "import fastapi, tenantry.capabilities.access.service",
    "interfaces/cli/app": "import typer, tenantry.client.calls",
    "capabilities/tenants/service": "import tenantry.foundation.database.platform_session",
    "capabilities/access/service": "import tenantry.capabilities.audit.service",
}
FAULTS = [
    ("storeys", "kit/cursors", "import tenantry.foundation.clock"),
    ("storeys", "engines/jail/jail", "import tenantry.capabilities.audit.types"),
    ("storeys", "attic/boxes", ""),
    ("interfaces", "interfaces/api/app", "import tenantry.interfaces.cli.app"),
    ("interfaces", "interfaces/console/app", "import tenantry.interfaces.api.app"),
    ("interfaces", "interfaces/soap/app", ""),
    ("capabilities", "capabilities/audit/service", "import tenantry.capabilities.tenants.service"),
    ("capabilities", "capabilities/sandboxes/service", "import tenantry.capabilities.workflows.types"),
    ("capabilities", "capabilities/billing/__init__", ""),
    ("inside", "capabilities/audit/models", "import tenantry.capabilities.audit.repository"),
    ("inside", "capabilities/audit/shortcuts", ""),
    ("transport", "capabilities/audit/service", "import fastapi"),
    ("transport", "foundation/clock", "import jinja2"),
    ("platform_session", "capabilities/audit/repository", "import tenantry.foundation.database.platform_session"),
    ("platform_session", "interfaces/api/app", "import tenantry.foundation.database.platform_session"),
    ("acyclic", "kit/tables", "import tenantry.kit.cursors"),
    ("client", "client/calls", "import tenantry.kit.cursors"),
    ("client", "client/calls", "import tenantry.foundation.clock"),
]
BESIDE = {  # what a fault needs in order to be one fault and no other
    "kit/tables": {"kit/cursors": "import tenantry.kit.tables"},
    "capabilities/billing/__init__": {f"capabilities/billing/{part}": "" for part in INSIDE},
}


def contract_names() -> dict[str, str]:
    """Identifier to the name the linter prints."""
    parser = configparser.ConfigParser()
    parser.read(CHECKOUT / ".importlinter")
    sections = [section for section in parser.sections() if section.startswith("importlinter:contract:")]
    return {section.rpartition(":")[2]: parser[section]["name"] for section in sections}


def build(at: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = at / "tenantry" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        for package in path.parents:
            if package == at:
                break
            (package / "__init__.py").touch()


def verdicts(at: Path) -> dict[str, str]:
    """What the linter says of each contract, by its name: KEPT or BROKEN."""
    command = [str(LINTER), "--no-cache", "--config", str(CHECKOUT / ".importlinter")]
    environment = {"PYTHONPATH": str(at), "COLUMNS": "200", "PATH": ""}
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
    rows = [line.strip().rpartition(" ") for line in done.stdout.splitlines()]
    found = {name: verdict for name, _, verdict in rows if verdict in {"KEPT", "BROKEN"}}
    assert found, done.stdout + done.stderr
    return found


def test_a_sound_house_keeps_every_contract(tmp_path: Path) -> None:
    build(tmp_path, dict.fromkeys(HOUSE, "") | ALLOWED)
    assert verdicts(tmp_path) == dict.fromkeys(contract_names().values(), "KEPT")


@pytest.mark.parametrize(("contract", "module", "line"), FAULTS)
def test_a_planted_import_breaks_its_contract(contract: str, module: str, line: str, tmp_path: Path) -> None:
    build(tmp_path, dict.fromkeys(HOUSE, "") | ALLOWED | {module: line} | BESIDE.get(module, {}))
    assert verdicts(tmp_path)[contract_names()[contract]] == "BROKEN"


def test_every_contract_has_been_seen_red() -> None:
    assert {contract for contract, _, _ in FAULTS} == set(contract_names())
