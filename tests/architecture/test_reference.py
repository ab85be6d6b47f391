"""docs/reference says what the code says: it is generated, and generated again here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("reference")  # generating takes seconds: once is enough

CHECKOUT = Path(__file__).parents[2]
COMMITTED = CHECKOUT / "docs" / "reference"
REMEDY = "run `make docs`, read what changed, and commit it"
# What is planted, all at once: module, what it says, what it then says, and what the page must show of it.
CHANGES = [
    ("errors.md", "capabilities/tenants/errors.py", '"slug_taken"', '"slug_spent"', "`slug_spent`"),
    (
        "settings.md",
        "foundation/settings.py",
        "int = Field(default=8,",
        "int = Field(default=9,",
        "`TENANTRY_JOBS__SLOTS`",
    ),
    ("settings.md", "foundation/settings.py", "Jobs that one worker runs at once.", "Jobs of one.", "Jobs of one."),
    (
        "permissions.md",
        "capabilities/access/types/permissions.py",
        "approval:decide run:read",
        "run:read",
        "`approval:decide`",
    ),
    ("audit-actions.md", "capabilities/identity/service/keys.py", '"key.revoked"', '"key.gone"', "`key.gone`"),
    ("audit-actions.md", "capabilities/tenants/service/tenants.py", ': "suspended"', ': "shut"', "`tenant.shut`"),
    ("metrics.md", "foundation/telemetry.py", "Refusals by layer and code.", "All refusals.", "All refusals."),
    ("api.md", "interfaces/api/routes/platform.py", '"/platform/plans"', '"/platform/offers"', "`/platform/offers`"),
    ("cli.md", "interfaces/cli/commands/audit.py", "a prefix:", "a first part:", "a first part:"),
]


def generate(into: Path, *, checkout: Path = CHECKOUT) -> "subprocess.CompletedProcess[str]":
    """Write the pages of a checkout as it is now."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-m", "scripts.reference", str(into)]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def written(folder: Path, *, checkout: Path = CHECKOUT) -> dict[str, str]:
    done = generate(folder, checkout=checkout)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


def copy_sources(to: Path) -> Path:
    """Make a checkout of what the pages come from, to plant changes in."""
    for name in ("src/tenantry", "scripts/reference"):
        shutil.copytree(CHECKOUT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    return to


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return written(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def changed_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    checkout = copy_sources(tmp_path_factory.mktemp("changed"))
    for _, module, before, after, _ in CHANGES:
        path = checkout / "src" / "tenantry" / module
        text = path.read_text()
        assert before in text, f"{module} no longer says {before}: choose something else to change"
        path.write_text(text.replace(before, after))
    return written(checkout / "made", checkout=checkout)


def test_the_committed_pages_are_what_the_code_says(pages: dict[str, str]) -> None:
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*.md")}
    assert sorted(committed) == sorted(pages), REMEDY
    stale = [name for name, text in pages.items() if committed[name] != text]
    assert not stale, f"{', '.join(stale)}: {REMEDY}"


@pytest.mark.parametrize(("page", "module", "before", "after", "shown"), CHANGES)
def test_a_change_of_the_code_changes_its_page(
    page: str,
    module: str,
    before: str,
    after: str,
    shown: str,
    pages: dict[str, str],
    changed_pages: dict[str, str],
) -> None:
    def lines(text: str) -> set[str]:
        return {line for line in text.splitlines() if shown in line}

    assert lines(changed_pages[page]), f"{module}: {after}"
    assert lines(changed_pages[page]) != lines(pages[page]), f"{module}: {before}"


def test_a_code_that_cannot_be_read_from_the_source_is_refused(tmp_path: Path) -> None:
    path = copy_sources(tmp_path) / "src" / "tenantry" / "capabilities" / "tenants" / "errors.py"
    path.write_text(path.read_text().replace('"slug_taken"', "slug.lower()"))
    done = generate(tmp_path / "made", checkout=tmp_path)
    assert done.returncode != 0
    assert "the code of an error is a literal" in done.stderr
