"""The source as syntax trees, and the texts that literals in it stand for."""

import ast
from functools import cache
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[2] / "src" / "tenantry"


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Every module by its path below `tenantry`, without `.py`, in order."""
    found = [(path.relative_to(SOURCE).with_suffix("").as_posix(), path) for path in SOURCE.rglob("*.py")]
    return tuple((name, ast.parse(path.read_text(encoding="utf-8"))) for name, path in sorted(found))


@cache
def calls(tree: ast.AST) -> tuple[ast.Call, ...]:
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(function: ast.expr) -> str:
    """Tell the last name of what is called: `repository.insert` is `insert`."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def text_of(node: ast.AST | None) -> str | None:
    """Read a literal's text, `…` where it is filled in; None when it is no literal."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) or "…" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right) if (first := text_of(left)) is not None:
            return first + (text_of(right) or "…")
    return None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == name), None)


def attribute_docstrings(tree: ast.AST) -> dict[tuple[str, str], str]:
    """(class, field) to the string that stands below the field."""
    found = {}
    for holder in ast.walk(tree):
        if not isinstance(holder, ast.ClassDef):
            continue
        for field, below in zip(holder.body, holder.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[holder.name, name] = text
    return found
