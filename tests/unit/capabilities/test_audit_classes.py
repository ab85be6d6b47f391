"""Each field of an event has a class that somebody has chosen; without one it is taken to be about persons."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tenantry
from tenantry.capabilities.audit.types.classes import (
    CLASSES,
    OF_NOUNS,
    DataClass,
    FreeText,
    class_of,
    class_of_reason,
)
from tenantry.capabilities.audit.types.words import SEARCHED_DETAILS

SOURCE = Path(tenantry.__file__).parent
RECORDERS = {"record", "_record", "note", "read", "tell_once"}
NOT_DETAILS = {"capabilities/sandboxes/service/transient.py", "capabilities/audit/types/privacy.py"}


def members_in(node: ast.AST) -> Iterator[str]:
    """Give the names of members that a dictionary written down there has."""
    for each in ast.walk(node):
        if isinstance(each, ast.Dict):
            yield from (key.value for key in each.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def recorded_in(function: ast.AST) -> list[ast.AST]:
    """List what a function hands to whatever records."""
    found: list[ast.AST] = []
    for call in ast.walk(function):
        if isinstance(call, ast.Call):
            found += [each.value for each in call.keywords if each.arg == "details"]
            if getattr(call.func, "attr", getattr(call.func, "id", "")) in RECORDERS:
                found += call.args[1:]  # the first is the action, or the scope
    return found


def assigned_in(function: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    for each in ast.walk(function):
        if isinstance(each, ast.Assign):
            yield from ((target, each.value) for target in each.targets)
        elif isinstance(each, ast.AnnAssign) and each.value is not None:
            yield each.target, each.value


def members_of(function: ast.AST) -> Iterator[str]:
    """Give members that are written down at the call, or of what is called there by its name."""
    told = recorded_in(function)
    names = {each.id for one in told for each in ast.walk(one) if isinstance(each, ast.Name)}
    for one in told:
        yield from members_in(one)
    for target, value in assigned_in(function):
        if isinstance(target, ast.Name) and target.id in names:
            yield from members_in(value)
        match target:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(member))) if name in names:
                yield member


def written() -> dict[str, str]:
    """Give each member of details that the code writes, with one file that does."""
    found: dict[str, str] = {}
    for file in SOURCE.rglob("*.py"):
        name = file.relative_to(SOURCE).as_posix()
        if name in NOT_DETAILS or "migrations" in name:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= dict.fromkeys(members_of(node), name)
    return found


def test_every_member_that_the_code_writes_has_a_class_that_somebody_has_chosen() -> None:
    found = written()
    assert len(found) > 80, "the look itself has gone blind"
    assert {name: file for name, file in found.items() if name not in CLASSES} == {}


def test_what_nobody_has_listed_is_about_persons() -> None:
    assert class_of("note.made", "shoe_size") is DataClass.PERSONAL


@pytest.mark.parametrize(
    ("noun", "member", "of"),
    [
        ("workspace", "path", DataClass.PUBLIC),
        ("sandbox", "path", DataClass.CONTENT),
        ("sandbox", "program", DataClass.CONTENT),
        ("environment", "description", DataClass.CONTENT),
        ("environment", "changed", DataClass.PUBLIC),
        ("job", "remedy", DataClass.CONTENT),
        ("exemption", "owner", DataClass.PERSONAL),
    ],
)
def test_a_member_means_what_its_noun_makes_of_it(noun: str, member: str, of: DataClass) -> None:
    assert class_of(f"{noun}.changed", member) is of


@pytest.mark.parametrize("code", ["permission_missing", "time_over", "revoked", "a.b:c-1"])
def test_a_code_is_public_and_the_same_word_written_by_somebody_is_not(code: str) -> None:
    assert class_of_reason(code) is DataClass.PUBLIC
    assert class_of_reason(FreeText(code)) is DataClass.CONTENT


@pytest.mark.parametrize("text", ["two words", "Ada", "", "INC-4711", "x" * 65, "line\n"])
def test_what_is_no_code_is_content(text: str) -> None:
    assert class_of_reason(text) is DataClass.CONTENT


def test_only_public_members_are_searched() -> None:
    assert {CLASSES[name] for name in SEARCHED_DETAILS} == {DataClass.PUBLIC}
    assert not {member for _, member in OF_NOUNS} & set(SEARCHED_DETAILS)
