"""docs/reference says what the code says: it is generated, and generated again here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
COMMITTED = CHECKOUT / "docs" / "reference"
REMEDY = "run `make docs`, read what changed, and commit it"


def generate(into: Path, *, checkout: Path = CHECKOUT) -> "subprocess.CompletedProcess[str]":
    """Write the pages of a checkout as it is now."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-m", "scripts.reference", str(into)]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference")
    done = generate(folder)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_committed_pages_are_what_the_code_says(pages: dict[str, str]) -> None:
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*.md")}
    assert sorted(committed) == sorted(pages), REMEDY
    stale = [name for name, text in pages.items() if committed[name] != text]
    assert not stale, f"{', '.join(stale)}: {REMEDY}"


def test_no_page_is_empty(pages: dict[str, str]) -> None:
    rows = {name: text.count("\n| `") + text.count("\n| GET |") for name, text in pages.items()}
    assert all(count > 0 for count in rows.values()), rows


@pytest.fixture
def changed(tmp_path: Path) -> Iterator[Path]:
    """A checkout of the source alone, to plant changes in."""
    for name in ("src/tenantry", "scripts/reference"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


CHANGES = [
    ("errors.md", "capabilities/tenants/errors.py", '"slug_taken"', '"slug_spent"'),
    ("settings.md", "foundation/settings.py", "slots: int = Field(default=8", "slots: int = Field(default=9"),
    ("settings.md", "foundation/settings.py", "Jobs that one worker runs at once.", "Jobs of one worker."),
    ("permissions.md", "capabilities/access/types.py", "workspace:read approval:read", "approval:read"),
    ("audit-actions.md", "capabilities/identity/service.py", '"key.revoked"', '"key.gone"'),
    ("audit-actions.md", "capabilities/tenants/service/tenants.py", '"suspended": "suspended"', '"suspended": "shut"'),
    ("metrics.md", "foundation/telemetry.py", "Refusals by layer and code.", "Refusals."),
    ("api.md", "interfaces/api/routes/platform.py", "needs=Permission.PLATFORM_ADMIN", "needs=Mark.AUTHENTICATED"),
    ("cli.md", "interfaces/cli/commands/audit.py", "a prefix:", "any part:"),
]


@pytest.mark.parametrize(("page", "module", "before", "after"), CHANGES)
def test_a_change_of_the_code_is_a_change_of_its_page(
    page: str, module: str, before: str, after: str, changed: Path, tmp_path: Path, pages: dict[str, str]
) -> None:
    path = changed / "src" / "tenantry" / module
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after).replace("import RouteRegistry", "import Mark, RouteRegistry"))
    done = generate(tmp_path / "made", checkout=changed)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / page).read_text() != pages[page]


def test_a_code_that_cannot_be_read_from_the_source_is_refused(changed: Path, tmp_path: Path) -> None:
    path = changed / "src" / "tenantry" / "capabilities" / "tenants" / "errors.py"
    path.write_text(path.read_text().replace('"slug_taken"', "slug.lower()"))
    done = generate(tmp_path / "made", checkout=changed)
    assert done.returncode != 0
    assert "the code of an error is a literal" in done.stderr
