"""The rules of the house that import contracts cannot say. Each is a function from a checkout to its offences.

Every rule has been seen red: `FAULTS` plants, in a checkout of its own, what it must find.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOURCE = Path("src/tenantry")

STOREYS = {"entrypoints", "interfaces", "capabilities", "engines", "foundation", "kit", "client"}
ROOMS = {
    "interfaces": {"api", "console", "mcp", "chat", "cli"},
    "engines": {
        "jail", "egress", "rules", "ratelimit", "fairqueue", "merkle", "envelope", "durable", "terraform",
    },
}  # fmt: skip
FACE = {"service", "types", "errors"}
NAMELESS = re.compile(r"(util|common|helper|misc|manager|handler|process|info|data)(s|es)?")
MAX_LINES = {"src": 400, "tests": 600}
MAX_FUNCTION_LINES = 50
# Operations on whole tenants are the installation's own: a suspended tenant is moved, exported and erased all the same.
WITHOUT_STOPPER = {"tenants"}
STAR = re.compile(r"\b(?:select|returning)\s+(?:distinct\s+)?(?:\w+\.)?\*", re.IGNORECASE)
NOQA = re.compile(
    r"#\s*noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?(?P<reason>\s*(?:-|#)\s*\w.*)?", re.IGNORECASE
)


def python_files(checkout: Path, *roots: str) -> Iterator[tuple[Path, str]]:
    """Each file with its text; its path is relative to the checkout."""
    for root in roots or ("src",):
        for path in sorted((checkout / root).rglob("*.py")):
            yield path.relative_to(checkout), path.read_text()


def module_parts(path: Path) -> tuple[str, ...]:
    """Below `tenantry`: ("capabilities", "access", "types") for that file, without a last `__init__`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_modules(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def seven_names(checkout: Path) -> list[str]:
    """Every file lies in one of the seven storeys, and in interfaces and engines in a room the layout names."""
    offences = []
    for path, _ in python_files(checkout):
        if path.parts[:2] != SOURCE.parts:
            offences.append(f"{path}: outside of {SOURCE}")
            continue
        storey, room, *_ = (*module_parts(path), "", "")
        known = ROOMS.get(storey)
        if storey and storey not in STOREYS:
            offences.append(f"{path}: {storey} is no storey")
        elif known and room and room not in known:
            offences.append(f"{path}: {storey} has no room {room}")
    return offences


def telling_names(checkout: Path) -> list[str]:
    """A module is named by its noun: no utils, common, helpers, misc, manager, handler, data, info, process."""
    return [
        f"{path}: {part} says nothing"
        for path, _ in python_files(checkout)
        for part in path.with_suffix("").parts[2:]
        if NAMELESS.fullmatch(part) or NAMELESS.fullmatch(part.rpartition("_")[2])
    ]


def faces_only(checkout: Path) -> list[str]:
    """A capability imports only `service`, `types`, `errors` of another."""
    offences = []
    for path, text in python_files(checkout):
        own = module_parts(path)
        if own[:1] != ("capabilities",) or len(own) < 2:
            continue
        for name in imported_modules(ast.parse(text)):
            match name.split("."):
                case ["tenantry", "capabilities", other, inside, *_] if other != own[1] and inside not in FACE:
                    offences.append(f"{path}: {name}")
    return offences


def bare_packages(checkout: Path) -> list[str]:
    """A capability's `__init__` is its docstring: what it is for, its tables, its invariants."""
    offences = []
    for path, text in python_files(checkout):
        if path.name == "__init__.py" and module_parts(path)[:1] == ("capabilities",) and len(module_parts(path)) == 2:
            tree = ast.parse(text)
            if ast.get_docstring(tree) is None or len(tree.body) != 1:
                offences.append(f"{path}: must be a docstring and nothing else")
    return offences


def described_engines(checkout: Path) -> list[str]:
    """An engine is generic and could leave the house, so it has a README of its own."""
    engines = checkout / SOURCE / "engines"
    rooms = {path.parent for path in engines.glob("*/*.py")}
    return [
        f"{room.relative_to(checkout)}: no README.md" for room in sorted(rooms) if not (room / "README.md").is_file()
    ]


def short_files(checkout: Path) -> list[str]:
    """A file has at most 400 lines, a test file 600."""
    return [
        f"{path}: {lines} lines"
        for path, text in python_files(checkout, *MAX_LINES)
        if (lines := len(text.splitlines())) > MAX_LINES[path.parts[0]]
    ]


def short_functions(checkout: Path) -> list[str]:
    """A function has at most 50 lines."""
    return [
        f"{path}:{node.lineno}: {node.name} has {length} lines"
        for path, text in python_files(checkout)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def named_columns(checkout: Path) -> list[str]:
    """Columns are named in queries, never `*`: a new column must not reach a caller by itself."""
    return [
        f"{path}:{node.lineno}: {found[0]}"
        for path, text in python_files(checkout)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := STAR.search(node.value))
    ]


def reasoned_suppressions(checkout: Path) -> list[str]:
    """Every finding that is switched off says why: `# noqa: CODE - reason`, and a comment at each ignore of ruff's."""
    offences = [
        f"{path}:{token.start[0]}: {found[0]}"
        for path, text in python_files(checkout, "src", "tests", "bench")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and (found := NOQA.search(token.string))
        if not (found["codes"] and found["reason"])
    ]
    lists = re.compile(r"^\[tool\.ruff\.lint(?:\.per-file-ignores)?\]$")
    inside, before = False, ""
    for number, line in enumerate((checkout / "pyproject.toml").read_text().splitlines(), 1):
        if line.startswith("["):
            inside = lists.match(line) is not None
        names_codes = re.search(r'"[A-Z]+[0-9]*"\s*[,\]]', line) and "select" not in line
        if inside and names_codes and "# " not in line and not before.lstrip().startswith("#"):
            offences.append(f"pyproject.toml:{number}: {line.strip()}")
        before = line
    return offences


def stopped_with_the_tenant(checkout: Path) -> list[str]:
    """A capability that runs things registers a stopper in `Parts.stoppers`, so that a suspension reaches them."""
    runtime = checkout / SOURCE / "entrypoints" / "runtime.py"
    tree = ast.parse(runtime.read_text() if runtime.is_file() else "")
    registered = {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "stoppers"
        for found in ast.walk(node)
        if isinstance(found, ast.Dict)
        for key in found.keys
        if isinstance(key, ast.Constant)
    }
    return [
        f"{path}: {own[1]} runs things and registers no stopper"
        for path, text in python_files(checkout)
        if len(own := module_parts(path)) > 1 and own[0] == "capabilities" and own[1] not in WITHOUT_STOPPER
        if re.search(r"^    (RUNNING|ACTIVE_SESSION|APPLYING) = ", text, re.MULTILINE) and own[1] not in registered
    ]


def cancellable_waits(checkout: Path) -> list[str]:
    """Waits are bounded by `asyncio.timeout`: `wait_for` of Python 3.11 loses a cancellation that meets its result."""
    return [
        f"{path}:{node.lineno}: asyncio.wait_for"
        for path, text in python_files(checkout)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
    ]


Rule = Callable[[Path], list[str]]

RULES: list[Rule] = [
    seven_names, telling_names, faces_only, bare_packages, described_engines,
    short_files, short_functions, named_columns, reasoned_suppressions, stopped_with_the_tenant,
    cancellable_waits,
]  # fmt: skip
LONG = "".join(f"    n = {n}\n" for n in range(50))
FAULTS: list[tuple[Rule, str, str]] = [
    (seven_names, "src/tenantry/shared/clock.py", ""),
    (seven_names, "src/tenantry/settings.py", ""),
    (seven_names, "src/other/clock.py", ""),
    (seven_names, "src/tenantry/interfaces/soap/app.py", ""),
    (seven_names, "src/tenantry/engines/tenants/rules.py", ""),
    (telling_names, "src/tenantry/kit/utils.py", ""),
    (telling_names, "src/tenantry/kit/text_helpers.py", ""),
    (telling_names, "src/tenantry/engines/jail/data/images.py", ""),
    (faces_only, "src/tenantry/capabilities/access/service.py", "from tenantry.capabilities.audit import repository\n"),
    (faces_only, "src/tenantry/capabilities/access/types.py", "import tenantry.capabilities.tenants.models\n"),
    (
        faces_only,
        "src/tenantry/capabilities/access/tasks.py",
        "from tenantry.capabilities.audit.models import events\n",
    ),
    (bare_packages, "src/tenantry/capabilities/access/__init__.py", '"""Roles."""\n\nfrom . import service\n'),
    (bare_packages, "src/tenantry/capabilities/access/__init__.py", ""),
    (described_engines, "src/tenantry/engines/jail/__init__.py", ""),
    (short_files, "src/tenantry/kit/long.py", "\n" * 401),
    (short_files, "tests/unit/test_long.py", "\n" * 601),
    (short_functions, "src/tenantry/kit/long.py", f"def long() -> None:\n{LONG}"),
    (short_functions, "src/tenantry/kit/long.py", f"class Long:\n  async def long(self) -> None:\n{LONG}"),
    (named_columns, "src/tenantry/capabilities/audit/repository.py", 'QUERY = "SELECT * FROM events"\n'),
    (named_columns, "src/tenantry/capabilities/audit/repository.py", 'QUERY = """\nselect e.*\nfrom events e"""\n'),
    (named_columns, "src/tenantry/engines/fairqueue/statements.py", 'QUERY = f"INSERT INTO {t} RETURNING *"\n'),
    (
        stopped_with_the_tenant,
        "src/tenantry/capabilities/workflows/types.py",
        'class RunStatus(StrEnum):\n    RUNNING = "running"\n',
    ),
    (stopped_with_the_tenant, "src/tenantry/capabilities/chat/types.py", 'class State(StrEnum):\n    RUNNING = "r"\n'),
    (cancellable_waits, "src/tenantry/entrypoints/loop.py", "import asyncio\nasyncio.wait_for(x, 1)\n"),
    (reasoned_suppressions, "src/tenantry/kit/quiet.py", "x = 1  # noqa: S108\n"),
    (reasoned_suppressions, "tests/unit/test_quiet.py", "x = 1  # noqa\n"),
    (reasoned_suppressions, "pyproject.toml", '[tool.ruff.lint]\nignore = [\n  "S101",\n]\n'),
    (reasoned_suppressions, "pyproject.toml", '[tool.ruff.lint.per-file-ignores]\n"bench/**" = ["S101"]\n'),
]
SOUND = {
    "pyproject.toml": '[tool.ruff.lint]\nselect = ["ALL"]\nignore = [\n  "S101",  # tests assert\n]\n',
    "src/tenantry/__init__.py": "",
    "src/tenantry/capabilities/__init__.py": "",
    "src/tenantry/capabilities/access/__init__.py": '"""Who may do what."""\n',
    "src/tenantry/capabilities/sandboxes/types.py": 'class JobStatus(StrEnum):\n    RUNNING = "running"\n',
    "src/tenantry/entrypoints/runtime.py": 'def stoppers(self):\n    return {"sandboxes": 1}\n',
    "src/tenantry/capabilities/access/service.py": "from tenantry.capabilities.audit import service, types\n",
    "src/tenantry/capabilities/access/repository.py": 'QUERY = "SELECT count(*), a * b FROM grants"\n',
    "src/tenantry/engines/merkle/__init__.py": "",
    "src/tenantry/engines/merkle/README.md": "",
    "src/tenantry/foundation/database/session.py": "x = 1  # noqa: S108 - a reason\n",
    "tests/unit/test_long.py": "\n" * 600,
}


def plant(checkout: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    offences = rule(CHECKOUT)
    assert not offences, "\n".join([str(rule.__doc__), *offences])


@pytest.mark.parametrize(("rule", "name", "text"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_found(rule: Rule, name: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, SOUND)
    assert [offence for other in RULES for offence in other(tmp_path)] == []
    plant(tmp_path, {name: text})
    assert any(name.removesuffix("/__init__.py") in offence for offence in rule(tmp_path))


def test_every_rule_has_been_seen_red() -> None:
    assert {rule for rule, _, _ in FAULTS} == set(RULES)
