"""What README, tutorial and how-to pages say can be run is run, as it stands; links and commands in them exist."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Installation, MakeTenant, Tenant

pytestmark = pytest.mark.xdist_group("pages")

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    CHECKOUT / "README.md",
    *sorted(CHECKOUT.glob("docs/tutorial/*.md")),
    *sorted(CHECKOUT.glob("docs/how-to/*.md")),
]
AS_OWNER = [
    *("run-jobs", "keys-and-roles", "rotate-keys", "images", "workspaces"),
    *("targets-and-labels", "meter-usage", "policies", "secrets", "phases", "keep-audit-checkpoints"),
    *("stream-the-audit-log", "erase-old-audit-events"),
]
AS_PLATFORM = ["suspend-and-restore", "declare-tenants", "move-a-tenant", "offboard-a-tenant"]
# Setting up is the business of who runs the tests, and the server is the fixture's.
NOT_HERE = re.compile(r"^(make |tenantry (up|down)\b).*\n", re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """Take the blocks fenced as `sh`: these are to be run."""
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def run(
    page: Path, installation: Installation, folder: Path, *, tenant: Tenant | None = None, **environment: str
) -> str:
    """Run a page's blocks in one shell that ends at the first failure; gives what they said."""
    script = NOT_HERE.sub("", "".join(blocks(page))).replace("http://127.0.0.1:8000", installation.url)
    for name in ("acme", "globex", "initech"):
        script = re.sub(rf"\b{name}\b", tenant.slug if tenant else f"{name}-{secrets.token_hex(3)}", script)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    variables = {
        "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "TENANTRY_HOME": str(installation.home),
        **environment,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory that is not the checkout."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_the_readmes_first_job_runs_as_written(installation: Installation, folder: Path) -> None:
    said = run(CHECKOUT / "README.md", installation, folder)
    assert "hello from a sandbox, as uid 1000" in said
    assert "job.created" in said


def test_the_first_hour_runs_as_written(installation: Installation, folder: Path) -> None:
    said = run(CHECKOUT / "docs/tutorial/first-hour.md", installation, folder)
    for fact in ("apple\nfig\npear", "exit code 124", '"exit_code":0', "credential_malformed", "region.blocked"):
        assert fact in said, fact


@pytest.mark.parametrize("name", AS_OWNER)
def test_a_tenants_how_to_runs_as_written(
    name: str, installation: Installation, make_tenant: MakeTenant, folder: Path
) -> None:
    tenant = make_tenant()
    tenant.workspace("research")
    page = CHECKOUT / f"docs/how-to/{name}.md"
    run(
        page,
        installation,
        folder,
        tenant=tenant,
        TENANTRY_KEY=tenant.bootstrap_key,
        TENANTRY_WORKSPACE="research",
    )


@pytest.mark.parametrize("name", AS_PLATFORM)
def test_the_platforms_how_to_runs_as_written(
    name: str, installation: Installation, make_tenant: MakeTenant, folder: Path
) -> None:
    tenant = make_tenant()
    tenant.workspace("research")
    page = CHECKOUT / f"docs/how-to/{name}.md"
    run(page, installation, folder, tenant=tenant, OWNER_KEY=tenant.bootstrap_key)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if heading:
            slugs = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
                     for line in file.read_text().splitlines() if line.startswith("#")}  # fmt: skip
            assert heading in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_named_exists(page: Path) -> None:
    reference = (CHECKOUT / "docs/reference/cli.md").read_text()
    commands = set(re.findall(r"^#+ `(tenantry [^`]+)`", reference, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    shown = [*blocks(page), *re.findall(r"`([^`\n]+)`", text), *re.findall(r"^    (.*)$", text, re.MULTILINE)]
    for line in "\n".join(shown).splitlines():
        for first, second in re.findall(
            r"(?<![\w/.-])tenantry ([a-z]+(?:-[a-z]+)*)(?: ([a-z]+(?:-[a-z]+)*))?(?![\w.])", line
        ):
            name = f"tenantry {first}"
            inside = {command for command in commands if command.startswith(f"{name} ")}
            assert name in commands, line
            assert not inside or not second or f"{name} {second}" in inside, line
        for target in re.findall(r"^make ([a-z]+)", line):
            assert target in targets, line
