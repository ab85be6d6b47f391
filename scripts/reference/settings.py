import ast
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from scripts.reference.markdown import code, page, table
from scripts.reference.sources import attribute_docstrings, modules

from tenantry.foundation.settings import Settings

_INTRODUCTION = """
From the environment, else from `tenantry.toml` in the home, else the default. `jobs.slots` is the table `[jobs]` with
`slots = 8` in the file, `TENANTRY_JOBS__SLOTS=8` in the environment. All faults are told at once, each with its key.
A setting that holds a password has no default and is never shown.
"""
_OTHERS = """
Read directly, by the command line and the SDK (which know no more of the server than its address) or before there are
settings:
"""
_VARIABLE = re.compile(r"TENANTRY_[A-Z_]*[A-Z]")
_WORDS = {
    " | None": "",
    "SecretStr": "secret text",
    "Path": "path",
    "tuple[str, ...]": "list of text",
    "str": "text",
    "int": "whole number",
    "float": "number",
}


def render() -> str:
    told = {
        place: text
        for name, tree in modules()
        if name.startswith("foundation/") and name.endswith("settings")
        for place, text in attribute_docstrings(tree).items()
    }
    rows = [
        [code(key), code(_variable(key)), _type(field), _default(field), told.get((holder, name), "")]
        for holder, name, key, field in _fields(Settings, "")
    ]
    known = {_variable(key) for _, _, key, _ in _fields(Settings, "")} - {"TENANTRY_HOME"}
    places: dict[str, set[str]] = {}
    for module, name in _named_variables():
        if name not in known:
            places.setdefault(name, set()).add(code(f"{module}.py"))
    others = [[code(name), ", ".join(sorted(found))] for name, found in sorted(places.items())]
    return page(
        "Settings",
        _INTRODUCTION,
        table(["Key", "Environment", "Type", "Default", "Meaning"], rows),
        "## Other variables",
        _OTHERS,
        table(["Variable", "Read in"], others),
    )


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, FieldInfo]]:
    """Each leaf: class that has it, name, key, field."""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        keyed = "<name>." if "dict" in str(field.annotation) else ""
        if inner is not None:
            yield from _fields(inner, f"{prefix}{name}.{keyed}")
        else:
            yield model.__name__, name, f"{prefix}{name}", field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _variable(key: str) -> str:
    return "TENANTRY_" + key.upper().replace(".", "__")


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    plain = isinstance(annotation, type) and not get_args(annotation)
    text = annotation.__name__ if plain else re.sub(r"(\w+\.)+", "", str(annotation))
    for python, word in _WORDS.items():
        text = text.replace(python, word)
    rules = [_rule(item) for item in field.metadata]
    return ", ".join([text, *(rule for rule in rules if rule)])


def _rule(item: object) -> str:
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if (bound := getattr(item, name, None)) is not None:
            return f"{sign} {bound}"
    pattern = getattr(item, "pattern", None)
    return f"matches `{pattern}`" if pattern else ""


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`/var/lib/tenantry` as root, else `~/.tenantry`"
    match field.default:
        case value if value is PydanticUndefined:
            return "required"
        case None:
            return "none"
        case "" | ():
            return "empty"
        case value:
            return code(str(value))


def _named_variables() -> Iterator[tuple[str, str]]:
    for module, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value):
                yield module, node.value
